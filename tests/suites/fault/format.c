/* SPDX-License-Identifier: MIT */
/* pkeyguard_fault_format(): the sentence for each fault. */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "test_fault.h"

static const char longest_name[] = "0123456789012345678901234567890123456789"
                                   "01234567890123456789012";

static const struct {
    enum pkeyguard_fault_kind kind;
    enum pkeyguard_access access;
    enum pkeyguard_rights rights;
    bool initial_rights, page_rights_forbid;
    int key_number;
    ptrdiff_t offset;
    const char *region, *words;
} sentences[] = {
#define BY_KEY   PKEYGUARD_FAULT_BY_KEY
#define BY_PAGE  PKEYGUARD_FAULT_BY_PAGE
#define BEYOND   PKEYGUARD_FAULT_GUARD_PAGE
#define RECORDS  PKEYGUARD_FAULT_RECORDS
#define READS    PKEYGUARD_READ_ACCESS
#define WRITES   PKEYGUARD_WRITE_ACCESS
#define EXECUTES PKEYGUARD_EXECUTE_ACCESS
#define CLOSED   PKEYGUARD_NO_ACCESS
#define READABLE PKEYGUARD_READ_ONLY
#define OPEN     PKEYGUARD_READ_WRITE
    {BY_KEY, WRITES, READABLE, false, false, 15, 0x10, "keys",
     "write to region 'keys' + 0x10: this thread has it read-only; open a write scope "
     "(pkey 15, address 0x7f0012345678)"},
    {BY_KEY, WRITES, CLOSED, false, false, 15, 0x1000, "keys",
     "write to region 'keys' + 0x1000: this thread has no access; open a write scope "
     "(pkey 15, address 0x7f0012345678)"},
    {BY_KEY, READS, CLOSED, false, false, 1, 0, "keys",
     "read of region 'keys' + 0x0: this thread has no access; open a read scope "
     "(pkey 1, address 0x7f0012345678)"},
    {BY_KEY, WRITES, CLOSED, false, false, 1, -20, "keys",
     "write to region 'keys' - 0x14: this thread has no access; open a write scope "
     "(pkey 1, address 0x7f0012345678)"},
    {BY_KEY, READS, CLOSED, true, false, 1, 0, "",
     "read of a region without a name + 0x0: this thread has no access: it is older than the key, "
     "or in a signal handler; open a read scope, or call pkeyguard_thread_reset() for the default "
     "rights (pkey 1, address 0x7f0012345678)"},
    {BY_PAGE, WRITES, CLOSED, false, false, -1, 1, "keys",
     "write to region 'keys' + 0x1: no guard has it open; open a write scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, READS, CLOSED, false, false, -1, 0, "keys",
     "read of region 'keys' + 0x0: no guard has it open; open a read scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, WRITES, READABLE, false, false, -1, 0, "keys",
     "write to region 'keys' + 0x0: no guard has it open for writing; open a write scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, EXECUTES, CLOSED, false, false, -1, 0, "keys",
     "execution of region 'keys' + 0x0: its key is closed; code needs a dedicated key, or a key "
     "whose default rights are PKEYGUARD_READ_ONLY (address 0x7f0012345678)"},
    {BY_PAGE, EXECUTES, CLOSED, false, true, -1, 0, "keys",
     "execution of region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_PAGE, WRITES, CLOSED, false, true, -1, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_KEY, WRITES, CLOSED, true, true, 3, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (pkey 3, address 0x7f0012345678)"},
    {BY_PAGE, EXECUTES, READABLE, false, false, -1, 0, "keys",
     "execution of region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_PAGE, WRITES, OPEN, false, false, -1, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_PAGE, WRITES, CLOSED, false, false, 2, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (pkey 2, address 0x7f0012345678)"},
    {BEYOND, WRITES, OPEN, false, false, -1, SIZE, "keys",
     "write 1 byte past the end of region 'keys': an index or a length is out of bounds "
     "(address 0x7f0012345678)"},
    {BEYOND, READS, OPEN, false, false, -1, LENGTH, "keys",
     "read 3193 bytes past the end of region 'keys': an index or a length is out of bounds "
     "(address 0x7f0012345678)"},
    {BEYOND, READS, CLOSED, false, false, 1, -1, "",
     "read 1 byte before the start of a region without a name: an index or a length is out of "
     "bounds (pkey 1, address 0x7f0012345678)"},
    {RECORDS, WRITES, CLOSED, false, false, 2, 0, "",
     "write to the library's own records: pkeyguard_protect_records() protects them; the pointer "
     "is "
     "wrong (pkey 2, address 0x7f0012345678)"},
    {RECORDS, READS, CLOSED, false, false, 2, 0, "",
     "read of the library's own records: pkeyguard_protect_records() protects them; the pointer is "
     "wrong (pkey 2, address 0x7f0012345678)"},
};
enum { SENTENCES = sizeof(sentences) / sizeof(*sentences) };

