/* SPDX-License-Identifier: MIT */
/*
 * openssl_heap.h - OpenSSL's allocations for private keys come from a keyed heap
 *
 * While a private key is made or used, OpenSSL allocates from the heap; at all other times it
 * allocates with malloc. So every byte of the key is in the heap. So are the temporary values of
 * signing (the nonce, blinding, big numbers), and the heap wipes them when they are freed. Copies
 * in registers and on the stack are not protected.
 *
 * OpenSSL also keeps state for the process and for each thread, such as random generators and
 * tables of algorithms. It allocates them at first use, which must not be inside a scope: later
 * uses outside a scope would fault. So sign once with a plain key first, in each thread that signs.
 */
#ifndef OPENSSL_HEAP_H
#define OPENSSL_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard.h>

/* Set once, by openssl_heap_create(). */
extern struct pkeyguard_heap *openssl_heap;

/* The calling thread's allocations go to the heap. Only inside a write scope on its region. */
extern _Thread_local bool in_openssl_heap;

/*
 * Creates the heap and makes OpenSSL use it. OpenSSL must not have allocated anything before, and
 * keeps the heap's functions until the process ends.
 */
void openssl_heap_create(struct pkeyguard_key *key, size_t capacity);

#endif
