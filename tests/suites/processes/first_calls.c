/* SPDX-License-Identifier: MIT */
/*
 * Every function may be the first that a child calls: it notices there that the other threads of
 * its parent are gone. So do the child of a child, and a thread that a child has made.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "test_processes.h"

static struct pkeyguard_key *key, *software; /* beside the virtual ones */
static struct pkeyguard_region *region, *of_software;
static struct pkeyguard_heap *heap;
static void *object;
static struct pkeyguard_guard mine, of_other[2]; /* of this thread, and of the other one */
static struct pkeyguard_thread_rights saved;     /* with `mine` */
static char *own_page;

static void do_acquire_two(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &of_other[0]), 0);
    ck_assert_int_eq(pkeyguard_acquire(of_software, PKEYGUARD_READ_WRITE, &of_other[1]), 0);
}

static void do_release_two(void *unused)
{
    (void)unused;
    pkeyguard_release(&of_other[0]);
    pkeyguard_release(&of_other[1]);
}

static void set_up(void)
{
    set_up_other();
    make_keys(PKEYGUARD_KEY_VIRTUAL);
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    region = new_region(key);
    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    of_software = new_region(software);
    ck_assert_int_eq(pkeyguard_heap_create(key, 1 << 16, 0, &heap), 0);
    ck_assert_ptr_nonnull(object = pkeyguard_heap_alloc(heap, 100));
    own_page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    run_on(&other, do_acquire_two, NULL);
    ck_assert_int_eq(pkeyguard_acquire(regions[1], PKEYGUARD_READ_WRITE, &mine), 0);
    pkeyguard_thread_save(&saved);
}

/* The parent's threads have what they had. */
static void tear_down(void)
{
    ck_assert(writes(regions[1]) && writes(of_software) && !writes(region));
    pkeyguard_release(&mine);
    run_on(&other, do_release_two, NULL);
    tear_down_other();
    ck_assert_int_eq(open_every_key(-1), 0);
    for (int i = 0; i < KEYS; i++)
        destroy(regions[i], keys[i]);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    destroy(region, key);
    destroy(of_software, software);
}

/* Each returns 0 if the function did what it should. */

static int create_key(void)
{
    struct pkeyguard_key *made;

    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &made);
}

static int create_virtual_key(void)
{
    struct pkeyguard_key *made;

    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &made);
}

static int destroy_used_key(void)
{
    return pkeyguard_key_destroy(keys[2]) == -EBUSY ? 0 : 1;
}

static int set_rights(void)
{
    return pkeyguard_key_set_rights(software, PKEYGUARD_READ_ONLY) != 0 ||
           pkeyguard_key_set_rights(software, PKEYGUARD_NO_ACCESS) != 0;
}

static int set_rights_everywhere(void)
{
    return pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY) != 0 ||
           pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS) != 0;
}

static int create_region(void)
{
    struct pkeyguard_region *made;

    return pkeyguard_region_create(keys[2], 1, PAGE_RW, PKEYGUARD_REGION_LOCKED, &made);
}

static int create_region_with(void)
{
    struct pkeyguard_region *made;

    return pkeyguard_region_create_with(NULL, "content", 8, PROT_READ, 0, &made);
}

static int adopt(void)
{
    struct pkeyguard_region *made;

    return pkeyguard_region_adopt(key, own_page, PAGE_BYTES, PAGE_RW, 0, &made);
}

static int destroy_region(void)
{
    return pkeyguard_region_destroy(region);
}

static int destroy_region_of_other(void)
{
    return pkeyguard_region_destroy(of_software);
}

static int associate(void)
{
    return pkeyguard_region_associate(region, NULL);
}

static int protect(void)
{
    return pkeyguard_region_protect(regions[1], PROT_READ);
}

static int name(void)
{
    return pkeyguard_region_name(region, "name");
}

static int read_region(void)
{
    char byte;

    return pkeyguard_region_read(of_software, 0, &byte, 1);
}

static int write_region(void)
{
    return pkeyguard_region_write(regions[3], 0, "x", 1);
}

static int acquire_bound(void)
{
    struct pkeyguard_guard guard;
    int error = pkeyguard_acquire(regions[1], PKEYGUARD_READ_WRITE, &guard);

    pkeyguard_release(&guard);
    return error;
}

static int acquire_of_other(void)
{
    struct pkeyguard_guard guard;
    int error = pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, &guard);

    if (error != 0 || writes(regions[0]))
        return 1;
    pkeyguard_release(&guard);
    return 0;
}

static int restrict_own(void)
{
    struct pkeyguard_guard guard;
    int error = pkeyguard_restrict(regions[1], PKEYGUARD_READ_ONLY, &guard);
    bool narrowed = !pku() || !writes(regions[1]);

    pkeyguard_release(&guard);
    return error != 0 || !narrowed;
}

