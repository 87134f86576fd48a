/* SPDX-License-Identifier: MIT */
/* A scope that is alone in a function, with what the compiler saves and restores for it. */
#include "bench.h"
#include "leaves.h"

#include <stddef.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

unsigned leaf_pkey_bits;
int *leaf_number;

static struct pkeyguard_key *key;
static struct pkeyguard_region *region;
static struct pkeyguard_guard outer;

/* One call each; the operations differ in nothing but the function that they call. */
#define LEAF_OPERATIONS(name)                    \
    static void run_gcc_##name(unsigned count)   \
    {                                            \
        (void)count;                             \
        gcc_##name(region, key);                 \
    }                                            \
    static void run_clang_##name(unsigned count) \
    {                                            \
        (void)count;                             \
        clang_##name(region, key);               \
    }

LEAVES(LEAF_OPERATIONS)

static __attribute__((noinline)) void return_at_once(struct pkeyguard_region *r,
                                                     struct pkeyguard_key *k)
{
    /* So that the compiler leaves out neither the call nor its arguments. */
    __asm__ volatile("" : : "r"(r), "r"(k));
}

static void run_nothing(unsigned count)
{
    (void)count;
    return_at_once(region, key);
}

static void create_region(void)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_region_create(key, PAGE, PROT_READ | PROT_WRITE, 0, &region) == 0,
                  "pkeyguard_region_create");
    leaf_pkey_bits = 3u << (2 * pkeyguard_key_number(key));
    leaf_number = pkeyguard_region_unsafe_address(region);
}

static void destroy_region(void)
{
    bench_require(pkeyguard_region_destroy(region) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(key) == 0, "pkeyguard_key_destroy");
}

static void create_open_region(void)
{
    create_region();
    bench_require(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &outer) == 0,
                  "pkeyguard_acquire");
}

static void destroy_open_region(void)
{
    pkeyguard_release(&outer);
    destroy_region();
}

static const struct bench_row closed_rows[] = {
    {"write scope, gcc", run_gcc_write, .writes = 2, .at_most = 22},
    {"write scope, clang", run_clang_write, .writes = 2, .at_most = 22},
    {"read scope, gcc", run_gcc_read, .writes = 2, .at_most = 24},
    {"read scope, clang", run_clang_read, .writes = 2, .at_most = 24},
    {"write scope at an address, gcc", run_gcc_write_at, .writes = 2},
    {"write scope at an address, clang", run_clang_write_at, .writes = 2},
    {"auto guard for writing, gcc", run_gcc_auto_write, .writes = 2},
    {"auto guard for writing, clang", run_clang_auto_write, .writes = 2},
    {"key write scope, gcc", run_gcc_key_write, .writes = 2},
    {"key write scope, clang", run_clang_key_write, .writes = 2},
    {"hand-written assembly, gcc", run_gcc_by_hand, .writes = 2},
    {"hand-written assembly, clang", run_clang_by_hand, .writes = 2},
    {0},
};

static const struct bench_row open_rows[] = {
    {"write scope, gcc", run_gcc_write, .writes = 0, .at_most = 18},
    {"write scope, clang", run_clang_write, .writes = 0, .at_most = 18},
    {"read scope, gcc", run_gcc_read, .writes = 0, .at_most = 18},
    {"read scope, clang", run_clang_read, .writes = 0, .at_most = 18},
    {"restrict scope for reading, gcc", run_gcc_restricted_read, .writes = 2, .at_most = 25},
    {"restrict scope for reading, clang", run_clang_restricted_read, .writes = 2, .at_most = 25},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "one scope in a function, dedicated key",
     .unit = STEPS,
     .set_up = create_region,
     .tear_down = destroy_region,
     .baseline = run_nothing,
     .rows = closed_rows},
    {.name = "one scope in a function, inside an open write scope",
     .unit = STEPS,
     .set_up = create_open_region,
     .tear_down = destroy_open_region,
     .baseline = run_nothing,
     .rows = open_rows},
    {0},
};
