/* SPDX-License-Identifier: MIT */
#include "base/error_text.h"

#include <errno.h>

const char *error_text(int error)
{
    switch (error) {
    case 0:
        return "success";
    case -EINVAL:
        return "invalid argument: a missing key or region, unknown rights or flags, or a size that "
               "does not fit";
    case -ENOMEM:
        return "out of memory, of memory mappings, or of memory that may be locked";
    case -EACCES:
        return "a security policy or the memory's backing refuses these page rights";
    case -ENOSPC:
        return "no protection key is left for this process";
    case -ENOTSUP:
        return "not supported by this machine, or not by this kind of key";
    case -EBUSY:
        return "in use: by a region or an open guard, or open guards pin every protection key";
    case -EDEADLK:
        return "called from a signal handler that interrupted the library";
    case -EAGAIN:
        return "not now: a thread has not registered, or there is no room for another process";
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
        return "somebody has unmapped or changed memory of the region";
    case -ENOENT:
        return "no access to a region of this library";
    case -ERANGE:
        return "the buffer is too small";
    default:
        return "unknown error";
    }
}
