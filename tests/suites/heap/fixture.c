/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "test_heap.h"

struct pkeyguard_key *key_of_kind(int kind)
{
    static const unsigned flags[] = {
        [PLAIN] = 0, [SOFTWARE] = PKEYGUARD_KEY_SOFTWARE, [OPTIONAL] = PKEYGUARD_KEY_OPTIONAL};

    return kind == PRIVATE ? NULL : new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
}

struct pkeyguard_heap *new_heap(struct pkeyguard_key *key, size_t capacity)
{
    struct pkeyguard_heap *heap = NULL;

    expect(pkeyguard_heap_create(key, capacity, 0, &heap) == 0);
    expect(heap != NULL);
    return heap;
}

void destroy_heap(struct pkeyguard_heap *heap, struct pkeyguard_key *key)
{
    expect(pkeyguard_heap_destroy(heap) == 0);
    expect(pkeyguard_key_destroy(key) == 0);
}

void *new_object(struct pkeyguard_heap *heap, size_t size)
{
    void *object = pkeyguard_heap_alloc(heap, size);

    expect(object != NULL);
    return object;
}

char *heap_start(const struct pkeyguard_heap *heap)
{
    return address_of(pkeyguard_heap_region(heap));
}

void fill_object(struct pkeyguard_heap *heap, void *object, int value)
{
    size_t usable = pkeyguard_heap_usable_size(heap, object);

    expect(usable > 0);
    pkeyguard_scoped_write_at (char, bytes, pkeyguard_heap_region(heap), object)
        memset(bytes, value, usable);
}

void assert_bytes(struct pkeyguard_heap *heap, const void *memory, size_t size, int value)
{
    size_t differ = 0;

    pkeyguard_scoped_read_at (char, bytes, pkeyguard_heap_region(heap), memory) {
        for (size_t i = 0; i < size; i++)
            differ += bytes[i] != (char)value;
    }
    expect(differ == 0);
}

void assert_pointer_refused(struct pkeyguard_heap *heap, void *address)
{
    expect(pkeyguard_heap_free(heap, address) == -EINVAL);
    errno = 0;
    expect(pkeyguard_heap_realloc(heap, address, 1) == NULL);
    expect(errno == EINVAL);
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, address) == 0);
    expect(errno == EINVAL);
}

bool guard_pages_inside(void)
{
    return test_platform()->guard_madvise;
}

uint64_t random_state;

uint32_t random_number(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

#ifdef __x86_64__
#define HAS_TRAP_FLAG 1
static const unsigned long long trap_flag = 0x100;

static void step_on(void)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap_flag);
}

static void step_off(void)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~trap_flag);
}
#else
#define HAS_TRAP_FLAG 0
static void step_on(void)
{
}

static void step_off(void)
{
}
#endif

bool can_step_here(void)
{
    return HAS_TRAP_FLAG && !under_tool(NULL);
}

void catch_steps(void (*on_step)(int signal))
{
    struct sigaction action = {.sa_handler = on_step};

    expect(sigaction(SIGTRAP, &action, NULL) == 0);
}

void step_through_alloc_and_free(struct pkeyguard_heap *heap, size_t size)
{
    void *object;

    step_on();
    object = pkeyguard_heap_alloc(heap, size);
    (void)pkeyguard_heap_free(heap, object);
    step_off();
}
