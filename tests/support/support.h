/* SPDX-License-Identifier: MIT */
/* support.h - what every suite uses: exact fault checks, leak counts, expected aborts */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard.h>

enum { PAGE_RW = 3, PAGE_BYTES = 4096 }; /* PROT_READ | PROT_WRITE */

/*
 * test_platform() is what this machine supports, test_enforcement() how a key without flags is
 * enforced in this run.
 */
const struct pkeyguard_platform *test_platform(void);
enum pkeyguard_enforcement test_enforcement(void);
bool pku(void); /* test_enforcement() is PKEYGUARD_PKU */

/* True if the suite runs under this tool: "asan", "tsan", "valgrind", or NULL for any of them. */
bool under_tool(const char *tool);

/* True in a guest, whose emulated CPU is slow. */
bool in_guest(void);

/*
 * Adds a test case. Each of its tests runs in a process of its own, after set_up and before
 * tear_down, which may be NULL. Five minutes end a test that hangs; none comes near that.
 */
TCase *add_case(Suite *suite, const char *name, void (*set_up)(void), void (*tear_down)(void));

/*
 * libcheck's, but under valgrind, which is slow, only the first round of a loop test runs. Without
 * PKU most rounds take the same path.
 */
void add_loop_test(TCase *tcase, const TTest *test, int start, int end);
#undef tcase_add_loop_test
#define tcase_add_loop_test(tcase, test, start, end) add_loop_test(tcase, test, start, end)

/*
 * Adds a test that needs PKU. In a run without PKU it is not run, but counted as left to the PKU
 * guest.
 */
void add_pku_loop_test(TCase *tcase, const TTest *test, int start, int end);
#define add_pku_test(tcase, test) add_pku_loop_test(tcase, test, 0, 1)

/*
 * Adds a test if it is possible on this machine and in this run; otherwise prints `why_not` and
 * counts it as not run.
 */
void add_loop_test_if(bool possible, const char *why_not, TCase *tcase, const TTest *test,
                      int start, int end);
#define add_test_if(possible, why_not, tcase, test) \
    add_loop_test_if(possible, why_not, tcase, test, 0, 1)

/*
 * Runs the suite and returns the exit status. PKEYGUARD_TEST_EXPECT in the environment is the
 * enforcement that the run must have, pku or mprotect; a run with another one fails.
 */
int run_suite(Suite *suite);

/* Accesses one byte. */
enum access { READ_BYTE, WRITE_BYTE, EXECUTE };
__attribute__((noinline)) void access_byte(enum access access, const volatile void *address);

/*
 * The fault that an access caused, if any. try_access() leaves the calling thread's rights as they
 * were.
 */
struct fault {
    bool happened;
    int code; /* si_code */
    const void *address;
    int pkey; /* si_pkey for SEGV_PKUERR, else -1 */
};
struct fault try_access(enum access access, const volatile void *address);

/*
 * The access succeeds (assert_allowed), or causes exactly the fault of the key's enforcement
 * (assert_denied), or exactly the fault of page rights (assert_page_denied): si_code, address and
 * pkey are checked.
 */
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

/* Counts that show a leak: the process's mappings, and the pkeys that are still free. */
struct resources {
    int mappings;
    int pkeys;
};
struct resources count_resources(void);
void assert_resources(struct resources before);

/*
 * Reads what /proc/self/smaps says after `field`, such as "ProtectionKey:", of the mapping that
 * holds an address; with a NULL field, the mapping's first line. pkey_of_mapping() is -1 if the
 * kernel shows no pkey.
 */
void read_smaps(const void *address, const char *field, char *buffer, size_t size);
int pkey_of_mapping(const void *address);

/*
 * Makes the call in a child process, copies what the child writes to stderr, and returns the
 * child's wait status.
 */
int run_in_child(void (*call)(void *argument), void *argument, char *ret_said, size_t size);

/*
 * The call, made in a child process, writes exactly this text to stderr, and the child ends by this
 * signal; with signal 0 it exits with status 0.
 */
void assert_ends(void (*call)(void *argument), void *argument, const char *line, int signal);

/* The call, made in a child process, writes exactly this line to stderr and aborts. */
void assert_aborts(void (*call)(void *argument), void *argument, const char *line);

/* Waits for a child process that the caller forked, which must exit with this status. */
void assert_exits(int child, int status);

/* Returns when this thread sleeps in the kernel. */
void wait_until_asleep(int thread);

struct pkeyguard_key *new_key(enum pkeyguard_rights default_rights, unsigned flags);
struct pkeyguard_region *new_region(struct pkeyguard_key *key);
char *address_of(const struct pkeyguard_region *region);
void destroy(struct pkeyguard_region *region, struct pkeyguard_key *key);

#endif
