/* SPDX-License-Identifier: MIT */
/* Scopes of virtual keys: a hit (the key has a pkey) and a miss (it must get one first). */
#include "bench.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

/* MISSED is more keys than there are pkeys: if they are used in turn, every use is a miss. */
enum { PAGE = 4096, PAGE_RW = PROT_READ | PROT_WRITE, MISSED = 18, MOST_KEYS = 1000 };
enum { HUGE_PAGE = 2 << 20, LARGE_PAGES = 1024 }; /* LARGE_PAGES: two huge ones */

static struct pkeyguard_key *keys[MOST_KEYS];
static struct pkeyguard_region *regions[MOST_KEYS];
static size_t key_count, size; /* size: bytes of each region */
static unsigned region_flags;  /* of each region */
static size_t next_missed;
static volatile int plain;
static volatile int *volatile plain_pointer = &plain; /* loaded for each access, as a region's is */

/* Two mappings without a key, for the measurements of plain system calls. */
static volatile char *raw[2];
static int raw_pkey;

/*
 * The baseline: the one access that each operation makes too. Its loop is not unrolled, because the
 * loops of the operations are too large for it.
 */
static void store(unsigned count)
{
#pragma GCC unroll 1
    for (unsigned i = 0; i < count; i++) {
        *plain_pointer = 1;
    }
}

static void write_scope(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, regions[0])
            *object = 1;
    }
}

static void read_scope(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_read (volatile int, object, regions[0])
            (void)*object;
    }
}

static void use_next_missed(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, regions[next_missed])
            *object = 1;
        next_missed = (next_missed + 1) % MISSED;
    }
}

/* What a miss must at least do: take a pkey from one mapping and give it to another. */
static void two_pkey_mprotect(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        volatile char *opened = raw[1];

        pkey_mprotect((void *)raw[0], size, PROT_NONE, 0);
        pkey_mprotect((void *)opened, size, PAGE_RW, raw_pkey);
        *opened = 1;
        raw[1] = raw[0];
        raw[0] = opened;
    }
}

static void two_mprotect(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mprotect((void *)raw[1], size, PAGE_RW);
        *raw[1] = 1;
        mprotect((void *)raw[1], size, PROT_NONE);
    }
}

/* ---- set-up: keys, and regions whose pages have all been written to ---- */

static void create_keys(size_t count, size_t region_size)
{
    key_count = count;
    size = region_size;
    for (size_t i = 0; i < count; i++) {
        bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &keys[i]) ==
                          0,
                      "pkeyguard_key_create");
        bench_require(pkeyguard_region_create(keys[i], size, PAGE_RW, region_flags, &regions[i]) ==
                          0,
                      "pkeyguard_region_create");
        pkeyguard_scoped_write (char, bytes, regions[i])
            memset(bytes, 1, size);
    }
}

static void destroy_keys(void)
{
    for (size_t i = 0; i < key_count; i++) {
        bench_require(pkeyguard_region_destroy(regions[i]) == 0, "pkeyguard_region_destroy");
        bench_require(pkeyguard_key_destroy(keys[i]) == 0, "pkeyguard_key_destroy");
    }
}

static void create_one_key(void)
{
    create_keys(1, PAGE);
}

static struct pkeyguard_guard outer;

static void create_open_key(void)
{
    create_one_key();
    bench_require(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &outer) == 0,
                  "pkeyguard_acquire");
}

static void destroy_open_key(void)
{
    pkeyguard_release(&outer);
    destroy_keys();
}

/* Maps size bytes, aligned and with an inaccessible page on each side as a region has. What it maps
 * to align them stays reserved. */
