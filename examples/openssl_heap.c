/* SPDX-License-Identifier: MIT */
#include "openssl_heap.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "demonstration.h"

struct pkeyguard_heap *openssl_heap;
_Thread_local bool in_openssl_heap;

static void *openssl_alloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return in_openssl_heap ? pkeyguard_heap_alloc(openssl_heap, size) : malloc(size);
}

static void *openssl_realloc(void *object, size_t size, const char *file, int line)
{
    if (object == NULL)
        return openssl_alloc(size, file, line);
    return pkeyguard_heap_of(object) != NULL ? pkeyguard_heap_realloc(openssl_heap, object, size)
                                             : realloc(object, size);
}

static void openssl_free(void *object, const char *file, int line)
{
    (void)file, (void)line;
    if (pkeyguard_heap_of(object) != NULL)
        check(pkeyguard_heap_free(openssl_heap, object), "freeing an object");
    else
        free(object);
}

void openssl_heap_create(struct pkeyguard_key *key, size_t capacity)
{
    /* OpenSSL takes allocators only before its first allocation. */
    if (CRYPTO_set_mem_functions(openssl_alloc, openssl_realloc, openssl_free) != 1)
        die("OpenSSL has allocated already");
    check(pkeyguard_heap_create(key, capacity, 0, &openssl_heap), "creating a heap");
    check(pkeyguard_region_name(pkeyguard_heap_region(openssl_heap), "private keys"),
          "naming the heap");
}
