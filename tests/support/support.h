/* SPDX-License-Identifier: MIT */
/* support.h - what every suite uses: exact fault checks, leak counts, expected aborts */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard.h>

enum { PAGE_RW = 3, PAGE_BYTES = 4096 }; /* PROT_READ | PROT_WRITE */

/* What this machine gives, and what a key with no flag gets in this run. */
const struct pkeyguard_platform *test_platform(void);
enum pkeyguard_enforcement test_enforcement(void);
bool pku(void); /* whether it is PKEYGUARD_PKU */

/* Adds a test that means something under PKU only; elsewhere it is counted as left to the guest. */
void add_pku_loop_test(TCase *tcase, const TTest *test, int start, int end);
#define add_pku_test(tcase, test) add_pku_loop_test(tcase, test, 0, 1)

/* Adds a test that this machine, or this run of it, may not allow; otherwise it says so. */
void add_loop_test_if(bool possible, const char *why_not, TCase *tcase, const TTest *test,
                      int start, int end);
#define add_test_if(possible, why_not, tcase, test) \
    add_loop_test_if(possible, why_not, tcase, test, 0, 1)

/*
 * Runs the suite and returns the exit status. PKEYGUARD_TEST_EXPECT, pku or mprotect, says what
 * enforcement the run must have; under pku no test may be left out.
 */
int run_suite(Suite *suite);

/* One access to a byte. */
enum access { READ_BYTE, WRITE_BYTE, EXECUTE };
__attribute__((noinline)) void access_byte(enum access access, const volatile void *address);

/* The fault that it drew, if any. The calling thread's rights are as before. */
struct fault {
    bool happened;
    int code; /* si_code */
    const void *address;
    int pkey; /* si_pkey for SEGV_PKUERR, else -1 */
};
struct fault try_access(enum access access, const volatile void *address);

/* The access succeeds; or it draws exactly the fault that the key's enforcement, the page rights or
 * a missing mapping draws. */
#define assert_allowed(access, address) assert_fault_(access, address, 0, -1)
#define assert_denied(access, address, key) \
    assert_fault_(access, address, denial_code(key), denial_pkey(key))
#define assert_page_denied(access, address) assert_fault_(access, address, SEGV_ACCERR, -1)
#define assert_fault_(access, target, expected_code, expected_pkey)                                \
    do {                                                                                           \
        const volatile void *target_ = (target);                                                   \
        struct fault fault_ = try_access(access, target_);                                         \
        int code_ = (expected_code), pkey_ = (expected_pkey);                                      \
        ck_assert_msg(fault_.happened == (code_ != 0), "%s of %s: %s", #access, #target,           \
                      fault_.happened ? "faulted" : "did not fault");                              \
        ck_assert_msg(fault_.code == code_ && fault_.pkey == pkey_ &&                              \
                          (code_ == 0 || fault_.address == target_),                               \
                      "%s of %s: code %d, pkey %d, address %p, not code %d, pkey %d, %p", #access, \
                      #target, fault_.code, fault_.pkey, fault_.address, code_, pkey_,             \
                      (const void *)target_);                                                      \
    } while (0)
int denial_code(const struct pkeyguard_key *key);
int denial_pkey(const struct pkeyguard_key *key);

/* What the process has: mappings, and pkeys that can still be had. */
struct resources {
    int mappings;
    int pkeys;
};
struct resources count_resources(void);
void assert_resources(struct resources before);

/* A line of /proc/self/smaps about the mapping that holds an address, as "ProtectionKey:". */
void read_smaps(const void *address, const char *field, char *buffer, size_t size);
int pkey_of_mapping(const void *address);

/* What the call, in a child process, writes to stderr, and the child's status. */
int last_words(void (*call)(void *argument), void *argument, char *ret_said, size_t size);

/* The call, in a child process that it ends or that then exits with 0, writes exactly this line to
 * stderr and ends by this signal; 0: by none. */
void assert_ends(void (*call)(void *argument), void *argument, const char *line, int signal);

/* The call, in a child process, aborts with exactly this line on stderr. */
void assert_aborts(void (*call)(void *argument), void *argument, const char *line);

/* The child process that the caller forked exits with this status. */
void assert_exits(int child, int status);

struct pkeyguard_key *new_key(enum pkeyguard_rights default_rights, unsigned flags);
struct pkeyguard_region *new_region(struct pkeyguard_key *key);
char *address_of(const struct pkeyguard_region *region);
void destroy(struct pkeyguard_region *region, struct pkeyguard_key *key);

#endif