static int acquire_all(void)
{
    struct pkeyguard_region *all[] = {region, of_software, regions[0], regions[4]};
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY,
                                                   PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE};
    struct pkeyguard_guard guards[4];
    int error = pkeyguard_acquire_all(4, all, rights, guards);

    for (int i = 0; i < 4; i++)
        pkeyguard_release(&guards[i]);
    return error;
}

static int acquire_timed(void)
{
    struct pkeyguard_guard guard;
    int error = pkeyguard_acquire_timed(regions[0], PKEYGUARD_READ_WRITE, 1000, &guard);

    pkeyguard_release(&guard);
    return error;
}

static int release_own(void)
{
    pkeyguard_release(&mine);
    return reads(regions[1]);
}

static int restore(void)
{
    pkeyguard_thread_restore(&saved);
    return !writes(regions[1]);
}

static int switch_and_back(void)
{
    struct pkeyguard_thread_rights from, unused;

    return pkeyguard_thread_switch(&from, NULL) != 0 || (pku() && reads(regions[1])) ||
           pkeyguard_thread_switch(&unused, &from) != 0 || !writes(regions[1]);
}

static int reset(void)
{
    pkeyguard_thread_reset();
    if (!pku())
        return 0;
    mine = (struct pkeyguard_guard){0};
    return reads(regions[1]);
}

static int choose_signal(void)
{
    return pkeyguard_thread_use_signal(SIGURG);
}

static int pass_gate(void)
{
    bool open;

    pkeyguard_scoped_closed (gate)
        open = reads(regions[1]) || reads(of_software);
    return open || !writes(regions[1]);
}

static int write_to_region(void *unused)
{
    (void)unused;
    access_byte(WRITE_BYTE, address_of(region));
    return 0;
}

static int survive_fault(void)
{
    struct pkeyguard_fault fault;
    int result;

    return pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER) != 0 ||
           pkeyguard_try_call(write_to_region, NULL, &result, &fault) != -EFAULT;
}

static int create_heap(void)
{
    struct pkeyguard_heap *made;

    return pkeyguard_heap_create(keys[5], 1 << 16, 0, &made);
}

static int use_heap(void)
{
    void *allocated = pkeyguard_heap_calloc(heap, 10, 100);

    return allocated == NULL || pkeyguard_heap_free(heap, allocated) != 0;
}

static int resize_object(void)
{
    object = pkeyguard_heap_realloc(heap, object, 5000);
    return object == NULL;
}

static int free_object(void)
{
    return pkeyguard_heap_free(heap, object);
}

static int probe(void)
{
    struct pkeyguard_platform platform;

    return pkeyguard_platform_probe(&platform);
}

static int self_test(void)
{
    return pkeyguard_platform_self_test() != 0 && pku();
}

static int (*const first_calls[])(void) = {
    create_key,
    create_virtual_key,
    destroy_used_key,
    set_rights,
    set_rights_everywhere,
    create_region,
    create_region_with,
    adopt,
    destroy_region,
    destroy_region_of_other,
    associate,
    protect,
    name,
    read_region,
    write_region,
    acquire_bound,
    acquire_of_other,
    restrict_own,
    acquire_all,
    acquire_timed,
    release_own,
    restore,
    switch_and_back,
    reset,
    pkeyguard_thread_register,
    choose_signal,
    pass_gate,
    survive_fault,
    create_heap,
    use_heap,
    resize_object,
    free_object,
    probe,
    self_test,
};
enum { FIRST_CALLS = sizeof(first_calls) / sizeof(*first_calls) };

/*
 * What the other thread had open is closed, what this one has is not, and everything works. A first
 * call that takes no lock may have left it to the next one to notice the fork.
 */
static int everything_works(void)
{
    if (write_region() != 0 || reads(regions[0]))
        return 2;
    pkeyguard_release(&mine);
    for (int i = 0; i < KEYS; i++) {
        if (reads(regions[i]))
            return 3;
    }
    if (open_every_key(-1) != 0)
        return 4;
    if (create_key() != 0 || create_virtual_key() != 0 || create_region_with() != 0)
        return 5;
    return use_heap() != 0 ? 6 : 0;
}

static int call_first(void *number)
{
    return first_calls[*(int *)number]() != 0 ? 1 : everything_works();
}

START_TEST(any_function_is_the_first_that_a_child_calls)
{
    for (int way = BY_FORK; way < BY_VFORK; way++)
        ck_assert_int_eq(run_as_child((enum way)way, call_first, &_i), 0);
}
END_TEST

static int work_in_own_child(void *way)
{
    int error = run_as_child(*(enum way *)way, call_first, &(int){0});

    return error != 0 ? error : everything_works();
}

