/* SPDX-License-Identifier: MIT */
/* Metadata that the program has overwritten. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_heap.h"

/* Exits with 0, or the library aborts. No object may reach beyond the heap. */
static void use_heap_with_random_metadata(struct pkeyguard_heap *heap, unsigned seed)
{
    char *start = heap_start(heap), *objects[200] = {NULL};

    random_state = seed;
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (int i = 0; i < 200; i++)
            objects[i] = pkeyguard_heap_alloc(heap, random_number() % 6000);
        for (int i = 0; i < 200; i += 3)
            pkeyguard_heap_free(heap, objects[i]);
        for (unsigned i = 0; i <= seed % 40; i++) {
            uint32_t offset = METADATA_START + random_number() % (MIB / 64 * 5 + 28000) / 4 * 4;
            uint32_t value = seed % 3 == 0   ? random_number()
                             : seed % 3 == 1 ? random_number() % 600
                                             : 1u << random_number() % 32;

            memcpy(start + offset, &value, sizeof(value));
        }
        for (int i = 0; i < 200; i++) {
            size_t size = random_number() % 6000;
            char *object = pkeyguard_heap_alloc(heap, size);

            if (object != NULL && (object < start || object + size > start + MIB))
                _exit(1);
            pkeyguard_heap_free(heap, objects[random_number() % 200]);
            object = pkeyguard_heap_realloc(heap, objects[random_number() % 200], size);
            if (object != NULL && (object < start || object + size > start + MIB))
                _exit(1);
        }
    }
    _exit(0);
}

START_TEST(overwritten_metadata_reaches_nothing_outside)
{
    struct pkeyguard_key *key = key_of_kind(OPTIONAL);
    int aborted = 0, ended = 0;

    for (unsigned seed = 0; seed < 60; seed++) {
        struct pkeyguard_heap *heap = new_heap(key, MIB);
        pid_t child = fork();
        int status;

        expect(child >= 0);
        if (child == 0) {
            /* A list that has become a circle has no end: the alarm ends the process. */
            signal(SIGALRM, SIG_DFL);
            alarm(5);
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(1);
            use_heap_with_random_metadata(heap, seed);
        }
        expect(waitpid(child, &status, 0) == child);
        ck_assert_msg(WIFSIGNALED(status)
                          ? WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGALRM
                          : WEXITSTATUS(status) == 0,
                      "seed %u: status %x", seed, status);
        aborted += WIFSIGNALED(status);
        ended += WIFEXITED(status);
        expect(pkeyguard_heap_destroy(heap) == 0);
    }
    expect(aborted > 0);
    expect(ended > 0);
    destroy_heap(NULL, key);
}
END_TEST

static void use_heap_with_overwritten_metadata(void *heap)
{
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        memset(heap_start(heap) + METADATA_START, 0xff, MIB / 64);
        (void)!pkeyguard_heap_alloc(heap, 32);
    }
}

START_TEST(overwritten_metadata_aborts)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);

    assert_aborts(use_heap_with_overwritten_metadata, heap,
                  "libpkeyguard: a heap's metadata was overwritten\n");
    destroy_heap(heap, key);
}
END_TEST

/*
 * Overwrites the slab's map of the places where free slots begin, and the count of them before it,
 * to say that there are more slots than the heap has room for.
 */
static void use_slots_beyond_the_heap(void *heap)
{
    new_object(heap, 48);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        uint64_t *map = (uint64_t *)(void *)(heap_start(heap) + METADATA_START - MIB + PAGE_BYTES);

        /* A slot of 48 bytes begins at each third place; the first is live. */
        while (*map != 0x9249249249249248)
            map++;
        memset(map, 0xff, 4 * sizeof(*map));
        map[-1] = 4 * 64;
        for (int i = 0; i < 300; i++)
            expect(pkeyguard_heap_alloc(heap, 48) < (void *)(heap_start(heap) + PAGE_BYTES));
    }
}

START_TEST(slots_beyond_the_heap_abort)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, PAGE_BYTES);

    assert_aborts(use_slots_beyond_the_heap, heap,
                  "libpkeyguard: a heap's metadata was overwritten\n");
    destroy_heap(heap, key);
}
END_TEST

void add_metadata(Suite *suite)
{
    TCase *tests = add_case(suite, "metadata", NULL, NULL);

    tcase_add_test(tests, overwritten_metadata_reaches_nothing_outside);
    tcase_add_test(tests, overwritten_metadata_aborts);
    tcase_add_test(tests, slots_beyond_the_heap_abort);
}
