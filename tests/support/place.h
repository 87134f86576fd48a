/* SPDX-License-Identifier: MIT */
/*
 * place.h - what is missing from some C libraries and processors that the suites are built for
 *
 * A test that needs it is left out there, and run_suite()'s output names the test and the reason
 * given here.
 */
#ifndef PLACE_H
#define PLACE_H

#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __GLIBC__
#define HAS_UNWINDING   1
#define HAS_SWAPCONTEXT 1
/* malloc serves the library's few small requests from the one mapping named [heap]. */
#define MALLOC_IS_IN_HEAP 1
#else
#define HAS_UNWINDING                    0
#define HAS_SWAPCONTEXT                  0
#define MALLOC_IS_IN_HEAP                0
/* At best these are declared. The stand-ins let the tests compile; most fail if they are called. */
#define getcontext(context)              ((void)(context), -1)
#define makecontext(context, start, ...) ((void)(context), (void)(start))
#define swapcontext(from, to)            ((void)(from), (void)(to), -1)

enum { PKEY_DISABLE_ACCESS = 1, PKEY_DISABLE_WRITE = 2 };
static inline int pkey_set(int pkey, unsigned rights)
{
    (void)pkey, (void)rights;
    return -1;
}
static inline int pkey_get(int pkey)
{
    (void)pkey;
    return -1;
}
static inline int pkey_alloc(unsigned flags, unsigned rights)
{
    return (int)syscall(SYS_pkey_alloc, flags, rights);
}
static inline int pkey_free(int pkey)
{
    return (int)syscall(SYS_pkey_free, pkey);
}
static inline int pkey_mprotect(void *memory, size_t length, int prot, int pkey)
{
    return (int)syscall(SYS_pkey_mprotect, memory, length, prot, pkey);
}
#endif
#define NO_UNWINDING   "not here: this C library ends a thread without unwinding its stack"
#define NO_SWAPCONTEXT "not here: this C library has no swapcontext(3)"

/* Defined by the build: a compiler for another processor may find this machine's header. */
#ifdef HAS_PCL
#include <pcl.h>
#else
#define HAS_PCL                             0
typedef void *coroutine_t;
#define co_thread_init()                    (-1)
#define co_thread_cleanup()                 ((void)0)
#define co_create(start, data, stack, size) ((void)(start), (void)(data), NULL)
#define co_delete(coroutine)                ((void)(coroutine))
#define co_call(coroutine)                  ((void)(coroutine))
#define co_resume()                         ((void)0)
#endif
#define NO_PCL "not here: there is no Portable Coroutine Library"

/* The library can use pkeys on this architecture, or a test can pretend that the CPU has them. */
#ifdef __x86_64__
#define HAS_PKEYS 1
#else
#define HAS_PKEYS 0
#endif
#define NO_PKEYS "not here: this processor has no protection keys"

#endif