static struct pkeyguard_fault fault_of(int sentence)
{
    struct pkeyguard_fault described = {.kind = sentences[sentence].kind,
                                        .access = sentences[sentence].access,
                                        .rights = sentences[sentence].rights,
                                        .initial_rights = sentences[sentence].initial_rights,
                                        .key_number = sentences[sentence].key_number,
                                        .address = (void *)0x7f0012345678,
                                        .offset = sentences[sentence].offset,
                                        .page_rights_forbid =
                                            sentences[sentence].page_rights_forbid,
                                        .region_size = SIZE};

    strcpy(described.region_name, sentences[sentence].region);
    return described;
}

START_TEST(format_has_a_sentence_for_each_fault)
{
    struct pkeyguard_fault described = fault_of(_i);
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(pkeyguard_fault_format(&described, text, sizeof(text)), 0);
    ck_assert_str_eq(text, sentences[_i].words);
}
END_TEST

static const struct {
    int thread;
    void *code;
    const char *name, *file, *words; /* the end of the text */
} places[] = {
    {4711, (void *)0x5501, "worker", "/usr/bin/vault",
     "address 0x7f0012345678) in thread 4711 'worker' at /usr/bin/vault + 0x1a2b"},
    {1, (void *)0x5501, "a\n\x7f\x9b", "/caf\xc3/\x1b[0m",
     "address 0x7f0012345678) in thread 1 'a?"
     "?"
     "?' at /caf?/?[0m + 0x1a2b"},
    {1, (void *)0x5501, "worker", "", "address 0x7f0012345678) in thread 1 'worker' at 0x5501"},
    {1, NULL, "", "", "address 0x7f0012345678) in thread 1 ''"},
};
enum { PLACES = sizeof(places) / sizeof(*places) };

START_TEST(format_names_the_thread_and_the_code)
{
    struct pkeyguard_fault described = fault_of(0);
    char text[PKEYGUARD_FAULT_TEXT_SIZE];
    size_t length = strlen(places[_i].words);

    described.thread = places[_i].thread;
    described.code = places[_i].code;
    described.code_offset = 0x1a2b;
    strcpy(described.thread_name, places[_i].name);
    strcpy(described.code_file, places[_i].file);
    ck_assert_int_eq(pkeyguard_fault_format(&described, text, sizeof(text)), 0);
    ck_assert_uint_gt(strlen(text), length);
    ck_assert_str_eq(text + strlen(text) - length, places[_i].words);
}
END_TEST

START_TEST(format_truncates_in_small_buffers)
{
    struct pkeyguard_fault described = fault_of(0);
    const char *words = sentences[0].words;
    size_t length = strlen(words);
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    for (size_t size = 0; size <= length + 1; size++) {
        memset(text, 'x', sizeof(text));
        ck_assert_int_eq(pkeyguard_fault_format(&described, text, size),
                         size <= length ? -ERANGE : 0);
        if (size > 0) {
            ck_assert_uint_eq(strlen(text), size - 1);
            ck_assert_mem_eq(text, words, size - 1);
        }
        ck_assert_int_eq(text[size], 'x');
    }
    ck_assert_int_eq(pkeyguard_fault_format(&described, NULL, 0), -ERANGE);
}
END_TEST

