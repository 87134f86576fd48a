/* SPDX-License-Identifier: MIT */
#include "base/keep_loaded.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>

#ifdef __GLIBC__

/*
 * The reference is weak, so that a static program is not linked with the loader because of it.
 * Before glibc 2.34 dlsym is in libdl, which every program that loads plugins has. dlopen(3) itself
 * is looked up by name, because any reference to it in a static program draws a warning from the
 * linker.
 */
#pragma weak dlsym

static int find_own_object(struct dl_phdr_info *object, size_t size, void *ret_object)
{
    uintptr_t own = (uintptr_t)keep_loaded;

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];

        if (segment->p_type == PT_LOAD &&
            own - object->dlpi_addr - segment->p_vaddr < segment->p_memsz) {
            *(struct dl_phdr_info *)ret_object = *object;
            return 1;
        }
    }
    return 0;
}

/* dlopen(3) finds the loaded object by its name and only marks it. */
static bool mark_undeletable(const char *name)
{
    void *(*open)(const char *name, int flags) = NULL;

    if (dlsym != NULL)
        *(void **)&open = dlsym(RTLD_DEFAULT, "dlopen");
    return open != NULL && open(name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}

int keep_loaded(void)
{
    struct dl_phdr_info object;

    /* The program itself is never unloaded. */
    if (dl_iterate_phdr(find_own_object, &object) == 0 ||
        (uintptr_t)object.dlpi_phdr == getauxval(AT_PHDR))
        return 0;
    return mark_undeletable(object.dlpi_name) ? 0 : -ENOTSUP;
}

#else

/* musl's dlclose(3) unloads nothing. */
int keep_loaded(void)
{
    return 0;
}

#endif
