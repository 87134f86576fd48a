/* SPDX-License-Identifier: MIT */
/* heap_model.h - a heap beside a model of what it should hold, step by step */
#ifndef HEAP_MODEL_H
#define HEAP_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <pkeyguard.h>

/*
 * Makes a heap and does what the bytes say, until they end: allocates, frees, resizes, and hands it
 * pointers that it must refuse. After every step heap and model must agree: else it says how they
 * do not, and aborts. Returns how many steps it made.
 */
size_t heap_model_run(struct pkeyguard_key *key, const uint8_t *bytes, size_t count);

#endif