START_TEST(format_fits_the_longest_text)
{
    struct pkeyguard_fault longest = {.kind = PKEYGUARD_FAULT_BY_KEY,
                                      .access = PKEYGUARD_WRITE_ACCESS,
                                      .rights = PKEYGUARD_NO_ACCESS,
                                      .initial_rights = true,
                                      .key_number = 15,
                                      .address = (void *)UINTPTR_MAX,
                                      .offset = PTRDIFF_MAX,
                                      .thread = INT_MAX,
                                      .code = (void *)UINTPTR_MAX,
                                      .code_offset = SIZE_MAX};
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    memcpy(longest.region_name, longest_name, sizeof(longest_name));
    memset(longest.thread_name, 't', sizeof(longest.thread_name) - 1);
    memset(longest.code_file, 'f', sizeof(longest.code_file) - 1);
    ck_assert_int_eq(pkeyguard_fault_format(&longest, text, sizeof(text)), 0);
    longest.kind = PKEYGUARD_FAULT_GUARD_PAGE;
    longest.offset = PTRDIFF_MIN;
    ck_assert_int_eq(pkeyguard_fault_format(&longest, text, sizeof(text)), 0);
    ck_assert_ptr_nonnull(strstr(text, "write 9223372036854775808 bytes before"));
}
END_TEST

START_TEST(decoded_fault_is_formatted)
{
    char text[PKEYGUARD_FAULT_TEXT_SIZE], expected[PKEYGUARD_FAULT_TEXT_SIZE], number[16] = "";

    if (pku())
        snprintf(number, sizeof(number), "pkey %d, ", pkeyguard_key_number(key));
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(decode_access(WRITE_BYTE, &bytes[0x10]), 0);
    }
    ck_assert_int_eq(pkeyguard_fault_format(&last_fault, text, sizeof(text)), 0);
    snprintf(
        expected, sizeof(expected),
        "write to region 'session keys' + 0x10: %s; open a write scope (%saddress %p) in thread ",
        pku() ? "this thread has it read-only" : "no guard has it open for writing", number,
        (void *)(address + 0x10));
    ck_assert_mem_eq(text, expected, strlen(expected));
}
END_TEST

/* Software keys, so that the page tables stop the access. */
static const struct {
    enum pkeyguard_rights default_rights;
    int prot;
    enum access access;
    const char *words; /* the middle of the text */
} without_guards[] = {
    {PKEYGUARD_READ_ONLY, PAGE_RW, WRITE_BYTE, ": no guard has it open for writing; open a write "},
    {PKEYGUARD_READ_ONLY, PROT_READ, WRITE_BYTE, ": its page rights forbid it; "},
    {PKEYGUARD_NO_ACCESS, PROT_READ, WRITE_BYTE, ": its page rights forbid it; "},
    {PKEYGUARD_NO_ACCESS, PROT_READ, READ_BYTE, ": no guard has it open; open a read scope "},
    {PKEYGUARD_NO_ACCESS, PROT_READ | PROT_EXEC, EXECUTE, ": its key is closed; code needs "},
    {PKEYGUARD_NO_ACCESS, PROT_READ, EXECUTE, ": its page rights forbid it; "},
    {PKEYGUARD_READ_ONLY, PROT_READ, EXECUTE, ": its page rights forbid it; "},
};
enum { WITHOUT_GUARDS = sizeof(without_guards) / sizeof(*without_guards) };

START_TEST(advice_helps_where_no_guard_is_open)
{
    struct pkeyguard_key *software =
        new_key(without_guards[_i].default_rights, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_region *closed;
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    /* valgrind's signal frames do not tell execution. */
    if (under_tool("valgrind") && without_guards[_i].access == EXECUTE)
        return;
    ck_assert_int_eq(pkeyguard_region_create(software, SIZE, without_guards[_i].prot, 0, &closed),
                     0);
    ck_assert_int_eq(decode_access(without_guards[_i].access, address_of(closed)), 0);
    ck_assert_int_eq(pkeyguard_fault_format(&last_fault, text, sizeof(text)), 0);
    ck_assert_msg(strstr(text, without_guards[_i].words) != NULL, "%s", text);
    destroy(closed, software);
}
END_TEST

void add_format(Suite *suite)
{
    TCase *tests = add_case(suite, "format", set_up_named_region, tear_down);

    tcase_add_loop_test(tests, format_has_a_sentence_for_each_fault, 0, SENTENCES);
    tcase_add_loop_test(tests, format_names_the_thread_and_the_code, 0, PLACES);
    tcase_add_test(tests, format_truncates_in_small_buffers);
    tcase_add_test(tests, format_fits_the_longest_text);
    tcase_add_test(tests, decoded_fault_is_formatted);
    tcase_add_loop_test(tests, advice_helps_where_no_guard_is_open, 0, WITHOUT_GUARDS);
}
