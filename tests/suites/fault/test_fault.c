/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "support.h"

/* Two pages, of which 5000 bytes are asked for. */
enum { SIZE = 5000, LENGTH = 2 * PAGE_BYTES };
static struct pkeyguard_key *key;
static struct pkeyguard_region *region;
static char *address;

/* It makes signal frames of its own, which do not tell execution, and its processes cannot be
 * traced.
 */
static bool under_valgrind(void)
{
    const char *tool = getenv("PKEYGUARD_TEST_TOOL");

    return tool != NULL && strcmp(tool, "valgrind") == 0;
}

static struct pkeyguard_region *new_named_region(struct pkeyguard_key *of, int prot)
{
    struct pkeyguard_region *created;

    ck_assert_int_eq(pkeyguard_region_create(of, SIZE, prot, 0, &created), 0);
    ck_assert_int_eq(pkeyguard_region_name(created, "session keys"), 0);
    return created;
}

static void set_up(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    region = new_named_region(key, PAGE_RW);
    address = address_of(region);
}

static void tear_down(void)
{
    destroy(region, key);
}

/* ---- decoding, in a handler of the test's own ---- */

static __thread sigjmp_buf back;
static __thread int decoded;
static __thread struct pkeyguard_fault fault;
static void (*meanwhile)(void); /* between the fault and its decoding */

static void decode(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal;
    if (meanwhile != NULL)
        meanwhile();
    memset(&fault, 0x5a, sizeof(fault));
    decoded = pkeyguard_fault_decode(info, ucontext, &fault);
    siglongjmp(back, 1);
}

static void catch_faults(struct sigaction *ret_before)
{
    struct sigaction action = {.sa_sigaction = decode, .sa_flags = SA_SIGINFO};

    ck_assert_int_eq(sigaction(SIGSEGV, &action, ret_before), 0);
}

/* What decode says of an access that must fault: fault, or a result. */
static int decode_access(enum access access, const volatile void *target)
{
    struct pkeyguard_thread_rights rights;
    struct sigaction before;

    catch_faults(&before);
    pkeyguard_thread_save(&rights);
    decoded = 1;
    if (sigsetjmp(back, 1) == 0)
        access_byte(access, target);
    pkeyguard_thread_restore(&rights);
    sigaction(SIGSEGV, &before, NULL);
    ck_assert_int_ne(decoded, 1);
    return decoded;
}

static const enum pkeyguard_access accesses[] = {[READ_BYTE] = PKEYGUARD_READ_ACCESS,
                                                 [WRITE_BYTE] = PKEYGUARD_WRITE_ACCESS,
                                                 [EXECUTE] = PKEYGUARD_EXECUTE_ACCESS};

static void assert_decoded(enum access access, ptrdiff_t offset, enum pkeyguard_fault_kind kind,
                           enum pkeyguard_rights rights)
{
    ck_assert_int_eq(decode_access(access, address_of(region) + offset), 0);
    ck_assert_int_eq(fault.kind, kind);
    ck_assert_int_eq(fault.access, accesses[access]);
    ck_assert_int_eq(fault.rights, rights);
    ck_assert_int_eq(fault.key_number, pkeyguard_key_number(pkeyguard_region_key(region)));
    ck_assert_ptr_eq(fault.address, address_of(region) + offset);
    ck_assert_int_eq(fault.offset, offset);
    ck_assert_str_eq(fault.region_name, "session keys");
    ck_assert_uint_eq(fault.region_size, SIZE);
    ck_assert(!fault.initial_rights);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(fault.reserved[i], 0);
}

/* Of a fault that guards decide about. */
static enum pkeyguard_fault_kind by_guards(void)
{
    return pku() ? PKEYGUARD_FAULT_BY_KEY : PKEYGUARD_FAULT_BY_PAGE;
}

