/* SPDX-License-Identifier: MIT */
#include "plugin.h"

#include <stddef.h>

#include <pkeyguard.h>

#ifdef CANNOT_STAY_LOADED
/* The library finds this one instead of the C library's. */
__attribute__((visibility("hidden"))) void *dlsym(void *handle, const char *name);

void *dlsym(void *handle, const char *name)
{
    (void)handle, (void)name;
    return NULL;
}
#endif

static int install_reporter(void)
{
    return pkeyguard_fault_reporter_install(0);
}

static int make_and_end_key(void)
{
    struct pkeyguard_key *key;
    int error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key);

    return error != 0 ? error : pkeyguard_key_destroy(key);
}

extern const struct plugin plugin;
const struct plugin plugin = {
    .install_reporter = install_reporter,
    .use_signal = pkeyguard_thread_use_signal,
    .make_and_end_key = make_and_end_key,
};
