/* SPDX-License-Identifier: MIT */
#include "base/error_text.h"

#include <errno.h>

const char *error_text(int error)
{
    switch (error) {
    case 0:
        return "success";
    case -EINVAL:
        return "invalid argument: no key or region, unknown rights, unknown or contradictory "
               "flags, a size that does not fit, adopted memory that is not aligned or has "
               "different page rights, a virtual key with default rights, or no live object of "
               "the heap";
    case -ENOMEM:
        return "out of memory, of memory mappings, of file descriptors or of memory that may be "
               "locked, or memory that is not mapped, as that of a destroyed region";
    case -EACCES:
        return "refused by a security policy, by a sandbox that does not allow the system call, "
               "or by what backs the memory";
    case -ENOSPC:
        return "no protection key is left for this process, or only those of destroyed keys that a "
               "thread may still have open (see pkeyguard_thread_use_signal())";
    case -ENOTSUP:
        return "not supported by this machine, by this kind of key, or in a plugin that cannot "
               "stay loaded";
    case -EBUSY:
        return "in use: the key by a region or an open guard, the region by an open guard, or "
               "every protection key by open guards that pin it";
    case -EDEADLK:
        return "this thread is inside the library already: called from a fork handler, or from the "
               "handler of a signal that an instruction raised";
    case -EAGAIN:
        return "not now: a thread has not registered (see pkeyguard_thread_register()), a thread "
               "did not answer the signal, or no child process can be created";
    case -EIO:
        return "protection keys are present but do not protect";
    case -ECANCELED:
        return "PKEYGUARD_ENFORCEMENT=mprotect rules protection keys out";
    case -ENOSYS:
        return "the kernel has no protection keys";
    case -EPERM:
        return "not permitted: protection keys or locked memory by the system, or any change of a "
               "sealed region";
    case -ETIMEDOUT:
        return "the time is over, and no protection key became free for this thread";
    case -ESTALE:
        return "memory of the region was unmapped or changed by other code";
    case -EUCLEAN:
        return "the bytes before a region's start were overwritten";
    case -EFAULT:
        return "a forbidden access ended the call";
    case -ENOENT:
        return "no access to a region of this library";
    case -ERANGE:
        return "the buffer is too small";
    default:
        return "unknown error";
    }
}