static volatile char *map_raw(void)
{
    size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : PAGE;
    char *mapping = mmap(NULL, size + alignment + PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *start = mapping + (alignment - (uintptr_t)mapping % alignment);

    bench_require(mapping != MAP_FAILED, "mmap");
    if (region_flags & PKEYGUARD_REGION_HUGE_PAGES)
        bench_require(madvise(start, size, MADV_HUGEPAGE) == 0, "madvise");
    bench_require(mprotect(start, size, PAGE_RW) == 0, "mprotect");
    memset(start, 1, size);
    bench_require(mprotect(start, size, PROT_NONE) == 0, "mprotect");
    return start;
}

/* raw_pkey is the one pkey that virtual keys leave free. */
static void create_missed(size_t pages)
{
    create_keys(MISSED, pages * PAGE);
    next_missed = 0; /* the least recently used */
    raw_pkey = pkey_alloc(0, 0);
    bench_require(raw_pkey > 0, "pkey_alloc");
    for (int i = 0; i < 2; i++)
        raw[i] = map_raw();
    bench_require(pkey_mprotect((void *)raw[0], size, PAGE_RW, raw_pkey) == 0, "pkey_mprotect");
}

static void destroy_missed(void)
{
    for (int i = 0; i < 2; i++)
        munmap((char *)raw[i] - PAGE, size + 2 * PAGE);
    pkey_free(raw_pkey);
    destroy_keys();
}

static pthread_t sleeper;
static pthread_barrier_t asleep, woken;

static void *run_sleeper(void *argument)
{
    bench_require(pkeyguard_thread_register() == 0, "pkeyguard_thread_register");
    pthread_barrier_wait(&asleep);
    pthread_barrier_wait(&woken);
    return argument;
}

static void create_sleeper(void)
{
    bench_require(pthread_barrier_init(&asleep, NULL, 2) == 0, "pthread_barrier_init");
    bench_require(pthread_barrier_init(&woken, NULL, 2) == 0, "pthread_barrier_init");
    bench_require(pthread_create(&sleeper, NULL, run_sleeper, NULL) == 0, "pthread_create");
    pthread_barrier_wait(&asleep);
}

static void destroy_missed_and_sleeper(void)
{
    pthread_barrier_wait(&woken);
    pthread_join(sleeper, NULL);
    pthread_barrier_destroy(&asleep);
    pthread_barrier_destroy(&woken);
    destroy_missed();
}

#define SET_UP_MISSED(pages)                            \
    static void create_missed_##pages(void)             \
    {                                                   \
        create_missed(pages);                           \
    }                                                   \
    static void create_missed_and_sleeper_##pages(void) \
    {                                                   \
        create_missed(pages);                           \
        create_sleeper();                               \
    }
static void create_missed_large(void)
{
    create_missed(LARGE_PAGES);
}

static void create_missed_huge(void)
{
    region_flags = PKEYGUARD_REGION_HUGE_PAGES;
    create_missed(LARGE_PAGES);
}

static void destroy_missed_huge(void)
{
    destroy_missed();
    region_flags = 0;
}

SET_UP_MISSED(1)
SET_UP_MISSED(16)
SET_UP_MISSED(256)

/* ---- patterns of use: keys drawn at random ---- */

enum { USES = 2000 };

struct pattern {
    char name[64];
    unsigned short drawn[USES]; /* the number of the key that each use opens */
};

static struct pattern uniform, zipf;

static void use_keys(const struct pattern *pattern, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, regions[pattern->drawn[i % USES]])
            *object = 1;
    }
}

static void use_uniform(unsigned count)
{
    use_keys(&uniform, count);
}

static void use_zipf(unsigned count)
{
    use_keys(&zipf, count);
}

/* Draws keys, each with a probability in proportion to its weight. */
static void draw_keys(struct pattern *pattern, const double *weights)
{
    double sum = 0;
    unsigned seed = 1;

    for (size_t i = 0; i < key_count; i++)
        sum += weights[i];
    for (size_t n = 0; n < USES; n++) {
        double at = sum * rand_r(&seed) / ((double)RAND_MAX + 1);
        unsigned short i = 0;

        while (i < key_count - 1 && at >= weights[i])
            at -= weights[i++];
        pattern->drawn[n] = i;
    }
}

/* Appends the share of hits in the second of two runs, the one that mean_ticks() measures. */
static void name_with_hits(struct pattern *pattern, const char *name)
{
    unsigned hits = 0;

    use_keys(pattern, USES);
    for (size_t i = 0; i < USES; i++) {
        size_t drawn = pattern->drawn[i];

        hits += pkeyguard_key_number(keys[drawn]) > 0;
        pkeyguard_scoped_write (volatile int, object, regions[drawn])
            *object = 1;
    }
    snprintf(pattern->name, sizeof(pattern->name), "%s, %.0f %% hits", name, 100.0 * hits / USES);
}

static void create_drawn(size_t count)
{
    static double weights[MOST_KEYS];

    create_keys(count, PAGE);
    raw[1] = map_raw();
    for (size_t i = 0; i < count; i++)
        weights[i] = 1;
    draw_keys(&uniform, weights);
    name_with_hits(&uniform, "keys drawn evenly");
    for (size_t rank = 1; rank <= count; rank++)
        weights[rank - 1] = 1 / (double)rank;
    draw_keys(&zipf, weights);
    name_with_hits(&zipf, "keys drawn by Zipf's law (1 / rank)");
}

