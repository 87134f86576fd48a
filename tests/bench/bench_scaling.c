/* SPDX-License-Identifier: MIT */
/* Virtual keys in two threads at once. Each thread does the same work, so two do twice as much. */
#include "bench.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#include <pkeyguard.h>

enum { WORKERS = 2, SCOPES = 20, PAIRS = 5, PAGE = 4096, PAGE_RW = PROT_READ | PROT_WRITE };

static struct pkeyguard_key *keys[WORKERS];
static struct pkeyguard_region *regions[WORKERS];
static char *pages[WORKERS];

/* Aligned, so that no two workers share a cache line, even if they share a region. */
struct worker {
    pthread_t thread;
    char *page;
    struct pkeyguard_region *region;
    size_t offset;  /* in the region, of the bytes it writes to */
    unsigned share; /* scopes or pairs to do */
} __attribute__((aligned(128)));

static struct worker workers[WORKERS];
static pthread_barrier_t start, end;
static void (*work)(const struct worker *worker); /* NULL: the workers end */

static void write_scopes(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->share; i++) {
        pkeyguard_scoped_write (volatile char, bytes, worker->region)
            bytes[worker->offset] = 1;
    }
}

static void mprotect_pairs(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->share; i++) {
        mprotect(worker->page, PAGE, PAGE_RW);
        *(volatile char *)worker->page = 1;
        mprotect(worker->page, PAGE, PROT_NONE);
    }
}

static void *run_worker(void *argument)
{
    const struct worker *worker = argument;

    while (pthread_barrier_wait(&start), work != NULL) {
        work(worker);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void make_workers_do(void (*shares)(const struct worker *worker), unsigned share, bool both,
                            bool same_key)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].share = i == 0 || both ? share : 0;
        workers[i].region = regions[same_key ? 0 : i];
    }
    work = shares;
    pthread_barrier_wait(&start);
    if (shares != NULL)
        pthread_barrier_wait(&end);
}

static void set_up(void)
{
    bench_require(pthread_barrier_init(&start, NULL, WORKERS + 1) == 0, "pthread_barrier_init");
    bench_require(pthread_barrier_init(&end, NULL, WORKERS + 1) == 0, "pthread_barrier_init");
    for (unsigned i = 0; i < WORKERS; i++) {
        bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &keys[i]) ==
                          0,
                      "pkeyguard_key_create");
        bench_require(pkeyguard_region_create(keys[i], PAGE, PAGE_RW, 0, &regions[i]) == 0,
                      "pkeyguard_region_create");
        pages[i] = mmap(NULL, PAGE, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        bench_require(pages[i] != MAP_FAILED, "mmap");
        workers[i].page = pages[i];
        workers[i].offset = i * PAGE / WORKERS;
        bench_require(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0,
                      "pthread_create");
    }
}

static void tear_down(void)
{
    make_workers_do(NULL, 0, false, false);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        munmap(pages[i], PAGE);
        bench_require(pkeyguard_region_destroy(regions[i]) == 0, "pkeyguard_region_destroy");
        bench_require(pkeyguard_key_destroy(keys[i]) == 0, "pkeyguard_key_destroy");
    }
    pthread_barrier_destroy(&start);
    pthread_barrier_destroy(&end);
}

#define BY_THREADS(name, shares, share, both, same_key)          \
    static void name(unsigned count)                             \
    {                                                            \
        make_workers_do(shares, count *(share), both, same_key); \
    }
BY_THREADS(scopes_by_one, write_scopes, SCOPES, false, false)
BY_THREADS(scopes_by_two, write_scopes, SCOPES, true, false)
BY_THREADS(scopes_with_one_key, write_scopes, SCOPES, true, true)
BY_THREADS(pairs_by_one, mprotect_pairs, PAIRS, false, false)
BY_THREADS(pairs_by_two, mprotect_pairs, PAIRS, true, false)

static const struct bench_row scope_rows[] = {
    {"two threads, a key each", scopes_by_two, .at_most = 1.25},
    {"two threads, the same key", scopes_with_one_key, .writes = 0},
    {0},
};

static const struct bench_row pair_rows[] = {
    {"two threads, a page each", pairs_by_two, .writes = 0},
    {0},
};

#define BY_EACH(what, by_one, bench_rows)                                           \
    {                                                                               \
        .name = what ", the same number by each thread", .unit = LOWEST_TIME_RATIO, \
        .baseline_name = "one thread", .set_up = set_up, .tear_down = tear_down,    \
        .baseline = by_one, .rows = bench_rows,                                     \
    }

const struct bench_group bench_groups[] = {
    BY_EACH("write scopes on a virtual key that has a pkey", scopes_by_one, scope_rows),
    BY_EACH("two `mprotect`", pairs_by_one, pair_rows),
    {0},
};
