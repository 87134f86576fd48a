/* SPDX-License-Identifier: MIT */
/* Access to the PKRU register. */
#include <stdio.h>
#include <string.h>

#include "support.h"

/* /proc/cpuinfo lists ospke if the kernel has set CR4.PKE. */
START_TEST(pkru_supported_agrees_with_the_kernel)
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

/* Clearing bits returns those of them that were set. Guards do this. */
START_TEST(only_the_given_bits_change)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    uint32_t ad = 1u << (2 * pkeyguard_key_number(key)), wd = 2 * ad;
    uint32_t closed = pkeyguard_pkru_read();
    uint64_t zero;

    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad, &zero), ad);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~ad);
    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad | wd, &zero), wd);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~(ad | wd));
    ck_assert_uint_eq(pkeyguard_pkru_clear_bits(ad | wd, &zero), 0);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~(ad | wd));
    pkeyguard_pkru_set_bits(wd);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed & ~ad);
    pkeyguard_pkru_set_bits(ad);
    ck_assert_uint_eq(pkeyguard_pkru_read(), closed);
    destroy(NULL, key);
}
END_TEST

START_TEST(key_owns_two_bits)
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

__attribute__((noinline)) static int read_between_writes(const int *number, uint32_t open,
                                                         uint32_t closed)
{
    int seen;

    pkeyguard_pkru_write(open);
    seen = *number;
    pkeyguard_pkru_write(closed);
    return seen;
}

__attribute__((noinline)) static int add_between_writes(int *number, uint32_t open, uint32_t closed)
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

__attribute__((noinline)) static int read_between_clear_and_set(const int *number, uint32_t bits)
{
    uint64_t zero;
    int seen;

    pkeyguard_pkru_clear_bits(bits, &zero);
    seen = *number;
    pkeyguard_pkru_set_bits(bits);
    return seen;
}

__attribute__((noinline)) static int add_between_clear_and_set(int *number, uint32_t bits)
{
    uint64_t zero;
    int sum = 0;

    for (int i = 0; i < 3; i++) {
        pkeyguard_pkru_clear_bits(bits, &zero);
        *number += i;
        pkeyguard_pkru_set_bits(bits);
        sum += i;
    }
    return sum;
}

__attribute__((noinline)) static int read_in_either_branch(const int *number, uint32_t bits,
                                                           bool twice)
{
    uint64_t zero;
    int seen;

    if (twice) {
        pkeyguard_pkru_clear_bits(bits, &zero);
        seen = *number * 2;
    } else {
        pkeyguard_pkru_clear_bits(bits, &zero);
        seen = *number;
    }
    pkeyguard_pkru_set_bits(bits);
    return seen;
}

/*
 * Without a memory clobber on WRPKRU an optimizing compiler may read a value where it is used,
 * after the closing write; keep a value that a loop stores in a register until the loop ends; and
 * read a value that both branches need before the branches, ahead of the opening write.
 */
START_TEST(compiler_keeps_accesses_between_writes)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);
    int *number = (int *)(void *)address_of(region);
    uint32_t closed = pkeyguard_pkru_read();
    uint32_t bits = 3u << (2 * pkeyguard_key_number(key)), open = closed & ~bits;

    ck_assert_int_eq(add_between_writes(number, open, closed), 3);
    ck_assert_int_eq(read_between_writes(number, open, closed), 3);
    ck_assert_int_eq(add_between_clear_and_set(number, bits), 3);
    ck_assert_int_eq(read_between_clear_and_set(number, bits), 6);
    ck_assert_int_eq(read_in_either_branch(number, bits, bits != 0), 12);
    assert_denied(READ_BYTE, number, key);
    destroy(region, key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pkru");
    TCase *pkru = add_case(suite, "register", NULL, NULL);

    tcase_add_test(pkru, pkru_supported_agrees_with_the_kernel);
    add_pku_test(pkru, only_the_given_bits_change);
    add_pku_test(pkru, key_owns_two_bits);
    add_pku_test(pkru, compiler_keeps_accesses_between_writes);
    return run_suite(suite);
}
