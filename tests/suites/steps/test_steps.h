/* SPDX-License-Identifier: MIT */
/* test_steps.h - what the files of this suite share: keys of each kind, and what is done with them
 */
#ifndef TEST_STEPS_H
#define TEST_STEPS_H

#include "support.h"
#include "worker.h"

/* More keys of the kind than there are pkeys, if they are virtual; else two. */
enum kind { SOFTWARE, DEDICATED, VIRTUAL, KINDS };
enum { KEYS = 7, PKEYS = 4 };
extern int key_count;
extern struct pkeyguard_key *keys[KEYS];
extern struct pkeyguard_region *regions[KEYS];
extern struct pkeyguard_heap *heap; /* of keys[0] */

/* A thread beside the test's own, which opens keys. */
extern struct worker neighbour;

/* Starts and ends a test with keys of this kind. */
void set_up_kind(enum kind kind);
void tear_down_kind(void);

/* What is stepped through: works with keys[0], and leaves it closed. It fails by not_as_expected.
 */
struct operation {
    const char *name;
    void (*prepare)(void *unused); /* or NULL; not stepped through */
    void (*run)(void *unused);
    bool is_for_handlers; /* each function of it is async-signal-safe */
    bool needs_virtual, is_of_heap;
};
extern const struct operation operations[];
enum { OPERATIONS = 8 };
void acquire_to_write(void *unused); /* the first of them: writes to regions[0] inside a guard */
extern volatile int not_as_expected; /* the line where something was not; 0: none */
#define EXPECT(condition)               \
    do {                                \
        if (!(condition))               \
            not_as_expected = __LINE__; \
    } while (0)

/* What is done once is done then: the loader's work, the first objects. */
void get_ready(const struct operation *operation);

/* Opens every key of the kind but keys[0]. */
void open_other_keys(void *unused);

/*
 * Takes the pkey of keys[0] away, where the thread that is stepped through does not pin it: pins
 * every pkey of the pool, which has all but one, by other keys.
 */
void evict_first_key(void *unused);

/*
 * Looks whether everything is as before: the first `count` keys are closed in this thread, each of
 * them opens and closes, and no thread pins a pkey. Returns 0, or a line of operations.c.
 */
int find_difference(int count);

/* eviction.c, nesting.c, unwinding.c */
void add_eviction_tests(Suite *suite);
void add_nesting_tests(Suite *suite);
void add_unwinding_tests(Suite *suite);

#endif
