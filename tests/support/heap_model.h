/* SPDX-License-Identifier: MIT */
/* heap_model.h - compares a heap with a model of what it should hold, step by step */
#ifndef HEAP_MODEL_H
#define HEAP_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <pkeyguard.h>

/*
 * Makes a heap and does what the bytes say, until they end: allocates, frees, resizes, and hands
 * the heap pointers that it must refuse. After each step heap and model must agree; if they do not,
 * it prints the check that failed and aborts. Returns the number of steps.
 */
size_t heap_model_run(struct pkeyguard_key *key, const uint8_t *bytes, size_t count);

#endif
