/* SPDX-License-Identifier: MIT */
/*
 * memory_checker.h - tells a memory checker which bytes of a heap are objects
 *
 * The library is not compiled for a checker. AddressSanitizer is there if the program is compiled
 * with it, and valgrind's memcheck if it runs the program. Then each heap has the checker's
 * functions, and calls them only on slow paths. Addresses are multiples of 16, sizes are in bytes,
 * any number.
 */
#ifndef MEMORY_CHECKER_H
#define MEMORY_CHECKER_H

#include <stdbool.h>
#include <stddef.h>

struct memory_checker {
    /* The program may not access these bytes. None is in an object. */
    void (*close)(const char *start, size_t size);

    /* The bytes were closed, and are an object now. An object's end is closed, from its new size
     * on. All of an object is closed. */
    void (*allocated)(char *object, size_t size);
    void (*shrunk)(char *object, size_t size_before, size_t size);
    void (*freed)(char *object, size_t size);

    /* The program gave a heap the address of one of its bytes as that of an object. None is there.
     * This reports it, and may end the process. */
    void (*refused)(char *address);

    /* Between these the calling thread may access closed bytes. They do not nest. A function with
     * NOT_CHECKED_BY_ASAN needs no such permission of AddressSanitizer. */
    void (*pause)(void);
    void (*resume)(void);

    /* The memory is no heap's any more. There may be objects in it, and closed bytes. */
    void (*end)(char *start, size_t size);

    /* True if mprotect(2) makes closed bytes accessible for the checker. */
    bool forgets_at_mprotect;
};

#define NOT_CHECKED_BY_ASAN __attribute__((no_sanitize_address))

/*
 * Returns the checker that this process has; NULL: none, or the environment has
 * PKEYGUARD_MEMORY_CHECKER=none.
 */
const struct memory_checker *memory_checker_find(void);

#endif
