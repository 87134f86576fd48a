/* SPDX-License-Identifier: MIT */
/*
 * mistakes.c - mistakes with a heap's objects that a memory checker reports
 *
 * usage: mistakes MISTAKE...
 *
 * Makes these mistakes, one after the other, each in a function with its name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pkeyguard.h>

static struct pkeyguard_heap *heap;

static void require(int right)
{
    if (!right) {
        fputs("mistakes: what is no mistake has failed\n", stderr);
        exit(2);
    }
}

/* The compiler does not know what the object is. */
static char *hidden(void *object)
{
    require(object != NULL);
    __asm__("" : "+r"(object));
    return object;
}

static char *new_object(size_t size)
{
    return hidden(pkeyguard_heap_alloc(heap, size));
}

#define IN_WRITE_SCOPE pkeyguard_scoped_write (char, all, pkeyguard_heap_region(heap))
#define IN_READ_SCOPE  pkeyguard_scoped_read (char, all, pkeyguard_heap_region(heap))

static void write_past_small(void)
{
    volatile char *object = new_object(32);

    IN_WRITE_SCOPE object[32] = 1;
}

/* On a heap that is opened only once, before it has objects. */
static void write_past_in_one_scope(void)
{
    struct pkeyguard_heap *opened_once;

    require(pkeyguard_heap_create(NULL, 64 * 4096, 0, &opened_once) == 0);
    pkeyguard_scoped_write (char, all, pkeyguard_heap_region(opened_once)) {
        volatile char *object = hidden(pkeyguard_heap_alloc(opened_once, 32));

        object[32] = 1;
    }
    require(pkeyguard_heap_destroy(opened_once) == 0);
}

static void write_past_odd(void)
{
    volatile char *object = new_object(13);

    IN_WRITE_SCOPE object[13] = 1;
}

static void write_past_large(void)
{
    volatile char *object = new_object(8192);

    IN_WRITE_SCOPE object[8192] = 1;
}

static void write_past_aligned(void)
{
    volatile char *object = hidden(pkeyguard_heap_aligned_alloc(heap, 4096, 64));

    IN_WRITE_SCOPE object[64] = 1;
}

/* The object stays where it is. */
static void write_past_shrunk(void)
{
    volatile char *object = new_object(100);

    require(hidden(pkeyguard_heap_realloc(heap, (void *)object, 60)) == object);
    IN_WRITE_SCOPE object[60] = 1;
}

static void read_past_in_read_scope(void)
{
    volatile char *object = new_object(32);

    IN_READ_SCOPE(void) object[32];
}

static void read_before(void)
{
    volatile char *first = new_object(32), *object = new_object(32);

    require(object == first + 64);
    IN_READ_SCOPE(void) object[-1];
}

/* No object was ever there. */
static void read_unused(void)
{
    volatile char *object = new_object(32);

    IN_READ_SCOPE(void) object[1024];
}

static void read_freed(void)
{
    volatile char *object = new_object(32);

    require(pkeyguard_heap_free(heap, (void *)object) == 0);
    IN_READ_SCOPE(void) object[31];
}

static void read_freed_large(void)
{
    volatile char *object = new_object(8192);

    require(pkeyguard_heap_free(heap, (void *)object) == 0);
    IN_READ_SCOPE(void) object[0];
}

static void read_moved(void)
{
    volatile char *object = new_object(32);

    require(hidden(pkeyguard_heap_realloc(heap, (void *)object, 200)) != object);
    IN_READ_SCOPE(void) object[0];
}

static void free_twice(void)
{
    char *object = new_object(32);

    require(pkeyguard_heap_free(heap, object) == 0);
    require(pkeyguard_heap_free(heap, object) != 0);
}

static void resize_freed(void)
{
    char *object = new_object(32);

    require(pkeyguard_heap_free(heap, object) == 0);
    require(pkeyguard_heap_realloc(heap, object, 64) == NULL);
}

static const struct mistake {
    const char *name;
    void (*make)(void);
} mistakes[] = {
#define MISTAKE(name) \
    {                 \
#name, name   \
    }
    MISTAKE(write_past_small),
    MISTAKE(write_past_in_one_scope),
    MISTAKE(write_past_odd),
    MISTAKE(write_past_large),
    MISTAKE(write_past_aligned),
    MISTAKE(write_past_shrunk),
    MISTAKE(read_past_in_read_scope),
    MISTAKE(read_before),
    MISTAKE(read_unused),
    MISTAKE(read_freed),
    MISTAKE(read_freed_large),
    MISTAKE(read_moved),
    MISTAKE(free_twice),
    MISTAKE(resize_freed),
};

static const struct mistake *mistake_named(const char *name)
{
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        if (strcmp(mistakes[i].name, name) == 0)
            return &mistakes[i];
    }
    fprintf(stderr, "mistakes: no such mistake: %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    struct pkeyguard_key *key;

    require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) == 0);
    require(pkeyguard_heap_create(key, 64 * 4096, 0, &heap) == 0);
    for (int i = 1; i < argc; i++)
        mistake_named(argv[i])->make();
    require(pkeyguard_heap_destroy(heap) == 0);
    return 0;
}
