/* SPDX-License-Identifier: MIT */
/*
 * fuzz_heap.c - libFuzzer chooses the steps of heap_model.h
 *
 * The key is optional, so nothing is enforced without PKU. That makes this fast, some hundred
 * thousand steps a second; what is tested is the allocator.
 */
#include <stdio.h>
#include <stdlib.h>

#include "heap_model.h"

static size_t all_steps;

static void report(void)
{
    fprintf(stderr, "steps: %zu\n", all_steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static struct pkeyguard_key *key;

    if (key == NULL) {
        if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_OPTIONAL, &key) != 0)
            abort();
        atexit(report);
    }
    all_steps += heap_model_run(key, bytes, count);
    return 0;
}
