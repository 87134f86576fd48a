/* SPDX-License-Identifier: MIT */
/*
 * malloc_victim - mistakes with freed memory that glibc's malloc lets pass, and malloc.c does not
 *
 * usage: malloc_victim --double-free | --write-after-free | --read-after-free
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 64, TEXT = 32 }; /* glibc uses the first 16 bytes of a freed object itself */

/* The assembler hides from the compiler which functions are called, and so what is wrong. */
static void *take(void)
{
    void *(*function)(size_t) = malloc;

    __asm__("" : "+r"(function));
    return function(SIZE);
}

static void give_back(void *object)
{
    void (*function)(void *) = free;

    __asm__("" : "+r"(function));
    function(object);
}

/* glibc keeps 7 freed objects of a size in a cache; behind these it compares only with the last. */
static void free_twice(void)
{
    void *cached[7], *objects[3], *first = take(), *second = take();

    for (int i = 0; i < 7; i++)
        cached[i] = take();
    for (int i = 0; i < 7; i++)
        give_back(cached[i]);
    give_back(first);
    give_back(second);
    give_back(first);
    for (int i = 0; i < 7; i++)
        cached[i] = take();
    for (int i = 0; i < 3; i++)
        objects[i] = take();
    puts(objects[0] == objects[2] ? "two objects have the same memory"
                                  : "each object has memory of its own");
}

static void write_after_free(void)
{
    char *object = take();

    give_back(object);
    snprintf(object + TEXT, SIZE - TEXT, "is an administrator");
    for (int i = 0; i < 100; i++) {
        char *other = take();

        if (strcmp(other + TEXT, "is an administrator") == 0) {
            puts("another object has what was written to the freed one");
            return;
        }
        give_back(other);
    }
    puts("no other object has what was written to the freed one");
}

static void read_after_free(void)
{
    char *object = take();

    snprintf(object + TEXT, SIZE - TEXT, "the password");
    give_back(object);
    printf("the freed object has: %s\n", object[TEXT] == '\0' ? "nothing" : object + TEXT);
}

int main(int argc, char **argv)
{
    const char *option = argc == 2 ? argv[1] : "";

    setvbuf(stdout, NULL, _IONBF, 0); /* a buffer's allocation may find what is damaged */
    if (strcmp(option, "--double-free") == 0) {
        free_twice();
    } else if (strcmp(option, "--write-after-free") == 0) {
        write_after_free();
    } else if (strcmp(option, "--read-after-free") == 0) {
        read_after_free();
    } else {
        fprintf(stderr, "usage: malloc_victim --double-free | --write-after-free | "
                        "--read-after-free\n");
        return 2;
    }
    return EXIT_SUCCESS;
}
