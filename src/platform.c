/* SPDX-License-Identifier: MIT */
/* platform.c - tries what this machine offers, in a child process, which disturbs nothing here */
#include <pkeyguard/platform.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pkeyguard/fault.h>
#include <pkeyguard/pkru.h>

#include "base/lock.h"
#include "base/os.h"
#include "pkey/pkey_allocator.h"
#include "pkru/bits.h"
#include "pkru/signal_frame.h"

_Static_assert(sizeof(struct pkeyguard_platform) == 80, "frozen for the ABI");

/*
 * Calls look() in a child process, which shares the findings with this one. The child may be killed
 * by what it tries, by a seccomp filter for example: so the findings begin with the worst answer,
 * and look() improves it as it goes. look() may only make async-signal-safe calls, because this
 * process may have other threads.
 */
static int look_from_child(void (*look)(void *findings), void *findings)
{
    pid_t child;
    int error = os_fork_quietly(&child);

    if (error != 0)
        return error;
    if (child == 0) {
        look(findings);
        _exit(0);
    }
    os_reap(child);
    return 0;
}

/* ---- probe ---- */

static bool pages_take_pkey(int pkey)
{
    size_t page = os_page_size();
    void *address;

    return os_allocate_pages(page, &address) == 0 &&
           os_protect_with_pkey(address, page, PROT_READ | PROT_WRITE, pkey) == 0;
}

/*
 * Counts the free pkeys by taking them; the child's end gives them back. Unless something rules PKU
 * out, the error is -EPERM before. It stays so if a filter refuses pkey_mprotect(2), or kills the
 * child for one of the calls.
 */
static void probe_pkeys(struct pkeyguard_platform *found)
{
    unsigned count = 0;
    int pkey;

    if (found->pku_error != -EPERM)
        return;
    while ((pkey = os_pkey_alloc()) > 0) {
        if (count++ == 0 && !pages_take_pkey(pkey))
            return;
    }
    found->hardware_keys_free = count;
    found->pku_error = pkey == -ENOSPC ? 0 : pkey;
}

static void probe(void *findings)
{
    struct pkeyguard_platform *found = findings;
    size_t page = os_page_size();
    void *address;

    probe_pkeys(found);
    found->guard_madvise =
        os_allocate_pages(page, &address) == 0 && os_install_guard(address, page) == 0;
    found->sealing = os_allocate_pages(page, &address) == 0 && os_seal(address, page) == 0;
    found->secret_memory =
        os_reserve(page, &address) == 0 && os_reserve_secret(address, page) == 0 &&
        os_protect(address, page, PROT_READ | PROT_WRITE) == 0 && os_touch(address, page) == 0;
}

int pkeyguard_platform_probe(struct pkeyguard_platform *ret_platform)
{
    struct pkeyguard_platform *found;
    void *shared;
    int ruled_out = pkeys_ruled_out();
    int error = os_allocate_shared_pages(os_page_size(), &shared);

    if (error != 0)
        return error;
    found = shared;
    found->pku_error = ruled_out != 0 ? ruled_out : -EPERM;
    error = look_from_child(probe, found);
    if (error == 0) {
        if (found->pku_error == 0) {
            found->enforcement = PKEYGUARD_PKU;
            /* The library's own idle pkeys are free for new keys, too. */
            if (library_lock() == 0) {
                found->hardware_keys_free += pkeys_reusable();
                library_unlock();
            }
        }
        *ret_platform = *found;
    }
    os_free_pages(shared, os_page_size());
    return error;
}

/* ---- self-test ---- */

/* The findings of the signal handlers in the child. It has one thread. */
static struct self_test_signals {
    sigjmp_buf after_fault; /* where the handler of faults jumps; set before each access */
    siginfo_t fault;        /* the last one */
    pkru_bits handler_pkru; /* the last handler's own PKRU */
    bool frame_has_pkru;    /* whether the last signal frame held PKRU */
    pkru_bits frame_pkru;   /* if so, the interrupted code's */
} seen;

static void look_at_pkru(const void *ucontext)
{
    seen.handler_pkru = pkeyguard_pkru_read();
    seen.frame_has_pkru = pkru_in_frame(ucontext, &seen.frame_pkru);
}

static void self_test_on_signal(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal, (void)info;
    look_at_pkru(ucontext);
}

static void self_test_on_fault(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal;
    look_at_pkru(ucontext);
    seen.fault = *info;
    siglongjmp(seen.after_fault, 1);
}

static void handle_signal(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    os_handle_signal(signal, &action, NULL);
}

/* True if the access raises the right fault with this PKRU, whose pkey the byte's page carries. */
static bool access_faults(volatile char *byte, enum pkeyguard_access access, int pkey,
                          pkru_bits pkru)
{
    if (sigsetjmp(seen.after_fault, 1) == 0) {
        pkeyguard_pkru_write(pkru);
        if (access == PKEYGUARD_WRITE_ACCESS)
            *byte = 1;
        else
            (void)*byte;
        return false;
    }
    return seen.fault.si_code == SEGV_PKUERR && seen.fault.si_addr == (void *)byte &&
           (int)seen.fault.si_pkey == pkey && seen.frame_has_pkru && seen.frame_pkru == pkru;
}

/* True if a handler starts with the pkey closed, and PKRU is as before when it has returned. */
static bool survives_signal(int pkey, pkru_bits pkru)
{
    pkeyguard_pkru_write(pkru);
    os_signal_self(SIGUSR1);
    return pkeyguard_pkru_read() == pkru && (seen.handler_pkru & PKEY_AD(pkey)) &&
           seen.frame_has_pkru && seen.frame_pkru == pkru;
}

/* An access that PKRU allows must not fault: that would kill the child. */
static bool accesses_succeed(volatile char *byte, pkru_bits open, pkru_bits read_only)
{
    pkeyguard_pkru_write(open);
    *byte = 1;
    pkeyguard_pkru_write(read_only);
    return *byte == 1;
}

static bool pkey_works(volatile char *byte, int pkey)
{
    pkru_bits closed = pkeyguard_pkru_read() | PKEY_BITS(pkey);
    pkru_bits read_only = closed & ~PKEY_AD(pkey), open = closed & ~PKEY_BITS(pkey);

    return access_faults(byte, PKEYGUARD_READ_ACCESS, pkey, closed) &&
           access_faults(byte, PKEYGUARD_WRITE_ACCESS, pkey, closed) &&
           access_faults(byte, PKEYGUARD_WRITE_ACCESS, pkey, read_only) &&
           survives_signal(pkey, open) && survives_signal(pkey, read_only) &&
           accesses_succeed(byte, open, read_only);
}

static void self_test(void *findings)
{
    int *result = findings;
    int pkey = os_pkey_alloc();
    size_t page = os_page_size();
    void *address;

    if (pkey < 0) {
        *result = pkey;
        return;
    }
    os_set_signal_mask(0);
    handle_signal(SIGSEGV, self_test_on_fault);
    handle_signal(SIGUSR1, self_test_on_signal);
    if (os_allocate_pages(page, &address) == 0 &&
        os_protect_with_pkey(address, page, PROT_READ | PROT_WRITE, pkey) == 0 &&
        pkey_works(address, pkey))
        *result = 0;
}

int pkeyguard_platform_self_test(void)
{
    void *shared;
    int error = pkeys_ruled_out();

    if (error == 0)
        error = os_allocate_shared_pages(os_page_size(), &shared);
    if (error != 0)
        return error;
    *(int *)shared = -EIO;
    error = look_from_child(self_test, shared);
    if (error == 0)
        error = *(int *)shared;
    os_free_pages(shared, os_page_size());
    return error;
}
