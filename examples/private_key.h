/* SPDX-License-Identifier: MIT */
/*
 * private_key.h - P-256 keys whose private part only the signing itself can reach
 *
 * A guarded key lies in OpenSSL's heap (openssl_heap.h). The rest of OpenSSL, such as TLS, gets a
 * stand-in for it, which has the public part only. To sign with the stand-in, OpenSSL calls
 * private_key.c, which opens the heap, signs with the key, and closes the heap again. So the code
 * that parses what the network sends runs while the heap is closed.
 *
 * A key that is not guarded, for comparison, has a stand-in, too, but lies in malloc's memory.
 */
#ifndef PRIVATE_KEY_H
#define PRIVATE_KEY_H

#include <stdbool.h>

#include <openssl/types.h>

enum { PRIVATE_KEY_SIZE = 32 }; /* bytes of a private part */

/* It must not move while `use` exists. */
struct private_key {
    bool guarded;
    EC_KEY *key;         /* with the private part; in the heap if guarded */
    EVP_PKEY *use;       /* the stand-in, for the functions of OpenSSL */
    const void *address; /* of the private part: PRIVATE_KEY_SIZE bytes, the lowest first */
};

/* Call it first in each thread that signs: it makes the state that OpenSSL keeps for the thread,
 * and the first time also that for the process. See openssl_heap.h. */
void private_key_warm_up(void);

/* Threads may sign with one key at the same time. Only one thread at a time may make and free
 * keys. */
void private_key_generate(struct private_key *ret_key, bool guarded);
void private_key_free(struct private_key *key);

/* Signs a message as any program does that has an EVP_PKEY. */
void private_key_sign(const struct private_key *key);

/* Whether these bytes, as at `address`, are the private part of this public key. */
bool private_key_is(const unsigned char bytes[PRIVATE_KEY_SIZE], const EVP_PKEY *public_key);

#endif
