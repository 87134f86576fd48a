/* SPDX-License-Identifier: MIT */
#include "heap/memory_checker.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef PKEYGUARD_HAS_MEMCHECK
#include <valgrind/memcheck.h>
#endif

/*
 * ---- AddressSanitizer ----
 *
 * These functions are declared in <sanitizer/asan_interface.h>, which a compiler need not have.
 */

#define IF_THERE(name) __asm__(name) __attribute__((weak))
void asan_poison(const volatile void *start, size_t size) IF_THERE("__asan_poison_memory_region");
void asan_unpoison(const volatile void *start, size_t size)
    IF_THERE("__asan_unpoison_memory_region");
int asan_is_poisoned(const volatile void *address) IF_THERE("__asan_address_is_poisoned");
void asan_report(void *pc, void *frame, void *stack, void *address, int is_write, size_t size)
    IF_THERE("__asan_report_error");
void asan_print_line(const char *line) IF_THERE("__sanitizer_report_error_summary");

static bool has_address_sanitizer(void)
{
    return asan_poison != NULL && asan_unpoison != NULL && asan_is_poisoned != NULL &&
           asan_report != NULL && asan_print_line != NULL;
}

static void asan_make_accessible(char *start, size_t size)
{
    asan_unpoison(start, size);
}

static void asan_close(const char *start, size_t size)
{
    asan_poison(start, size);
}

static void asan_shrunk(char *object, size_t size_before, size_t size)
{
    asan_poison(object + size, size_before - size);
}

static void asan_freed(char *object, size_t size)
{
    asan_poison(object, size);
}

/* A part of a live object is not poisoned. There is nothing wrong that the report could show. */
static __attribute__((noinline)) void asan_refused(char *address)
{
    char *frame = __builtin_frame_address(0);

    if (!asan_is_poisoned(address))
        return;
    asan_print_line(
        "libpkeyguard: double free: an object of a heap is freed or resized that is free already");
    asan_report(__builtin_return_address(0), frame, frame, address, true, 1);
}

static void asan_pause_or_resume(void)
{
}

static const struct memory_checker address_sanitizer = {
    .close = asan_close,
    .allocated = asan_make_accessible,
    .shrunk = asan_shrunk,
    .freed = asan_freed,
    .refused = asan_refused,
    .pause = asan_pause_or_resume,
    .resume = asan_pause_or_resume,
    .end = asan_make_accessible,
};

/* ---- memcheck ---- */

#ifdef PKEYGUARD_HAS_MEMCHECK

/* Other tools of valgrind do not know this request. */
static bool has_memcheck(void)
{
    char byte = 0;

    return VALGRIND_MAKE_MEM_DEFINED(&byte, sizeof(byte)) != 0;
}

static void memcheck_close(const char *start, size_t size)
{
    (void)VALGRIND_MAKE_MEM_NOACCESS(start, size);
}

static void memcheck_allocated(char *object, size_t size)
{
    VALGRIND_MALLOCLIKE_BLOCK(object, size, 0, true);
}

static void memcheck_shrunk(char *object, size_t size_before, size_t size)
{
    VALGRIND_RESIZEINPLACE_BLOCK(object, size_before, size, 0);
}

static void memcheck_freed(char *object, size_t size)
{
    (void)size;
    VALGRIND_FREELIKE_BLOCK(object, 0);
}

static void memcheck_refused(char *address)
{
    VALGRIND_FREELIKE_BLOCK(address, 0);
}

static void memcheck_pause(void)
{
    VALGRIND_DISABLE_ERROR_REPORTING;
}

static void memcheck_resume(void)
{
    VALGRIND_ENABLE_ERROR_REPORTING;
}

/* memcheck frees the blocks that are in a chunk of such a pool when it frees the chunk. */
static void memcheck_end(char *start, size_t size)
{
    VALGRIND_CREATE_MEMPOOL_EXT(start, 0, true,
                                VALGRIND_MEMPOOL_METAPOOL | VALGRIND_MEMPOOL_AUTO_FREE);
    VALGRIND_MEMPOOL_ALLOC(start, start, size);
    VALGRIND_MEMPOOL_FREE(start, start);
    VALGRIND_DESTROY_MEMPOOL(start);
    (void)VALGRIND_MAKE_MEM_DEFINED(start, size);
}

static const struct memory_checker memcheck = {
    .close = memcheck_close,
    .allocated = memcheck_allocated,
    .shrunk = memcheck_shrunk,
    .freed = memcheck_freed,
    .refused = memcheck_refused,
    .pause = memcheck_pause,
    .resume = memcheck_resume,
    .end = memcheck_end,
    .forgets_at_mprotect = true,
};

static const struct memory_checker *find_memcheck(void)
{
    return has_memcheck() ? &memcheck : NULL;
}

#else

static const struct memory_checker *find_memcheck(void)
{
    return NULL;
}

#endif

static bool is_wanted(void)
{
    const char *wanted = secure_getenv("PKEYGUARD_MEMORY_CHECKER");

    return wanted == NULL || strcmp(wanted, "none") != 0;
}

const struct memory_checker *memory_checker_find(void)
{
    const struct memory_checker *checker =
        has_address_sanitizer() ? &address_sanitizer : find_memcheck();

    return checker != NULL && is_wanted() ? checker : NULL;
}