static void destroy_drawn(void)
{
    munmap((char *)raw[1] - PAGE, size + 2 * PAGE);
    destroy_keys();
}

#define SET_UP_DRAWN(count)                \
    static void create_drawn_##count(void) \
    {                                      \
        create_drawn(count);               \
    }
SET_UP_DRAWN(16)
SET_UP_DRAWN(32)
SET_UP_DRAWN(100)
SET_UP_DRAWN(1000)

static const struct bench_row hit_rows[] = {
    {"write scope", write_scope, .writes = 2, .at_most = 60},
    {"read scope", read_scope, .writes = 2, .at_most = 60},
    {0},
};

static const struct bench_row nested_hit_rows[] = {
    {"write scope", write_scope, .writes = 0, .at_most = 60},
    {"read scope", read_scope, .writes = 0, .at_most = 60},
    {0},
};

static const struct bench_row miss_rows[] = {
    {"write scope", use_next_missed, .writes = 2, .at_most = 1.40},
    {"two `mprotect`", two_mprotect, .writes = 0},
    {0},
};

static const struct bench_row miss_beside_sleeper_rows[] = {
    {"write scope", use_next_missed, .writes = 2, .at_most = 1.40},
    {0},
};

static const struct bench_row large_rows[] = {
    {"write scope", use_next_missed, .writes = 2},
    {"two `pkey_mprotect`", two_pkey_mprotect, .writes = 0},
    {0},
};

static const struct bench_row huge_rows[] = {
    {"write scope", use_next_missed, .writes = 2, .at_most = 8400},
    {"two `pkey_mprotect`", two_pkey_mprotect, .writes = 0},
    {0},
};

static const struct bench_row drawn_rows[] = {
    {uniform.name, use_uniform, .at_most = 0},
    {zipf.name, use_zipf, .at_most = 0},
    {"two `mprotect`", two_mprotect, .at_most = 0},
    {0},
};

/* Every fifth miss costs more than the others, so the costs repeat after 5 operations. */
#define MISS(pages, text)                                                                     \
    {                                                                                         \
        .name = "virtual key that must get a pkey, " text,                                    \
        .unit = INSTRUCTION_RATIO,                                                            \
        .baseline_name = "two `pkey_mprotect`",                                               \
        .set_up = create_missed_##pages,                                                      \
        .tear_down = destroy_missed,                                                          \
        .baseline = two_pkey_mprotect,                                                        \
        .rows = miss_rows,                                                                    \
        .operations = 5,                                                                      \
    },                                                                                        \
    {                                                                                         \
        .name = "virtual key that must get a pkey, another thread asleep, " text,             \
        .unit = INSTRUCTION_RATIO, .baseline_name = "two `pkey_mprotect`",                    \
        .set_up = create_missed_and_sleeper_##pages, .tear_down = destroy_missed_and_sleeper, \
        .baseline = two_pkey_mprotect, .rows = miss_beside_sleeper_rows, .operations = 5,     \
    }

#define DRAWN(count, text)                                                              \
    {                                                                                   \
        .name = text " virtual keys of 1 page, write scope", .unit = MEAN_INSTRUCTIONS, \
        .set_up = create_drawn_##count, .tear_down = destroy_drawn, .baseline = store,  \
        .rows = drawn_rows, .operations = USES,                                         \
    }

const struct bench_group bench_groups[] = {
    {.name = "virtual key that has a pkey, region of 1 page",
     .unit = INSTRUCTIONS,
     .set_up = create_one_key,
     .tear_down = destroy_keys,
     .baseline = store,
     .rows = hit_rows},
    {.name = "virtual key, inside an open write scope",
     .unit = INSTRUCTIONS,
     .set_up = create_open_key,
     .tear_down = destroy_open_key,
     .baseline = store,
     .rows = nested_hit_rows},
    MISS(1, "1 page"),
    MISS(16, "16 pages"),
    MISS(256, "256 pages"),
    {.name = "virtual key that must get a pkey, 4 MiB",
     .unit = INSTRUCTIONS,
     .set_up = create_missed_large,
     .tear_down = destroy_missed,
     .baseline = store,
     .rows = large_rows,
     .operations = 5},
    {.name = "virtual key that must get a pkey, 4 MiB of huge pages",
     .unit = INSTRUCTIONS,
     .set_up = create_missed_huge,
     .tear_down = destroy_missed_huge,
     .baseline = store,
     .rows = huge_rows,
     .operations = 5},
    DRAWN(16, "16"),
    DRAWN(32, "32"),
    DRAWN(100, "100"),
    DRAWN(1000, "1,000"),
    {0},
};