START_TEST(rights_and_accesses)
{
    assert_decoded(READ_BYTE, 0, by_guards(), PKEYGUARD_NO_ACCESS);
    assert_decoded(WRITE_BYTE, 16, by_guards(), PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, LENGTH - 1, by_guards(), PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (int, number, region) {
        assert_decoded(WRITE_BYTE, 16, by_guards(), PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
    assert_decoded(WRITE_BYTE, 16, by_guards(), PKEYGUARD_NO_ACCESS);
    /* The same pages under the other enforcement. */
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    assert_decoded(WRITE_BYTE, 1, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (int, number, region) {
        assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
}
END_TEST

START_TEST(page_rights)
{
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    /* Where the key forbids it, too, the CPU names the key. */
    assert_decoded(WRITE_BYTE, 0, by_guards(), PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_write (int, number, region) {
        assert_decoded(WRITE_BYTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
        if (!under_valgrind())
            assert_decoded(EXECUTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
        ck_assert_int_eq(*number, 0);
    }
    pkeyguard_scoped_read (int, number, region) {
        if (!under_valgrind())
            assert_decoded(EXECUTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    pkeyguard_scoped_key_write (guard, key) {
        assert_decoded(READ_BYTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
    }
}
END_TEST

START_TEST(guard_pages)
{
    assert_decoded(WRITE_BYTE, -1, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, -PAGE_BYTES, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_write (char, bytes, region) {
        bytes[LENGTH - 1] = 'x';
        assert_decoded(WRITE_BYTE, LENGTH, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_READ_WRITE);
        assert_decoded(READ_BYTE, LENGTH + PAGE_BYTES - 1, PKEYGUARD_FAULT_GUARD_PAGE,
                       PKEYGUARD_READ_WRITE);
    }
}
END_TEST

static void assert_not_ours(enum access access, const volatile void *target)
{
    struct pkeyguard_fault untouched;

    memset(&untouched, 0x5a, sizeof(untouched));
    ck_assert_int_eq(decode_access(access, target), -ENOENT);
    ck_assert_mem_eq(&fault, &untouched, sizeof(fault));
}

static int decode_sent(int signal)
{
    struct sigaction before, action = {.sa_sigaction = decode, .sa_flags = SA_SIGINFO};

    ck_assert_int_eq(sigaction(signal, &action, &before), 0);
    if (sigsetjmp(back, 1) == 0)
        raise(signal);
    sigaction(signal, &before, NULL);
    return decoded;
}

START_TEST(what_is_not_ours)
{
    char *closed = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_region *gone = new_region(NULL);
    char *was_at = address_of(gone);

    ck_assert_int_eq(decode_access(READ_BYTE, was_at), 0);
    ck_assert_str_eq(fault.region_name, "");
    destroy(gone, NULL);
    assert_not_ours(READ_BYTE, was_at);
    ck_assert_ptr_eq(
        mmap(was_at, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
        was_at);
    assert_not_ours(WRITE_BYTE, was_at);
    assert_not_ours(WRITE_BYTE, closed);
    assert_not_ours(READ_BYTE, (char *)8);
    ck_assert_int_eq(decode_sent(SIGSEGV), -ENOENT);
    ck_assert_int_eq(decode_sent(SIGUSR1), -ENOENT);
    munmap(closed, PAGE_BYTES);
    munmap(was_at, PAGE_BYTES);
}
END_TEST

/* A fork child that does not have a region may have another in its place. */
START_TEST(the_place_of_a_region_that_is_not_forked)
{
    struct pkeyguard_region *unforked, *adopted;
    char *place, *mapped;
    pid_t child;

    ck_assert_int_eq(
        pkeyguard_region_create(key, LENGTH, PAGE_RW, PKEYGUARD_REGION_NO_FORK, &unforked), 0);
    place = address_of(unforked);
    child = fork();
    if (child == 0) {
        assert_not_ours(READ_BYTE, place);
        mapped = mmap(place, LENGTH, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        ck_assert_ptr_eq(mapped, place);
        ck_assert_int_eq(pkeyguard_region_adopt(key, place, LENGTH, PAGE_RW, 0, &adopted), 0);
        ck_assert_int_eq(pkeyguard_region_name(adopted, "adopted"), 0);
        ck_assert_int_eq(decode_access(WRITE_BYTE, place + 16), 0);
        ck_assert_str_eq(fault.region_name, "adopted");
        ck_assert_int_eq(pkeyguard_region_destroy(unforked), 0);
        ck_assert_int_eq(decode_access(WRITE_BYTE, place + 16), 0);
        destroy(adopted, NULL);
        _exit(0);
    }
    assert_exits(child, 0);
    ck_assert_int_eq(decode_access(READ_BYTE, place), 0);
    destroy(unforked, NULL);
}
END_TEST

/* More than one chunk of records; and every second of them given back and taken again. */
START_TEST(many_regions)
{
    enum { MANY = 500 };
    static struct pkeyguard_region *regions[MANY];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            char name[8];

            if (round == 1 && i % 2 == 0) {
                destroy(regions[i], NULL);
                regions[i] = NULL;
            }
            if (regions[i] == NULL && round != 1)
                regions[i] = new_region(NULL);
            if (regions[i] != NULL) {
                snprintf(name, sizeof(name), "%d", i);
                ck_assert_int_eq(pkeyguard_region_name(regions[i], name), 0);
            }
        }
        for (int i = 0; i < MANY; i++) {
            char name[8];

            if (regions[i] == NULL)
                continue;
            snprintf(name, sizeof(name), "%d", i);
            ck_assert_int_eq(decode_access(READ_BYTE, address_of(regions[i]) + i), 0);
            ck_assert_str_eq(fault.region_name, name);
            ck_assert_int_eq(fault.offset, i);
        }
    }
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

static void fault_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    assert_decoded(WRITE_BYTE, 16, by_guards(), PKEYGUARD_NO_ACCESS);
}

START_TEST(a_handler_that_interrupted_the_library)
{
    static const enum call calls[] = {CALL_MMAP, CALL_MADVISE, CALL_MUNMAP, CALL_MPROTECT};

    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        decoded = 1;
        before_call(calls[i], fault_inside_library);
        destroy(new_region(NULL), NULL);
        ck_assert_int_eq(decoded, 0);
    }
}
END_TEST

static void fault_in_handler(int signal)
{
    (void)signal;
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
}

/* Access-disable alone: the kernel's own, which no code of this thread has chosen. */
START_TEST(initial_rights)
{
    signal(SIGUSR1, fault_in_handler);
    raise(SIGUSR1);
    ck_assert_int_eq(fault.kind, PKEYGUARD_FAULT_BY_KEY);
    ck_assert_int_eq(fault.rights, PKEYGUARD_NO_ACCESS);
    ck_assert(fault.initial_rights);
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
    ck_assert(!fault.initial_rights);
}
END_TEST

static atomic_bool churning;

static void *churn_regions(void *unused)
{
    struct pkeyguard_region *regions[8];

    (void)unused;
    while (churning) {
        for (int i = 0; i < 8; i++)
            regions[i] = new_region(i % 2 ? key : NULL);
        for (int i = 0; i < 8; i++)
            destroy(regions[i], NULL);
    }
    return NULL;
}

START_TEST(regions_come_and_go_in_other_threads)
{
    pthread_t threads[2];

    churning = true;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, churn_regions, NULL), 0);
    for (int i = 0; i < 200; i++)
        assert_decoded(WRITE_BYTE, 16, by_guards(), PKEYGUARD_NO_ACCESS);
    churning = false;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

/* ---- words ---- */

static const char longest_name[] = "0123456789012345678901234567890123456789"
                                   "01234567890123456789012";

static const struct {
    enum pkeyguard_fault_kind kind;
    enum pkeyguard_access access;
    enum pkeyguard_rights rights;
    bool initial_rights;
    int key_number;
    ptrdiff_t offset;
    const char *region, *words;
} sentences[] = {
#define BY_KEY   PKEYGUARD_FAULT_BY_KEY
#define BY_PAGE  PKEYGUARD_FAULT_BY_PAGE
#define BEYOND   PKEYGUARD_FAULT_GUARD_PAGE
#define READS    PKEYGUARD_READ_ACCESS
#define WRITES   PKEYGUARD_WRITE_ACCESS
#define EXECUTES PKEYGUARD_EXECUTE_ACCESS
#define CLOSED   PKEYGUARD_NO_ACCESS
#define READABLE PKEYGUARD_READ_ONLY
#define OPEN     PKEYGUARD_READ_WRITE
    {BY_KEY, WRITES, READABLE, false, 15, 0x10, "keys",
     "write to region 'keys' + 0x10: this thread has it read-only; open a write scope "
     "(pkey 15, address 0x7f0012345678)"},
    {BY_KEY, WRITES, CLOSED, false, 15, 0x1000, "keys",
     "write to region 'keys' + 0x1000: this thread has no access; open a write scope "
     "(pkey 15, address 0x7f0012345678)"},
    {BY_KEY, READS, CLOSED, false, 1, 0, "keys",
     "read of region 'keys' + 0x0: this thread has no access; open a read scope "
     "(pkey 1, address 0x7f0012345678)"},
    {BY_KEY, READS, CLOSED, true, 1, 0, "",
     "read of a region without a name + 0x0: this thread has no access: it is older than the key, "
     "or in a signal handler; open a read scope, or call pkeyguard_thread_reset() for the default "
     "rights (pkey 1, address 0x7f0012345678)"},
    {BY_PAGE, WRITES, CLOSED, false, -1, 1, "keys",
     "write to region 'keys' + 0x1: no guard has it open; open a write scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, READS, CLOSED, false, -1, 0, "keys",
     "read of region 'keys' + 0x0: no guard has it open; open a read scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, WRITES, READABLE, false, -1, 0, "keys",
     "write to region 'keys' + 0x0: guards have it open read-only; open a write scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, EXECUTES, CLOSED, false, -1, 0, "keys",
     "execution of region 'keys' + 0x0: no guard has it open; open a read scope "
     "(address 0x7f0012345678)"},
    {BY_PAGE, EXECUTES, READABLE, false, -1, 0, "keys",
     "execution of region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_PAGE, WRITES, OPEN, false, -1, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (address 0x7f0012345678)"},
    {BY_PAGE, WRITES, CLOSED, false, 2, 0, "keys",
     "write to region 'keys' + 0x0: its page rights forbid it; see "
     "pkeyguard_region_protect() (pkey 2, address 0x7f0012345678)"},
    {BEYOND, WRITES, OPEN, false, -1, SIZE, "keys",
     "write 1 byte past the end of region 'keys': an index or a length is out of bounds "
     "(address 0x7f0012345678)"},
    {BEYOND, READS, OPEN, false, -1, LENGTH, "keys",
     "read 3193 bytes past the end of region 'keys': an index or a length is out of bounds "
     "(address 0x7f0012345678)"},
    {BEYOND, READS, CLOSED, false, 1, -1, "",
     "read 1 byte before the start of a region without a name: an index or a length is out of "
     "bounds (pkey 1, address 0x7f0012345678)"},
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
                                        .region_size = SIZE};

    strcpy(described.region_name, sentences[sentence].region);
    return described;
}

START_TEST(every_sentence)
{
    struct pkeyguard_fault described = fault_of(_i);
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(pkeyguard_fault_format(&described, text, sizeof(text)), 0);
    ck_assert_str_eq(text, sentences[_i].words);
}
END_TEST

START_TEST(small_buffers_hold_what_fits)
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

START_TEST(the_longest_text_fits)
{
    struct pkeyguard_fault longest = {.kind = PKEYGUARD_FAULT_BY_KEY,
                                      .access = PKEYGUARD_WRITE_ACCESS,
                                      .rights = PKEYGUARD_NO_ACCESS,
                                      .initial_rights = true,
                                      .key_number = 15,
                                      .address = (void *)UINTPTR_MAX,
                                      .offset = PTRDIFF_MAX};
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    memcpy(longest.region_name, longest_name, sizeof(longest_name));
    ck_assert_int_eq(pkeyguard_fault_format(&longest, text, sizeof(text)), 0);
    longest.kind = PKEYGUARD_FAULT_GUARD_PAGE;
    longest.offset = PTRDIFF_MIN;
    ck_assert_int_eq(pkeyguard_fault_format(&longest, text, sizeof(text)), 0);
    ck_assert_ptr_nonnull(strstr(text, "write 9223372036854775808 bytes before"));
}
END_TEST

/* What decode found, in words. */
START_TEST(a_decoded_fault_in_words)
{
    char text[PKEYGUARD_FAULT_TEXT_SIZE], expected[PKEYGUARD_FAULT_TEXT_SIZE], number[16] = "";

    if (pku())
        snprintf(number, sizeof(number), "pkey %d, ", pkeyguard_key_number(key));
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(decode_access(WRITE_BYTE, &bytes[0x10]), 0);
    }
    ck_assert_int_eq(pkeyguard_fault_format(&fault, text, sizeof(text)), 0);
    snprintf(expected, sizeof(expected),
             "write to region 'session keys' + 0x10: %s it %sread-only; open a write scope "
             "(%saddress %p)",
             pku() ? "this thread has" : "guards have", pku() ? "" : "open ", number,
             (void *)(address + 0x10));
    ck_assert_str_eq(text, expected);
}
END_TEST

static void open_and_close(void)
{
    pkeyguard_scoped_read (char, bytes, region)
        (void)bytes;
}

/* Until a guard opens it the key has no pkey; then it keeps it. */
START_TEST(a_virtual_key)
{
    struct pkeyguard_key *virtual_key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    char text[PKEYGUARD_FAULT_TEXT_SIZE], expected[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(pkeyguard_region_associate(region, virtual_key), 0);
    ck_assert_int_eq(pkeyguard_key_number(virtual_key), -1);
    assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_fault_format(&fault, text, sizeof(text)), 0);
    snprintf(expected, sizeof(expected),
             "read of region 'session keys' + 0x10: no guard has it open; open a read scope "
             "(address %p)",
             (void *)(address + 16));
    ck_assert_str_eq(text, expected);
    meanwhile = open_and_close;
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
    meanwhile = NULL;
    ck_assert_int_gt(pkeyguard_key_number(virtual_key), 0);
    ck_assert_int_eq(fault.key_number, -1);
    ck_assert_int_eq(fault.rights, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(bytes[16], 0);
        assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_KEY, PKEYGUARD_READ_ONLY);
    }
    assert_decoded(READ_BYTE, 16, PKEYGUARD_FAULT_BY_KEY, PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, -1, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(bytes[16], 0);
        assert_decoded(EXECUTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
    }
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(virtual_key), 0);
}
END_TEST

/* ---- the reporter ---- */

/* Its line for an access to the region's first byte that the key denies. */
static const char *line_of(enum access access)
{
    static char line[PKEYGUARD_FAULT_TEXT_SIZE + 16];
    struct pkeyguard_fault expected = {.kind = by_guards(),
                                       .access = accesses[access],
                                       .rights = PKEYGUARD_NO_ACCESS,
                                       .key_number = pkeyguard_key_number(key),
                                       .address = address,
                                       .region_name = "session keys",
                                       .region_size = SIZE};
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(pkeyguard_fault_format(&expected, text, sizeof(text)), 0);
    snprintf(line, sizeof(line), "libpkeyguard: %s\n", text);
    return line;
}

/* In the child: with this action of SIGSEGV before it, which under sanitizers is theirs else. */
static void install_over(void (*handler)(int), unsigned flags)
{
    signal(SIGSEGV, handler);
    if (pkeyguard_fault_reporter_install(flags) != 0)
        _exit(1);
}

static void fault_over(void *handler)
{
    install_over(*(void (**)(int))handler, 0);
    access_byte(WRITE_BYTE, address);
    _exit(1);
}

/* Ignoring it does not help: the kernel kills for a fault of its own. */
START_TEST(it_says_why_and_the_process_dies)
{
    void (*standard)(int) = SIG_DFL, (*ignored)(int) = SIG_IGN;

    assert_ends(fault_over, &standard, line_of(WRITE_BYTE), SIGSEGV);
    assert_ends(fault_over, &ignored, line_of(WRITE_BYTE), SIGSEGV);
}
END_TEST

static void send_over(void *handler)
{
    install_over(*(void (**)(int))handler, 0);
    raise(SIGSEGV);
}

static void stray_access(void *target)
{
    install_over(SIG_DFL, 0);
    access_byte(WRITE_BYTE, target);
}

START_TEST(it_says_nothing_of_other_faults)
{
    void (*standard)(int) = SIG_DFL, (*ignored)(int) = SIG_IGN;
    char *closed = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ends(send_over, &standard, "", SIGSEGV);
    assert_ends(send_over, &ignored, "", 0);
    assert_ends(stray_access, closed, "", SIGSEGV);
    munmap(closed, PAGE_BYTES);
}
END_TEST

/* As a debugger sees it: the same fault twice, before the reporter and after it. */
START_TEST(the_fault_itself_comes_last)
{
    siginfo_t seen[2];
    pid_t child = fork();
    int status;

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        close(STDERR_FILENO);
        install_over(SIG_DFL, 0);
        access_byte(WRITE_BYTE, address);
        _exit(1);
    }
    ck_assert_int_gt(child, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSTOPPED(status));
        ck_assert_int_eq(WSTOPSIG(status), SIGSEGV);
        ck_assert_int_eq(ptrace(PTRACE_GETSIGINFO, child, NULL, &seen[i]), 0);
        ck_assert_int_eq(seen[i].si_code, denial_code(key));
        ck_assert_ptr_eq(seen[i].si_addr, address);
        if (pku())
            ck_assert_int_eq((int)seen[i].si_pkey, pkeyguard_key_number(key));
        ck_assert_int_eq(ptrace(PTRACE_CONT, child, NULL, (void *)SIGSEGV), 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
}
END_TEST

/* What the previous handler, and a handler with no reporter, finds when it is called. */
struct view {
    int calls, signal, code, error;
    void *address;
    bool with_context, segv_blocked, usr1_blocked, usr2_blocked, on_alternate_stack;
};
static struct view *view;

static void look(int signal)
{
    sigset_t blocked;
    stack_t stack;

    view->calls++;
    view->signal = signal;
    view->error = errno;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    view->segv_blocked = sigismember(&blocked, SIGSEGV);
    view->usr1_blocked = sigismember(&blocked, SIGUSR1);
    view->usr2_blocked = sigismember(&blocked, SIGUSR2);
    sigaltstack(NULL, &stack);
    view->on_alternate_stack = stack.ss_flags & SS_ONSTACK;
    errno = 0;
    /* So that the access succeeds when it is made again. */
    if (mprotect(address, LENGTH, PAGE_RW) != 0)
        _exit(2);
}

static void look_with_context(int signal, siginfo_t *info, void *ucontext)
{
    struct pkeyguard_fault again;

    look(signal);
    view->code = info->si_code;
    view->address = info->si_addr;
    view->with_context = pkeyguard_fault_decode(info, ucontext, &again) == 0;
}

/* A fault by page rights, which the handler can undo, under any enforcement. */
static void fault_over_handler(int flags, bool reporter, struct view *ret_view)
{
    struct sigaction action = {.sa_flags = flags};
    struct pkeyguard_guard guard;
    sigset_t usr1;

    if (flags & SA_SIGINFO)
        action.sa_sigaction = look_with_context;
    else
        action.sa_handler = look;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGSEGV, &action, NULL);
    if (reporter && pkeyguard_fault_reporter_install(0) != 0)
        _exit(1);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    view = ret_view;
    if (pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard) != 0 ||
        pkeyguard_region_protect(region, PROT_READ) != 0)
        _exit(1);
    errno = 4321;
    access_byte(WRITE_BYTE, address);
    _exit(view->calls == 1 && address[0] == 'w' ? 0 : 3);
}

static const int handler_flags[] = {0, SA_SIGINFO, SA_SIGINFO | SA_NODEFER,
                                    SA_SIGINFO | SA_RESTART};

/* The reporter's previous handler is called as if the kernel had called it. */
START_TEST(the_previous_handler_is_called_as_ever)
{
    struct view *views = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int reporter = 0; reporter < 2; reporter++) {
        pid_t child = fork();

        if (child == 0) {
            close(STDERR_FILENO);
            fault_over_handler(handler_flags[_i], reporter, &views[reporter]);
        }
        assert_exits(child, 0);
    }
    ck_assert(views[1].on_alternate_stack);
    views[1].on_alternate_stack = views[0].on_alternate_stack;
    ck_assert_mem_eq(&views[1], &views[0], sizeof(views[0]));
    munmap(views, PAGE_BYTES);
}
END_TEST

static void fault_twice_over_once(void *unused)
{
    static struct view seen;
    struct sigaction action = {.sa_handler = look, .sa_flags = (int)SA_RESETHAND};
    struct pkeyguard_guard guard;

    (void)unused;
    view = &seen;
    sigaction(SIGSEGV, &action, NULL);
    if (pkeyguard_fault_reporter_install(0) != 0 ||
        pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard) != 0)
        _exit(1);
    mprotect(address, LENGTH, PROT_READ);
    access_byte(WRITE_BYTE, address);
    mprotect(address, LENGTH, PROT_READ);
    access_byte(WRITE_BYTE, address);
}

static const char *line_by_page(int times)
{
    static char lines[2 * PKEYGUARD_FAULT_TEXT_SIZE];
    int length = 0;
    char number[16] = "";

    if (pku())
        snprintf(number, sizeof(number), "pkey %d, ", pkeyguard_key_number(key));
    for (int i = 0; i < times; i++)
        length += snprintf(lines + length, sizeof(lines) - (size_t)length,
                           "libpkeyguard: write to region 'session keys' + 0x0: its page rights "
                           "forbid it; see pkeyguard_region_protect() (%saddress %p)\n",
                           number, (void *)address);
    return lines;
}

START_TEST(a_handler_for_once_is_called_once)
{
    assert_ends(fault_twice_over_once, NULL, line_by_page(2), SIGSEGV);
}
END_TEST

static void jump_back(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

static void jump_out_twice(void *unused)
{
    struct pkeyguard_thread_rights rights;

    (void)unused;
    install_over(jump_back, 0);
    pkeyguard_thread_save(&rights);
    for (volatile int i = 0; i < 2; i++) {
        if (sigsetjmp(back, 1) == 0) {
            access_byte(WRITE_BYTE, address);
            _exit(1);
        }
        pkeyguard_thread_restore(&rights);
    }
}

START_TEST(the_previous_handler_may_jump_out)
{
    char lines[2 * PKEYGUARD_FAULT_TEXT_SIZE + 32];

    snprintf(lines, sizeof(lines), "%s%s", line_of(WRITE_BYTE), line_of(WRITE_BYTE));
    assert_ends(jump_out_twice, NULL, lines, 0);
}
END_TEST

static int result_in_handler;

static void install_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    result_in_handler = pkeyguard_fault_reporter_install(0);
}

static void fail_to_install(void *unused)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    struct sigaction now;

    (void)unused;
    signal(SIGSEGV, SIG_DFL);
    sigaltstack(&none, NULL);
    before_call(CALL_MMAP, install_inside_library);
    destroy(new_region(NULL), NULL);
    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    if (pkeyguard_fault_reporter_install(2) != -EINVAL ||
        pkeyguard_fault_reporter_install(~0u) != -EINVAL || result_in_handler != -EDEADLK ||
        pkeyguard_fault_reporter_install(0) != -ENOMEM || !stop_failing())
        _exit(1);
    sigaction(SIGSEGV, NULL, &now);
    sigaltstack(NULL, &none);
    _exit(now.sa_handler == SIG_DFL && none.ss_flags == SS_DISABLE ? 0 : 1);
}

START_TEST(a_failed_installation_changes_nothing)
{
    assert_ends(fail_to_install, NULL, "", 0);
}
END_TEST

static void install_twice(void *unused)
{
    static char own[1 << 16];
    stack_t stack = {.ss_sp = own, .ss_size = sizeof(own)}, now;

    (void)unused;
    sigaltstack(&stack, NULL);
    install_over(SIG_DFL, 0);
    sigaltstack(NULL, &now);
    if (pkeyguard_fault_reporter_install(0) != 0 || now.ss_sp != own)
        _exit(1);
    access_byte(WRITE_BYTE, address);
}

START_TEST(installed_twice_it_says_so_once)
{
    assert_ends(install_twice, NULL, line_of(WRITE_BYTE), SIGSEGV);
}
END_TEST

/* ---- granting defaults ---- */

static pthread_barrier_t created;
static struct pkeyguard_key *newer_key;
static struct pkeyguard_region *newer;

/* Runs in a thread that is older than newer_key. */
static void *run_when_created(void *run)
{
    pthread_barrier_wait(&created);
    pthread_barrier_wait(&created);
    (*(void (**)(void))run)();
    return NULL;
}

struct granting {
    unsigned flags;
    enum pkeyguard_rights default_rights;
    void (*run)(void);
};

static void run_older_thread(void *granting)
{
    struct granting *wanted = granting;
    pthread_t thread;

    install_over(SIG_DFL, wanted->flags);
    pthread_barrier_init(&created, NULL, 2);
    if (pthread_create(&thread, NULL, run_when_created, &wanted->run) != 0)
        _exit(1);
    pthread_barrier_wait(&created);
    newer_key = new_key(wanted->default_rights, 0);
    if (pkeyguard_region_create(newer_key, LENGTH, PAGE_RW, 0, &newer) != 0 ||
        pkeyguard_region_name(newer, "newer") != 0)
        _exit(1);
    pthread_barrier_wait(&created);
    pthread_join(thread, NULL);
}

static void expect(bool as_expected)
{
    if (!as_expected)
        _exit(4);
}

static void read_newer(void)
{
    uint32_t bits = 3u << (2 * pkeyguard_key_number(newer_key));
    uint32_t before = pkeyguard_pkru_read();

    expect(pkeyguard_key_rights(newer_key) == PKEYGUARD_NO_ACCESS);
    errno = 4321;
    expect(*(volatile char *)address_of(newer) == 0 && errno == 4321);
    expect(pkeyguard_key_rights(newer_key) == PKEYGUARD_READ_ONLY);
    expect((pkeyguard_pkru_read() & ~bits) == (before & ~bits));
}

static void write_straddling(void)
{
    *(volatile uint64_t *)(void *)(address_of(newer) + PAGE_BYTES - 4) = UINT64_MAX;
    expect(pkeyguard_key_rights(newer_key) == PKEYGUARD_READ_WRITE);
    expect(address_of(newer)[PAGE_BYTES + 3] == (char)0xff);
}

static void pass_to_system_call(void)
{
    int null = open("/dev/zero", O_RDONLY);

    expect(read(null, address_of(newer), 1) == -1 && errno == EFAULT);
    access_byte(WRITE_BYTE, address_of(newer));
    expect(read(null, address_of(newer), 1) == 1);
}

static void read_newer_in_handler(int signal)
{
    (void)signal;
    expect(*(volatile char *)address_of(newer) == 0);
}

static void read_in_handler(void)
{
    signal(SIGUSR1, read_newer_in_handler);
    raise(SIGUSR1);
    expect(pkeyguard_key_rights(newer_key) == PKEYGUARD_NO_ACCESS);
}

static void write_newer(void)
{
    access_byte(WRITE_BYTE, address_of(newer));
}

static void read_closed_on_purpose(void)
{
    expect(pkeyguard_key_set_rights(newer_key, PKEYGUARD_NO_ACCESS) == 0);
    expect(*(volatile char *)address_of(newer) == 0);
}

static void write_restricted(void)
{
    struct pkeyguard_guard guard;

    expect(pkeyguard_restrict(newer, PKEYGUARD_READ_ONLY, &guard) == 0);
    access_byte(WRITE_BYTE, address_of(newer));
}

static void write_in_read_scope(void)
{
    pkeyguard_scoped_read (char, bytes, newer) {
        expect(*bytes == 0);
        access_byte(WRITE_BYTE, address_of(newer));
    }
}

enum { GRANT = PKEYGUARD_REPORTER_GRANT_DEFAULTS };
static struct granting granted[] = {
    {GRANT, PKEYGUARD_READ_ONLY, read_newer},
    {GRANT, PKEYGUARD_READ_WRITE, write_straddling},
    {GRANT, PKEYGUARD_READ_WRITE, pass_to_system_call},
    {GRANT, PKEYGUARD_READ_ONLY, read_in_handler},
};
enum { GRANTED = sizeof(granted) / sizeof(*granted) };

START_TEST(an_older_thread_gets_the_default)
{
    assert_ends(run_older_thread, &granted[_i], "", 0);
}
END_TEST

static struct granting refused[] = {
    {0, PKEYGUARD_READ_WRITE, write_newer},
    {GRANT, PKEYGUARD_READ_ONLY, write_newer},
    {GRANT, PKEYGUARD_NO_ACCESS, write_newer},
    {GRANT, PKEYGUARD_READ_WRITE, read_closed_on_purpose},
    {GRANT, PKEYGUARD_READ_WRITE, write_restricted},
    {GRANT, PKEYGUARD_READ_WRITE, write_in_read_scope},
};
enum { REFUSED = sizeof(refused) / sizeof(*refused) };

/* Only the end of it is told: the address is the child's own. */
static void run_refused(void *granting)
{
    close(STDERR_FILENO);
    run_older_thread(granting);
}

START_TEST(no_more_than_the_default_and_nothing_that_was_chosen)
{
    assert_ends(run_refused, &refused[_i], "", SIGSEGV);
}
END_TEST

static void change_flags(void *unused)
{
    (void)unused;
    install_over(SIG_DFL, GRANT);
    if (pkeyguard_fault_reporter_install(0) != 0)
        _exit(1);
    run_refused(&(struct granting){0, PKEYGUARD_READ_WRITE, write_newer});
}

START_TEST(installing_again_changes_the_flags)
{
    assert_ends(change_flags, NULL, "", SIGSEGV);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fault");
    TCase *decoding = tcase_create("decode");
    TCase *words = tcase_create("format");
    TCase *reporter = tcase_create("reporter");

    suite_add_tcase(suite, decoding);
    tcase_add_checked_fixture(decoding, set_up, tear_down);
    tcase_set_timeout(decoding, 60);
    tcase_add_test(decoding, rights_and_accesses);
    tcase_add_test(decoding, page_rights);
    tcase_add_test(decoding, guard_pages);
    tcase_add_test(decoding, what_is_not_ours);
    tcase_add_test(decoding, the_place_of_a_region_that_is_not_forked);
    tcase_add_test(decoding, many_regions);
    tcase_add_test(decoding, a_handler_that_interrupted_the_library);
    add_pku_test(decoding, initial_rights);
    tcase_add_test(decoding, regions_come_and_go_in_other_threads);
    suite_add_tcase(suite, words);
    tcase_add_checked_fixture(words, set_up, tear_down);
    tcase_set_timeout(words, 60);
    tcase_add_loop_test(words, every_sentence, 0, SENTENCES);
    tcase_add_test(words, small_buffers_hold_what_fits);
    tcase_add_test(words, the_longest_text_fits);
    tcase_add_test(words, a_decoded_fault_in_words);
    add_pku_test(words, a_virtual_key);
    suite_add_tcase(suite, reporter);
    tcase_add_checked_fixture(reporter, set_up, tear_down);
    tcase_set_timeout(reporter, 60);
    tcase_add_test(reporter, it_says_why_and_the_process_dies);
    tcase_add_test(reporter, it_says_nothing_of_other_faults);
    if (!under_valgrind())
        tcase_add_test(reporter, the_fault_itself_comes_last);
    tcase_add_loop_test(reporter, the_previous_handler_is_called_as_ever, 0,
                        (int)(sizeof(handler_flags) / sizeof(*handler_flags)));
    tcase_add_test(reporter, a_handler_for_once_is_called_once);
    tcase_add_test(reporter, the_previous_handler_may_jump_out);
    tcase_add_test(reporter, a_failed_installation_changes_nothing);
    tcase_add_test(reporter, installed_twice_it_says_so_once);
    add_pku_loop_test(reporter, an_older_thread_gets_the_default, 0, GRANTED);
    add_pku_loop_test(reporter, no_more_than_the_default_and_nothing_that_was_chosen, 0, REFUSED);
    add_pku_test(reporter, installing_again_changes_the_flags);
    return run_suite(suite);
}
