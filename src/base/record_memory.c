/* SPDX-License-Identifier: MIT */
#include "base/record_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard/pkru.h>

#include "base/os.h"
#include "base/process.h"

enum { ALIGNMENT = 64, FIRST_SIZE = 1 << 18 };

struct record_memory record_memory;
_Static_assert(sizeof(record_memory) % RECORD_PAGE == 0, "whole pages");

/* ---- the pkey of the writable mapping ---- */

static uint32_t bits_of(int pkey)
{
    return UINT32_C(3) << 2 * pkey;
}

static void open_pkey(int pkey)
{
    uint64_t zero;

    (void)pkeyguard_pkru_clear_bits(bits_of(pkey), &zero);
}

void record_memory_open_protected(void)
{
    open_pkey(record_memory.pkey);
}

void record_memory_close_protected(void)
{
    pkeyguard_pkru_set_bits(bits_of(record_memory.pkey));
}

/* ---- two mappings ---- */

/* Where memory is mapped twice. */
struct twice {
    void *read_only, *writable;
};

static void unmap_both(const struct twice *twice, size_t size)
{
    os_free_pages(twice->read_only, size);
    os_free_pages(twice->writable, size);
}

/* The second mapping has the page rights of the first, and is not copied by a fork either. */
static int map_read_only(const struct twice *at, size_t size, struct twice *ret_twice)
{
    int error = os_unmap_on_fork(ret_twice->writable, size);

    if (error == 0)
        error = os_protect(ret_twice->writable, size, PROT_READ);
    return error == 0
               ? os_map_again(ret_twice->writable, size, at->read_only, &ret_twice->read_only)
               : error;
}

/*
 * Maps zeroed memory twice, and gives the writable mapping the pkey. On failure nothing is left.
 * @at: where; NULL: anywhere.
 */
static int map_twice(size_t size, int pkey, const struct twice *at, struct twice *ret_twice)
{
    struct twice twice = *at;
    int error = at->writable != NULL ? os_map_shared_at(at->writable, size)
                                     : os_allocate_shared_pages(size, &twice.writable);

    if (error != 0)
        return error;
    error = map_read_only(at, size, &twice);
    if (error != 0) {
        os_free_pages(twice.writable, size);
        return error;
    }
    error = os_protect_with_pkey(twice.writable, size, PROT_READ | PROT_WRITE, pkey);
    if (error != 0)
        unmap_both(&twice, size);
    else
        *ret_twice = twice;
    return error;
}

static const struct twice anywhere;

/* A thread that reads there meanwhile waits in its page fault until the new mapping is there. */
static void replace(const struct record_segment *segment, const struct twice *twice)
{
    if (os_move_pages(twice->read_only, segment->size, (void *)segment->start) != 0)
        os_abort("the library's records cannot be protected", NULL);
}

/* ---- segments ---- */

/* The bytes from the start that may not be zero. */
static size_t used_size(const struct record_memory *memory, const struct record_segment *segment)
{
    bool is_last = segment->start + segment->size == memory->last_end;

    return is_last ? memory->free - segment->start : segment->size;
}

static uintptr_t distance(const void *from, const void *to)
{
    return (uintptr_t)to - (uintptr_t)from;
}

static void append_segment(const struct twice *twice, size_t size)
{
    struct record_memory *memory = to_write(&record_memory);

    memory->segments[memory->count] = (struct record_segment){
        (uintptr_t)twice->read_only, size, distance(twice->read_only, twice->writable)};
    memory->count++;
}

/* Ordinary memory has one mapping, which is both. */
static int map_new(size_t size, struct twice *ret_twice)
{
    int error;

    if (record_memory.is_protected)
        return map_twice(size, record_memory.pkey, &anywhere, ret_twice);
    error = os_allocate_pages(size, &ret_twice->writable);
    if (error == 0)
        ret_twice->read_only = ret_twice->writable;
    return error;
}

static int allocate_segment(size_t size)
{
    struct record_memory *memory = to_write(&record_memory);
    struct twice twice;
    int error;

    if (memory->count == MOST_SEGMENTS)
        return -ENOMEM;
    error = map_new(size, &twice);
    if (error != 0)
        return error;
    append_segment(&twice, size);
    memory->last_size = size;
    memory->free = (uintptr_t)twice.read_only;
    memory->last_end = memory->free + size;
    return 0;
}

int record_memory_take(size_t size, void **ret_memory)
{
    size_t next = record_memory.last_size == 0 ? FIRST_SIZE : 2 * record_memory.last_size;

    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    while (next < size)
        next *= 2;
    if (record_memory.last_end - record_memory.free < size) {
        int error = allocate_segment(next);

        if (error != 0)
            return error;
    }
    *ret_memory = (void *)record_memory.free;
    to_write(&record_memory)->free += size;
    return 0;
}

static bool is_segment(const void *start)
{
    for (size_t i = 0; i < record_memory.count; i++) {
        if (record_memory.segments[i].start == (uintptr_t)start)
            return true;
    }
    return false;
}

/* What has been written there so far moves into the new mappings. */
static int protect_static(void *start, size_t size)
{
    struct twice twice;
    int error = map_twice(size, record_memory.pkey, &anywhere, &twice);

    if (error != 0)
        return error;
    memcpy(twice.writable, start, size);
    append_segment(&(struct twice){start, twice.writable}, size);
    replace(&record_memory.segments[record_memory.count - 1], &twice);
    return 0;
}

int record_memory_add(void *start, size_t size)
{
    if (is_segment(start))
        return 0;
    if (record_memory.count == MOST_SEGMENTS)
        return -ENOMEM;
    if (record_memory.is_protected)
        return protect_static(start, size);
    append_segment(&(struct twice){start, start}, size);
    return 0;
}

