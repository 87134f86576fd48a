/* SPDX-License-Identifier: MIT */
/*
 * place.h - what not every C library and processor has that the suites are built for
 *
 * What needs it is left out where it is missing: by name, and with the reason given here.
 */
#ifndef PLACE_H
#define PLACE_H

#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __GLIBC__
#define HAS_UNWINDING   1
#define HAS_SWAPCONTEXT 1
/* malloc takes the little that the library asks of it from the one mapping named [heap]. */
#define MALLOC_IS_IN_HEAP 1
#else
#define HAS_UNWINDING                    0
#define HAS_SWAPCONTEXT                  0
#define MALLOC_IS_IN_HEAP                0
/* Declared at best. Some here fail if they are called. */
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

/* The build tells: a compiler for another processor may find the header, too. */
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

/* Or can pretend to have them: the library knows how they are used. */
#ifdef __x86_64__
#define HAS_PKEYS 1
#else
#define HAS_PKEYS 0
#endif
#define NO_PKEYS "not here: this processor has no protection keys"

#endif
