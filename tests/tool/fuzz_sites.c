/* SPDX-License-Identifier: MIT */
/* Reads libFuzzer's bytes as an ELF file; see fuzz.sh. */
#include <stdlib.h>
#include <string.h>

#include "sites.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct sites sites;
    char *image = malloc(size); /* libelf may write to it */
    const char *error = NULL;
    Elf *elf;

    if (image == NULL)
        return 0;
    memcpy(image, bytes, size);
    elf_version(EV_CURRENT);
    elf = elf_memory(image, size);
    if (elf != NULL) {
        error = sites_find(elf, &sites);
        /* Names of sites lie inside the file. */
        for (size_t i = 0; error == NULL && i < sites.count; i++) {
            if (sites.list[i].symbol != NULL && strlen(sites.list[i].symbol) > size)
                abort();
        }
        free(sites.list);
    }
    elf_end(elf);
    free(image);
    return 0;
}