/* The newest segments are the largest, and come first. */
void *record_memory_writable(const void *address)
{
    for (size_t i = record_memory.count; i-- > 0;) {
        const struct record_segment *segment = &record_memory.segments[i];

        if ((uintptr_t)address - segment->start < segment->size)
            return (void *)((uintptr_t)address + segment->to_writable);
    }
    return (void *)(uintptr_t)address;
}

bool record_memory_protects(const void *address)
{
    if (!record_memory.is_protected)
        return false;
    for (size_t i = 0; i < record_memory.count; i++) {
        const struct record_segment *segment = &record_memory.segments[i];
        uintptr_t offset = (uintptr_t)address - segment->start;

        if (offset < segment->size || offset - segment->to_writable < segment->size)
            return true;
    }
    return false;
}

/* ---- protecting ---- */

/*
 * What a fork needs of the records. It is in ordinary memory, because a child without records reads
 * it, and because fork copies it.
 */
static struct record_fork {
    unsigned process; /* the process that has protected records, as process_number(); 0: any */

    /* Under the library's lock. */
    unsigned forks; /* how many forks are between their first and their last handler */
    char *copy;     /* the used bytes of each segment, one after the other; NULL: none */
    size_t size;
} record_fork;

static int map_all_twice(size_t count, int pkey, struct twice *ret_twices)
{
    for (size_t i = 0; i < count; i++) {
        int error = map_twice(record_memory.segments[i].size, pkey, &anywhere, &ret_twices[i]);

        if (error != 0) {
            while (i-- > 0)
                unmap_both(&ret_twices[i], record_memory.segments[i].size);
            return error;
        }
    }
    return 0;
}

/* The records are still in ordinary memory, record_memory itself included. */
static void describe_protected(size_t count, int pkey, const struct twice *twices)
{
    for (size_t i = 0; i < count; i++) {
        struct record_segment *segment = &record_memory.segments[i];

        segment->to_writable = distance((void *)segment->start, twices[i].writable);
    }
    record_memory.pkey = pkey;
    record_memory.is_protected = true;
}

int record_memory_protect(int pkey)
{
    struct twice twices[MOST_SEGMENTS];
    int error = record_memory_add(&record_memory, sizeof(record_memory));
    size_t count = record_memory.count;

    if (error == 0)
        error = map_all_twice(count, pkey, twices);
    if (error != 0)
        return error;
    open_pkey(pkey);
    describe_protected(count, pkey, twices);
    record_fork.process = process_number();
    for (size_t i = 0; i < count; i++) {
        const struct record_segment *segment = &record_memory.segments[i];

        memcpy(twices[i].writable, (void *)segment->start, used_size(&record_memory, segment));
        replace(segment, &twices[i]);
    }
    return 0;
}

/* ---- fork ---- */

bool record_memory_is_here(void)
{
    return process_has(record_fork.process);
}

static size_t used_in_all(void)
{
    size_t size = 0;

    for (size_t i = 0; i < record_memory.count; i++)
        size += used_size(&record_memory, &record_memory.segments[i]);
    return size;
}

static void copy_all(char *copy)
{
    for (size_t i = 0; i < record_memory.count; i++) {
        const struct record_segment *segment = &record_memory.segments[i];
        size_t used = used_size(&record_memory, segment);

        memcpy(copy, (void *)segment->start, used);
        copy += used;
    }
}

/* Without memory for the copy the child gets no records. */
void record_memory_before_fork(void)
{
    void *copy;

    if (record_fork.process == 0 || record_fork.forks++ > 0)
        return;
    record_fork.size = sizeof(record_memory) + used_in_all();
    if (os_allocate_pages(record_fork.size, &copy) != 0)
        return;
    memcpy(copy, &record_memory, sizeof(record_memory));
    copy_all((char *)copy + sizeof(record_memory));
    record_fork.copy = copy;
}

static void drop_copy(void)
{
    if (--record_fork.forks > 0 || record_fork.copy == NULL)
        return;
    os_free_pages(record_fork.copy, record_fork.size);
    record_fork.copy = NULL;
}

void record_memory_after_fork_in_parent(void)
{
    if (record_fork.process != 0)
        drop_copy();
}

/* Gives the child a segment where the parent has it. */
static bool restore_segment(const struct record_segment *segment, const char *content, size_t used,
                            int pkey)
{
    struct twice twice = {(void *)segment->start, (void *)(segment->start + segment->to_writable)};

    if (map_twice(segment->size, pkey, &twice, &twice) != 0)
        return false;
    memcpy(twice.writable, content, used);
    return true;
}

static bool restore_all(const struct record_memory *copied)
{
    const char *content = (const char *)copied + sizeof(*copied);

    for (size_t i = 0; i < copied->count; i++) {
        const struct record_segment *segment = &copied->segments[i];
        size_t used = used_size(copied, segment);

        if (!restore_segment(segment, content, used, copied->pkey))
            return false;
        content += used;
    }
    return true;
}

/*
 * A fork in the handler of a signal that an instruction of the library raised finds the pkey
 * closed, as handlers do, and leaves it closed.
 */
bool record_memory_after_fork_in_child(void)
{
    const struct record_memory *copied = (const void *)record_fork.copy;
    uint32_t bits, closed;

    if (record_fork.process == 0)
        return true;
    if (record_fork.forks == 0)
        return false;
    if (copied != NULL) {
        bits = bits_of(copied->pkey);
        closed = pkeyguard_pkru_read() & bits;
        open_pkey(copied->pkey);
        if (restore_all(copied))
            record_fork.process = process_number();
        pkeyguard_pkru_set_bits(closed);
    }
    drop_copy();
    return true;
}
