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

/* What guards do: only these bits change, and the answer is those of them that were set. */
START_TEST(bits_are_cleared_and_set_again)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    uint32_t ad = 1u << (2 * pkeyguard_key_number(key)), wd = 2 * ad;
    uint32_t closed = pkeyguard_pkru_read();

    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad), ad);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~ad);
    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad | wd), wd);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~(ad | wd));
    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad | wd), 0);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~(ad | wd));
    pkeyguard_pkru_set_bits(wd);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~ad);
    pkeyguard_pkru_set_bits(ad);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed);
    destroy(NULL, key);
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

__attribute__((noinline)) static int read_open(const int *number, uint32_t open, uint32_t closed)
{
    int seen;

    pkeyguard_pkru_write(open);
    seen = *number;
    pkeyguard_pkru_write(closed);
    return seen;
}

__attribute__((noinline)) static int add_open(int *number, uint32_t open, uint32_t closed)
{
    int sum = 0;

    for (int i = 0; i < 3; i++) {
        pkeyguard_pkru_write(open);
        *number += i;
        pkeyguard_pkru_write(closed);
        sum += i;
    }
    return sum;
}

__attribute__((noinline)) static int read_cleared(const int *number, uint32_t bits)
{
    int seen;

    pkeyguard_pkru_clear_bits(bits);
    seen = *number;
    pkeyguard_pkru_set_bits(bits);
    return seen;
}

__attribute__((noinline)) static int add_cleared(int *number, uint32_t bits)
{
    int sum = 0;

    for (int i = 0; i < 3; i++) {
        pkeyguard_pkru_clear_bits(bits);
        *number += i;
        pkeyguard_pkru_set_bits(bits);
        sum += i;
    }
    return sum;
}

__attribute__((noinline)) static int read_either(const int *number, uint32_t bits, bool twice)
{
    int seen;

    if (twice) {
        pkeyguard_pkru_clear_bits(bits);
        seen = *number * 2;
    } else {
        pkeyguard_pkru_clear_bits(bits);
        seen = *number;
    }
    pkeyguard_pkru_set_bits(bits);
    return seen;
}

/*
 * Without a memory clobber on WRPKRU, optimizing compilers read a value where it is used, after the
 * closing write, keep one that is stored in a loop in a register until the loop's end, and read one
 * that both branches want before either, ahead of the opening write.
 */
START_TEST(the_compiler_keeps_accesses_between_writes)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);
    int *number = (int *)(void *)address_of(region);
    uint32_t closed = pkeyguard_pkru_read();
    uint32_t bits = 3u << (2 * pkeyguard_key_number(key)), open = closed & ~bits;

    ck_assert_int_eq(add_open(number, open, closed), 3);
    ck_assert_int_eq(read_open(number, open, closed), 3);
    ck_assert_int_eq(add_cleared(number, bits), 3);
    ck_assert_int_eq(read_cleared(number, bits), 6);
    ck_assert_int_eq(read_either(number, bits, bits != 0), 12);
    assert_denied(READ_BYTE, number, key);
    destroy(region, key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pkru");
    TCase *pkru = tcase_create("register");

    suite_add_tcase(suite, pkru);
    tcase_add_test(pkru, supported_is_what_the_kernel_says);
    add_pku_test(pkru, bits_are_cleared_and_set_again);
    add_pku_test(pkru, a_key_owns_two_bits);
    add_pku_test(pkru, the_compiler_keeps_accesses_between_writes);
    return run_suite(suite);
}
