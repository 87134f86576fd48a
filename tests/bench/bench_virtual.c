/* SPDX-License-Identifier: MIT */
/* Scopes of virtual keys: with the key bound to a pkey, and where it must be given one first. */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

/* MISSED is more keys than there are pkeys: used in turn, the next one is never bound. */
enum { PAGE = 4096, PAGE_RW = PROT_READ | PROT_WRITE, MISSED = 18, MOST_KEYS = 1000 };

static struct pkeyguard_key *keys[MOST_KEYS];
static struct pkeyguard_region *regions[MOST_KEYS];
static size_t key_count, size; /* of each region */
static size_t next_missed;
static volatile int plain;
static volatile int *volatile plain_pointer = &plain; /* loaded each time, as a region is */

/* Without a key: rights on these pages are changed by hand. */
static volatile char *raw[2];
static int raw_pkey;

/* Each operation makes one access, as the baseline does, in a loop that is too large to unroll. */
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

static void miss(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, regions[next_missed])
            *object = 1;
        next_missed = (next_missed + 1) % MISSED;
    }
}

/* A pkey changes hands. */
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

/* ---- keys, and regions whose pages are in use ---- */

static void create_keys(size_t count, size_t region_size)
{
    key_count = count;
    size = region_size;
    for (size_t i = 0; i < count; i++) {
        bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &keys[i]) ==
                          0,
                      "pkeyguard_key_create");
        bench_require(pkeyguard_region_create(keys[i], size, PAGE_RW, 0, &regions[i]) == 0,
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

/* Between pages that stay closed, as a region lies between its guard pages. */
static volatile char *map_raw(void)
{
    char *mapping =
        mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    bench_require(mapping != MAP_FAILED, "mmap");
    bench_require(mprotect(mapping + PAGE, size, PAGE_RW) == 0, "mprotect");
    memset(mapping + PAGE, 1, size);
    bench_require(mprotect(mapping + PAGE, size, PROT_NONE) == 0, "mprotect");
    return mapping + PAGE;
}

/* The virtual keys leave one pkey. */
static void create_missed(size_t pages)
{
    create_keys(MISSED, pages * PAGE);
    next_missed = 0; /* the longest unused */
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

static void *sleep_registered(void *argument)
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
    bench_require(pthread_create(&sleeper, NULL, sleep_registered, NULL) == 0, "pthread_create");
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

#define SET_UP_MISSED(pages)                         \
    static void create_missed_##pages(void)          \
    {                                                \
        create_missed(pages);                        \
    }                                                \
    static void create_missed_##pages##_beside(void) \
    {                                                \
        create_missed(pages);                        \
        create_sleeper();                            \
    }
SET_UP_MISSED(1)
SET_UP_MISSED(16)
SET_UP_MISSED(256)

/* ---- patterns of access: each use draws a key ---- */

enum { USES = 2000 };

struct pattern {
    char name[64];
    unsigned short drawn[USES];
};

static struct pattern uniform, zipf;

static void use(const struct pattern *pattern, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, regions[pattern->drawn[i % USES]])
            *object = 1;
    }
}

static void use_uniform(unsigned count)
{
    use(&uniform, count);
}

static void use_zipf(unsigned count)
{
    use(&zipf, count);
}

/* Keys by their weights. */
static void draw(struct pattern *pattern, const double *weights)
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

/* How often the key is bound already, when all of it has been done once before. */
static void name_with_hits(struct pattern *pattern, const char *name)
{
    unsigned hits = 0;

    use(pattern, USES);
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
    draw(&uniform, weights);
    name_with_hits(&uniform, "uniform");
    for (size_t rank = 1; rank <= count; rank++)
        weights[rank - 1] = 1 / (double)rank;
    draw(&zipf, weights);
    name_with_hits(&zipf, "Zipf (1 / rank)");
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

static const struct bench_row hits[] = {
    {"write scope", write_scope, .writes = 2, .at_most = 60},
    {"read scope", read_scope, .writes = 2, .at_most = 60},
    {0},
};

static const struct bench_row misses[] = {
    {"write scope", miss, .writes = 2, .at_most = 1.25},
    {"two `mprotect`", two_mprotect, .writes = 0},
    {0},
};

static const struct bench_row misses_beside[] = {
    {"write scope", miss, .writes = 2, .at_most = 1.25},
    {0},
};

static const struct bench_row drawn[] = {
    {uniform.name, use_uniform, .at_most = 0},
    {zipf.name, use_zipf, .at_most = 0},
    {"two `mprotect`", two_mprotect, .at_most = 0},
    {0},
};

/* Every seventh miss costs more than the others. */
#define MISS(pages, text)                                                                 \
    {                                                                                     \
        .name = "virtual key without a pkey, " text,                                      \
        .unit = TIMES_INSTRUCTIONS,                                                       \
        .baseline_name = "two `pkey_mprotect`",                                           \
        .set_up = create_missed_##pages,                                                  \
        .tear_down = destroy_missed,                                                      \
        .baseline = two_pkey_mprotect,                                                    \
        .rows = misses,                                                                   \
        .operations = 7,                                                                  \
    },                                                                                    \
    {                                                                                     \
        .name = "the same beside a sleeping thread, " text, .unit = TIMES_INSTRUCTIONS,   \
        .baseline_name = "two `pkey_mprotect`", .set_up = create_missed_##pages##_beside, \
        .tear_down = destroy_missed_and_sleeper, .baseline = two_pkey_mprotect,           \
        .rows = misses_beside, .operations = 7,                                           \
    }

#define DRAWN(count, text)                                                              \
    {                                                                                   \
        .name = text " virtual keys of 1 page, write scope", .unit = MEAN_INSTRUCTIONS, \
        .set_up = create_drawn_##count, .tear_down = destroy_drawn, .baseline = store,  \
        .rows = drawn, .operations = USES,                                              \
    }

const struct bench_group bench_groups[] = {
    {.name = "virtual key with a pkey, region of 1 page",
     .unit = INSTRUCTIONS,
     .set_up = create_one_key,
     .tear_down = destroy_keys,
     .baseline = store,
     .rows = hits},
    MISS(1, "1 page"),
    MISS(16, "16 pages"),
    MISS(256, "256 pages"),
    DRAWN(16, "16"),
    DRAWN(32, "32"),
    DRAWN(100, "100"),
    DRAWN(1000, "1,000"),
    {0},
};
