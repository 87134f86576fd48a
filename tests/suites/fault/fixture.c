/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_fault.h"

static struct pkeyguard_region *new_named_region(struct pkeyguard_key *of, int prot)
{
    struct pkeyguard_region *created;

    ck_assert_int_eq(pkeyguard_region_create(of, SIZE, prot, 0, &created), 0);
    ck_assert_int_eq(pkeyguard_region_name(created, "session keys"), 0);
    return created;
}

void set_up_named_region(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    region = new_named_region(key, PAGE_RW);
    address = address_of(region);
}

static __thread sigjmp_buf after_fault;
__thread int decode_result;
__thread struct pkeyguard_fault last_fault;
void (*before_decode)(void);

static void decode_in_handler(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal;
    if (before_decode != NULL)
        before_decode();
    memset(&last_fault, 0x5a, sizeof(last_fault));
    decode_result = pkeyguard_fault_decode(info, ucontext, &last_fault);
    siglongjmp(after_fault, 1);
}

static void catch_faults(struct sigaction *ret_before)
{
    struct sigaction action = {.sa_sigaction = decode_in_handler, .sa_flags = SA_SIGINFO};

    ck_assert_int_eq(sigaction(SIGSEGV, &action, ret_before), 0);
}

int decode_access(enum access access, const volatile void *target)
{
    struct pkeyguard_thread_rights rights;
    struct sigaction before;

    catch_faults(&before);
    pkeyguard_thread_save(&rights);
    decode_result = 1;
    if (sigsetjmp(after_fault, 1) == 0)
        access_byte(access, target);
    pkeyguard_thread_restore(&rights);
    sigaction(SIGSEGV, &before, NULL);
    ck_assert_int_ne(decode_result, 1);
    return decode_result;
}

const enum pkeyguard_access reported_access[] = {[READ_BYTE] = PKEYGUARD_READ_ACCESS,
                                                 [WRITE_BYTE] = PKEYGUARD_WRITE_ACCESS,
                                                 [EXECUTE] = PKEYGUARD_EXECUTE_ACCESS};

void assert_decoded(enum access access, ptrdiff_t offset, enum pkeyguard_fault_kind kind,
                    enum pkeyguard_rights rights)
{
    ck_assert_int_eq(decode_access(access, address_of(region) + offset), 0);
    ck_assert_int_eq(last_fault.kind, kind);
    ck_assert_int_eq(last_fault.access, reported_access[access]);
    ck_assert_int_eq(last_fault.rights, rights);
    ck_assert_int_eq(last_fault.key_number, pkeyguard_key_number(pkeyguard_region_key(region)));
    ck_assert_ptr_eq(last_fault.address, address_of(region) + offset);
    ck_assert_int_eq(last_fault.offset, offset);
    ck_assert_str_eq(last_fault.region_name, "session keys");
    ck_assert_uint_eq(last_fault.region_size, SIZE);
    ck_assert(!last_fault.initial_rights);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(last_fault.reserved[i], 0);
}

enum pkeyguard_fault_kind kind_of_guard_fault(void)
{
    return pku() ? PKEYGUARD_FAULT_BY_KEY : PKEYGUARD_FAULT_BY_PAGE;
}

int decode_raised(int signal)
{
    struct sigaction before, action = {.sa_sigaction = decode_in_handler, .sa_flags = SA_SIGINFO};

    ck_assert_int_eq(sigaction(signal, &action, &before), 0);
    if (sigsetjmp(after_fault, 1) == 0)
        raise(signal);
    sigaction(signal, &before, NULL);
    return decode_result;
}

void install_reporter_over(void (*handler)(int), unsigned flags)
{
    signal(SIGSEGV, handler);
    if (pkeyguard_fault_reporter_install(flags) != 0)
        _exit(1);
}

const char *report_of(enum access access)
{
    static char line[PKEYGUARD_FAULT_TEXT_SIZE + 16];
    struct pkeyguard_fault expected = {.kind = kind_of_guard_fault(),
                                       .access = reported_access[access],
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

/* Cuts off what each line says after ")". */
static void cut_thread_and_code(char *lines)
{
    char *cut, *end, name[16];
    int thread, length;

    while ((cut = strstr(lines, ") in thread ")) != NULL) {
        end = strchr(cut, '\n');
        ck_assert_ptr_nonnull(end);
        length = 0;
        ck_assert_int_eq(sscanf(cut, ") in thread %d '%15[^']' at %n", &thread, name, &length), 2);
        ck_assert_int_gt(thread, 0);
        ck_assert_int_gt(length, 0);
        memmove(cut + 1, end, strlen(end) + 1);
        lines = cut;
    }
}

void assert_reports(void (*call)(void *argument), void *argument, const char *lines, int signal)
{
    char said[4 * PKEYGUARD_FAULT_TEXT_SIZE];
    int status = run_in_child(call, argument, said, sizeof(said));

    ck_assert_ptr_nonnull(strstr(said, ") in thread "));
    cut_thread_and_code(said);
    ck_assert_str_eq(said, lines);
    ck_assert_int_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal);
}