static int work_and_work_in_own_child(void *way)
{
    return acquire_of_other() != 0 ? 7 : work_in_own_child(way);
}

/* The first child has called the library before (_i 1), or has not. */
START_TEST(child_of_a_child_works)
{
    for (int outer = BY_FORK; outer < BY_VFORK; outer++) {
        for (enum way inner = BY_FORK; inner < BY_VFORK; inner++)
            ck_assert_int_eq(run_as_child((enum way)outer,
                                          _i ? work_and_work_in_own_child : work_in_own_child,
                                          &inner),
                             0);
    }
}
END_TEST

static pthread_barrier_t all_registered;

static void *open_others(void *unused)
{
    int error = pkeyguard_thread_register();

    pthread_barrier_wait(&all_registered);
    /* Not reads(), which changes a signal's handler for all threads. */
    if (error != 0 || open_every_key(1) != 0 || use_heap() != 0 || create_virtual_key() != 0 ||
        pkeyguard_key_rights(keys[0]) != PKEYGUARD_NO_ACCESS)
        return "";
    return unused;
}

static int work_in_threads(void *unused)
{
    pthread_t threads[3];
    bool failed = false;

    (void)unused;
    pthread_barrier_init(&all_registered, NULL, 3);
    for (int i = 0; i < 3; i++) {
        if (pthread_create(&threads[i], NULL, open_others, NULL) != 0)
            return 8;
    }
    for (int i = 0; i < 3; i++) {
        void *problem;

        if (pthread_join(threads[i], &problem) != 0)
            return 9;
        failed = failed || problem != NULL;
    }
    return failed ? 10 : everything_works();
}

static int register_and_work_in_threads(void *unused)
{
    return pkeyguard_thread_register() != 0 ? 11 : work_in_threads(unused);
}

/*
 * One of the new threads, and not the one that forked, notices the fork. After clone(2) the C
 * library has not told the kernel where the forking thread's variables are, so that thread
 * registers first.
 */
START_TEST(threads_made_in_a_child_work)
{
    bool cloned = _i == BY_CLONE || _i == BY_CLONE_WITH_SIGNAL;

    ck_assert_int_eq(
        run_as_child((enum way)_i, cloned ? register_and_work_in_threads : work_in_threads, NULL),
        0);
}
END_TEST

/* Pkeys that the thread that cloned may have open go to no other key. */
static void *use_what_needs_no_pkey(void *unused)
{
    struct pkeyguard_guard guard;

    if (pkeyguard_key_rights(keys[0]) != PKEYGUARD_NO_ACCESS || use_heap() != 0 ||
        create_virtual_key() != 0 || create_region_with() != 0 ||
        pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) != 0)
        return "";
    pkeyguard_release(&guard);
    return unused;
}

static int work_in_a_thread_only(void *unused)
{
    pthread_t thread;
    void *problem;

    (void)unused;
    if (pthread_create(&thread, NULL, use_what_needs_no_pkey, NULL) != 0 ||
        pthread_join(thread, &problem) != 0)
        return 12;
    return problem != NULL ? 13 : 0;
}

START_TEST(thread_is_the_first_that_calls_in_a_cloned_child)
{
    ck_assert_int_eq(run_as_child((enum way)_i, work_in_a_thread_only, NULL), 0);
}
END_TEST

/* It does not inherit what is open: exec resets the rights. */
START_TEST(spawned_program_works)
{
    extern char **environ;
    char *arguments[] = {"test_processes", SPAWNED, NULL};
    int status;
    pid_t child;

    ck_assert_int_eq(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Without libcheck's checks, which need a test. */
int run_spawned(void)
{
    for (int i = 0; i < KEYS; i++) {
        if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &keys[i]) != 0 ||
            pkeyguard_region_create(keys[i], 1, PAGE_RW, 0, &regions[i]) != 0)
            return 1;
    }
    if (pkeyguard_heap_create(NULL, 1 << 16, 0, &heap) != 0)
        return 1;
    return everything_works();
}

void add_first_calls(Suite *suite)
{
    TCase *tests = add_case(suite, "first calls", set_up, tear_down);

    tcase_add_loop_test(tests, any_function_is_the_first_that_a_child_calls, 0, FIRST_CALLS);
    tcase_add_loop_test(tests, child_of_a_child_works, 0, 2);
    tcase_add_loop_test(tests, threads_made_in_a_child_work, BY_FORK, BY_VFORK);
    tcase_add_loop_test(tests, thread_is_the_first_that_calls_in_a_cloned_child, BY_CLONE,
                        BY_CLONE_WITH_SIGNAL + 1);
    tcase_add_test(tests, spawned_program_works);
}
