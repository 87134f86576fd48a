/* SPDX-License-Identifier: MIT */
/* Faults in the library's own records, which pkeyguard_protect_records() protects. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test_fault.h"

static void set_up_protected(void)
{
    set_up_named_region();
    ck_assert_int_eq(pkeyguard_protect_records(), 0);
}

/* What does not depend on the region is told as for any fault. */
static void assert_decoded_in_records(enum access access, const char *target, int pkey,
                                      enum pkeyguard_rights rights)
{
    ck_assert_int_eq(decode_access(access, target), 0);
    ck_assert_int_eq(last_fault.kind, PKEYGUARD_FAULT_RECORDS);
    ck_assert_int_eq(last_fault.access, reported_access[access]);
    ck_assert_int_eq(last_fault.rights, rights);
    ck_assert_int_eq(last_fault.key_number, pkey);
    ck_assert_ptr_eq(last_fault.address, target);
    ck_assert_int_eq(last_fault.offset, 0);
    ck_assert_str_eq(last_fault.region_name, "");
    ck_assert_uint_eq(last_fault.region_size, 0);
    ck_assert_int_eq(last_fault.thread, gettid());
    ck_assert_ptr_nonnull(last_fault.code);
    ck_assert(!last_fault.initial_rights && !last_fault.page_rights_forbid);
}

/* Returns the start of a writable mapping of the records. The process shares no other memory. */
static char *find_writable_mapping(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    void *start = NULL;

    ck_assert_ptr_nonnull(maps);
    while (start == NULL && fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, " rw-s ") != NULL && strstr(line, "/dev/zero") != NULL)
            ck_assert_int_eq(sscanf(line, "%p-", &start), 1);
    }
    fclose(maps);
    ck_assert_ptr_nonnull(start);
    return start;
}

START_TEST(decode_tells_records)
{
    char *writable = find_writable_mapping();
    int pkey = pkey_of_mapping(writable);

    assert_decoded_in_records(WRITE_BYTE, (char *)key, -1, PKEYGUARD_READ_ONLY);
    assert_decoded_in_records(WRITE_BYTE, (char *)region + 1, -1, PKEYGUARD_READ_ONLY);
    assert_decoded_in_records(WRITE_BYTE, writable, pkey, PKEYGUARD_NO_ACCESS);
    assert_decoded_in_records(READ_BYTE, writable, pkey, PKEYGUARD_NO_ACCESS);
    assert_decoded(WRITE_BYTE, 0, PKEYGUARD_FAULT_BY_KEY, PKEYGUARD_NO_ACCESS);
}
END_TEST

static void write_to_record(void *unused)
{
    (void)unused;
    install_reporter_over(SIG_DFL, PKEYGUARD_REPORTER_GRANT_DEFAULTS);
    access_byte(WRITE_BYTE, region);
}

START_TEST(reporter_explains_a_stray_write_to_a_record)
{
    char line[256];

    snprintf(line, sizeof(line),
             "libpkeyguard: write to the library's own records: pkeyguard_protect_records() "
             "protects them; the pointer is wrong (address %p)\n",
             (void *)region);
    assert_reports(write_to_record, NULL, line, SIGSEGV);
}
END_TEST

static int write_to_record_in_call(void *unused)
{
    (void)unused;
    access_byte(WRITE_BYTE, region);
    return 0;
}

START_TEST(call_survives_a_stray_write_to_a_record)
{
    struct pkeyguard_fault fault;
    int result;

    install_reporter_over(SIG_DFL, PKEYGUARD_REPORTER_RECOVER);
    ck_assert_int_eq(pkeyguard_try_call(write_to_record_in_call, NULL, &result, &fault), -EFAULT);
    ck_assert_int_eq(fault.kind, PKEYGUARD_FAULT_RECORDS);
    ck_assert_ptr_eq(fault.address, region);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 1;
    }
}
END_TEST

void add_records(Suite *suite)
{
    TCase *tests = add_case(suite, "records", set_up_protected, tear_down);

    add_pku_test(tests, decode_tells_records);
    add_pku_test(tests, reporter_explains_a_stray_write_to_a_record);
    add_pku_test(tests, call_survives_a_stray_write_to_a_record);
}
