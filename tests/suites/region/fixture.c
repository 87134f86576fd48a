/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "test_region.h"

const unsigned each_flag[FLAGS] = {0,
                                   PKEYGUARD_REGION_LOCKED,
                                   PKEYGUARD_REGION_DUMPABLE,
                                   PKEYGUARD_REGION_FORK_WIPE,
                                   PKEYGUARD_REGION_NO_FORK,
                                   PKEYGUARD_REGION_HUGE_PAGES,
                                   PKEYGUARD_REGION_SECRET};

int supported_flags(void)
{
    return test_platform()->secret_memory ? FLAGS : SECRET_FLAG;
}

bool guard_pages_inside(unsigned flags)
{
    return test_platform()->guard_madvise &&
           !(flags & (PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED |
                      PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_SEALED));
}

struct pkeyguard_region *region_with_flags(struct pkeyguard_key *key, size_t size, unsigned flags)
{
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_create(key, size, PAGE_RW, flags, &region), 0);
    ck_assert_ptr_nonnull(region);
    return region;
}

void assert_guard_pages(const struct pkeyguard_region *region, unsigned flags, bool open)
{
    const struct pkeyguard_key *key = pkeyguard_region_key(region);
    size_t pages = (pkeyguard_region_size(region) + PAGE_BYTES - 1) / PAGE_BYTES;
    char *ends[] = {address_of(region) - PAGE_BYTES, address_of(region) - 1,
                    address_of(region) + pages * PAGE_BYTES,
                    address_of(region) + pages * PAGE_BYTES + PAGE_BYTES - 1};

    for (int i = 0; i < 4; i++) {
        for (enum access access = READ_BYTE; access <= WRITE_BYTE; access++) {
            if (!guard_pages_inside(flags))
                assert_page_denied(access, ends[i]);
            else if (open)
                assert_fault_(access, ends[i], SEGV_MAPERR, -1);
            else
                assert_denied(access, ends[i], key);
        }
    }
}

int bytes_of_mapping(const void *address)
{
    char line[512];
    unsigned long start, end;

    read_smaps(address, NULL, line, sizeof(line));
    ck_assert_int_eq(sscanf(line, "%lx-%lx", &start, &end), 2);
    return (int)(end - start);
}

bool has_vm_flag(const void *address, const char *flag)
{
    char flags[256];

    read_smaps(address, "VmFlags:", flags, sizeof(flags));
    ck_assert_str_ne(flags, "");
    return strstr(flags, flag) != NULL;
}

void write_secret(char *secret)
{
    for (int i = 0; i < 64; i++)
        ((volatile char *)secret)[i] = (char)(i * i + 7 * i + 131);
}

bool is_secret(const char *bytes)
{
    for (int i = 0; i < 64; i++) {
        if (bytes[i] != (char)(i * i + 7 * i + 131))
            return false;
    }
    return true;
}
