/* SPDX-License-Identifier: MIT */
/* Memory that a child does not have. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "test_processes.h"

static sigjmp_buf after_fault;
static int decoded;

static void decode(int signal, siginfo_t *info, void *context)
{
    struct pkeyguard_fault fault;

    (void)signal;
    decoded = pkeyguard_fault_decode(info, context, &fault);
    siglongjmp(after_fault, 1);
}

static int decode_access(const char *address)
{
    struct sigaction action = {.sa_sigaction = decode, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &action, NULL);
    if (sigsetjmp(after_fault, 1) == 0)
        (void)*(const volatile char *)address;
    return decoded;
}

struct absent {
    struct pkeyguard_region *region;
    struct pkeyguard_heap *heap;
    void *object;
};

/* The first calls that the child makes take no lock. Its own memory is where the region was. */
static int look_at_reused_addresses(void *argument)
{
    const struct absent *absent = argument;
    char *address = address_of(absent->region);
    char *heap_start = address_of(pkeyguard_heap_region(absent->heap));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    if (mmap(address, PAGE_BYTES, PROT_NONE, flags, -1, 0) != address ||
        mmap(heap_start, PAGE_BYTES, PROT_NONE, flags, -1, 0) != heap_start)
        return 1;
    if (decode_access(address) != -ENOENT || decode_access(heap_start) != -ENOENT)
        return 2;
    if (pkeyguard_region_of(address) != NULL || pkeyguard_region_of(heap_start) != NULL)
        return 3;
    if (pkeyguard_heap_of(absent->object) != NULL)
        return 4;
    return 0;
}

START_TEST(absent_memory_is_not_found)
{
    struct absent absent;

    ck_assert_int_eq(pkeyguard_region_create(NULL, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_NO_FORK,
                                             &absent.region),
                     0);
    ck_assert_int_eq(
        pkeyguard_heap_create(NULL, PAGE_BYTES, PKEYGUARD_REGION_NO_FORK, &absent.heap), 0);
    absent.object = pkeyguard_heap_alloc(absent.heap, 16);
    ck_assert_ptr_nonnull(absent.object);
    ck_assert_int_eq(run_as_child((enum way)_i, look_at_reused_addresses, &absent), 0);
    ck_assert_int_eq(decode_access(address_of(absent.region)), 0);
    ck_assert_ptr_eq(pkeyguard_region_of(address_of(absent.region)), absent.region);
    ck_assert_ptr_eq(pkeyguard_heap_of(absent.object), absent.heap);
    ck_assert_int_eq(pkeyguard_heap_destroy(absent.heap), 0);
    destroy(absent.region, NULL);
}
END_TEST

void add_memory(Suite *suite)
{
    TCase *tests = add_case(suite, "memory", NULL, NULL);

    tcase_add_loop_test(tests, absent_memory_is_not_found, BY_FORK, BY_VFORK);
}
