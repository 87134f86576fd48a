/* SPDX-License-Identifier: MIT */
/* test_heap.h - helpers for the files of this suite */
#ifndef TEST_HEAP_H
#define TEST_HEAP_H

#include <errno.h>
#include <stdint.h>

#include "support.h"

/* The metadata of a heap of 1 MiB lies behind a guard page. */
enum { MIB = 1 << 20, METADATA_START = MIB + PAGE_BYTES };

/* ck_assert() for tests with millions of assertions: it would write each one to a file. */
#define expect(condition) \
    ((condition) ? (void)0 : ck_abort_msg("line %d: not so: %s", __LINE__, #condition))

/* The call returns NULL with ENOMEM. */
#define assert_out_of_room(call) \
    do {                         \
        errno = 0;               \
        expect(call == NULL);    \
        expect(errno == ENOMEM); \
    } while (0)

/* The kinds of key that a heap can have; PRIVATE is a heap without a key. For loop tests. */
enum kind { PLAIN, SOFTWARE, PRIVATE, ENFORCED_KINDS, OPTIONAL = ENFORCED_KINDS, KINDS };
struct pkeyguard_key *key_of_kind(int kind);

struct pkeyguard_heap *new_heap(struct pkeyguard_key *key, size_t capacity);
void destroy_heap(struct pkeyguard_heap *heap, struct pkeyguard_key *key);
void *new_object(struct pkeyguard_heap *heap, size_t size);

/* Sizes of each kind of object: small ones before the first large one. */
enum { SIZE_CLASSES = 9, SMALL_CLASSES = 6 };
extern const size_t size_of_each_class[SIZE_CLASSES];

/* The first byte that the heap can hand out. */
char *heap_start(const struct pkeyguard_heap *heap);

/* Sets each byte of the object that may be used. */
void fill_object(struct pkeyguard_heap *heap, void *object, int value);

/* Each of these bytes has this value. */
void assert_bytes(struct pkeyguard_heap *heap, const void *memory, size_t size, int value);

/* Free, realloc and usable_size refuse this pointer. */
void assert_pointer_refused(struct pkeyguard_heap *heap, void *address);

/* A heap's guard pages are inside its mapping, which then is the only one. */
bool guard_pages_inside(void);

/* Pseudo-random numbers, the same ones after the same state. */
extern uint64_t random_state;
uint32_t random_number(void);

/*
 * Allocates and frees one object of this size, with the trap flag set: the handler of
 * catch_steps() runs after each instruction.
 */
#define CANNOT_STEP "not here: no trap flag, or a tool that does not know it"
bool can_step_here(void);
void catch_steps(void (*on_step)(int signal));
void step_through_alloc_and_free(struct pkeyguard_heap *heap, size_t size);

/* The files of the suite. */
void add_access(Suite *suite);
void add_objects(Suite *suite);
void add_heaps(Suite *suite);
void add_failures(Suite *suite);
void add_metadata(Suite *suite);
void add_quarantine(Suite *suite);
void add_threads(Suite *suite);
void add_fork(Suite *suite);
void add_owners(Suite *suite);
void add_parts(Suite *suite);

#endif
