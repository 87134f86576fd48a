/* SPDX-License-Identifier: MIT */
/*
 * The first use of each part of the library maps memory for its records, and asks the kernel what
 * it has. Each of these system calls fails once, in a process that has not used the library before:
 * the use fails or does without the call, and the next one works.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "test_failures.h"
#include "worker.h"

/* Each keeps what it makes, and returns 0 or what the library has returned. */

static int create_region(void)
{
    struct pkeyguard_region *made;

    return pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &made);
}

static int create_key(void)
{
    struct pkeyguard_key *made;

    return pkeyguard_key_create(PKEYGUARD_READ_ONLY, 0, &made);
}

static int create_software_key(void)
{
    struct pkeyguard_key *made;

    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE, &made);
}

static int open_virtual_key(void)
{
    struct pkeyguard_key *made;
    struct pkeyguard_guard guard;
    int error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &made);

    return error != 0 ? error : pkeyguard_key_acquire(made, PKEYGUARD_READ_WRITE, &guard);
}

static char *own_pages;

static void map_own_pages(void)
{
    own_pages = mmap(NULL, 2 * PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(own_pages != MAP_FAILED);
}

static int adopt(void)
{
    struct pkeyguard_region *made;
    int error = pkeyguard_region_adopt(NULL, own_pages, PAGE_BYTES, PAGE_RW, 0, &made);

    if (error == 0)
        own_pages += PAGE_BYTES;
    return error;
}

static int check_region(void)
{
    struct pkeyguard_region *made;
    int error = pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &made);

    return error != 0 ? error : pkeyguard_region_check(made, 0, NULL);
}

static int create_heap(void)
{
    struct pkeyguard_heap *made;

    return pkeyguard_heap_create(NULL, 1 << 16, 0, &made);
}

static int use_signal(void)
{
    return pkeyguard_thread_use_signal(SIGURG);
}

static int return_zero(void *unused)
{
    (void)unused;
    return 0;
}

static int try_call(void)
{
    int error = pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), result;
    struct pkeyguard_fault fault;

    return error != 0 ? error : pkeyguard_try_call(return_zero, NULL, &result, &fault);
}

/* The guard goes into memory of the coroutine's own. */
static int switch_coroutine(void)
{
    struct pkeyguard_thread_rights from;
    struct pkeyguard_region *made;
    struct pkeyguard_guard guard;
    int error = pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &made);

    if (error == 0)
        error = pkeyguard_acquire(made, PKEYGUARD_READ_WRITE, &guard);
    return error != 0 ? error : pkeyguard_thread_switch(&from, NULL);
}

static int probe(void)
{
    struct pkeyguard_platform platform;

    return pkeyguard_platform_probe(&platform);
}

static int (*const uses[])(void) = {
    create_region,    create_key, create_software_key,
    open_virtual_key, adopt,      check_region,
    create_heap,      use_signal, try_call,
    switch_coroutine, probe,      pkeyguard_thread_register,
};
enum { USES = sizeof(uses) / sizeof(*uses), MOST_CALLS = 13 };

START_TEST(first_use_fails_or_does_without_a_call)
{
    int (*use)(void) = uses[_i % USES], skip = _i / USES / 2, error;
    bool no_memory = _i / USES % 2 == 0;

    fail_call(ANY_CALL, skip, no_memory ? ENOMEM : EACCES, 1);
    error = use();
    if (!stop_failing())
        ck_assert_int_eq(error, 0);
    else
        ck_assert(error == 0 || error == -ENOMEM || (!no_memory && error == -EACCES) ||
                  (use == open_virtual_key && error == -ENOTSUP)); /* without membarrier(2) */
    for (int i = 0; i < USES; i++)
        ck_assert_int_eq(uses[i](), 0);
}
END_TEST

static struct pkeyguard_heap *shared_heap;

static void alloc_and_free(void *unused)
{
    void *object = pkeyguard_heap_alloc(shared_heap, 100);

    (void)unused;
    ck_assert_ptr_nonnull(object);
    ck_assert_int_eq(pkeyguard_heap_free(shared_heap, object), 0);
}

/* No thread then owns a part of a heap. */
START_TEST(heaps_do_without_membarrier)
{
    struct worker other;

    refuse_call(CALL_MEMBARRIER, ENOSYS);
    ck_assert_int_eq(pkeyguard_heap_create(NULL, 1 << 16, 0, &shared_heap), 0);
    start_worker(&other);
    for (int i = 0; i < 100; i++) {
        alloc_and_free(NULL);
        run_on(&other, alloc_and_free, NULL);
    }
    end_worker(&other);
    ck_assert_int_eq(pkeyguard_heap_destroy(shared_heap), 0);
}
END_TEST

void add_first_use(Suite *suite)
{
    TCase *tests = add_case(suite, "first use", map_own_pages, NULL);

    tcase_add_test(tests, heaps_do_without_membarrier);
    tcase_add_loop_test(tests, first_use_fails_or_does_without_a_call, 0, 2 * MOST_CALLS * USES);
}
