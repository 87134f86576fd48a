/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "support.h"

/* /proc/cpuinfo lists ospke where the kernel has set CR4.PKE. */
START_TEST(supported_is_what_the_kernel_says)
{
    char line[8192];
    bool listed = false;
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");

    ck_assert_ptr_nonnull(cpuinfo);
    while (fgets(line, sizeof(line), cpuinfo) != NULL)
        listed = listed || (strncmp(line, "flags", 5) == 0 && strstr(line, " ospke") != NULL);
    fclose(cpuinfo);
    ck_assert_int_eq(pkeyguard_pkru_supported(), listed);
}
END_TEST

START_TEST(a_key_owns_two_bits)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0);
    uint32_t ad = 1u << (2 * pkeyguard_key_number(key)), wd = 2 * ad;
    uint32_t open = pkeyguard_pkru_read();

    ck_assert_uint_eq(open & (ad | wd), 0);
    pkeyguard_pkru_write(open | ad);
    ck_assert_uint_eq(pkeyguard_pkru_read(), open | ad);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_NO_ACCESS);
    pkeyguard_pkru_write(open | wd);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_ONLY);
    pkeyguard_pkru_write(open | ad | wd);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_NO_ACCESS);
    pkeyguard_pkru_write(open);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_WRITE);
    destroy(NULL, key);
}
END_TEST

/*
 * Without a memory clobber on WRPKRU, gcc -O2 reads after the closing write or before the opening
 * one: the value is used only after the scope, and the store only after it.
 */
START_TEST(accesses_stay_between_the_writes)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);
    int total = 0;

    for (int i = 0; i < 3; i++) {
        pkeyguard_scoped_write (int, number, region) {
            *number = i;
        }
        pkeyguard_scoped_read (int, number, region) {
            total += *number;
        }
    }
    ck_assert_int_eq(total, 3);
    assert_denied(READ_BYTE, address_of(region), key);
    destroy(region, key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pkru");
    TCase *pkru = tcase_create("register");

    suite_add_tcase(suite, pkru);
    tcase_add_test(pkru, supported_is_what_the_kernel_says);
    add_pku_test(pkru, a_key_owns_two_bits);
    tcase_add_test(pkru, accesses_stay_between_the_writes);
    return run_suite(suite);
}
