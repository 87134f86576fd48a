/* SPDX-License-Identifier: MIT */
#include <pkeyguard.h>

#include "base/error_text.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

const char *pkeyguard_version(void)
{
    return STRING(PKEYGUARD_VERSION_MAJOR) "." STRING(PKEYGUARD_VERSION_MINOR) "." STRING(
        PKEYGUARD_VERSION_PATCH);
}

const char *pkeyguard_strerror(int error)
{
    return error_text(error);
}
