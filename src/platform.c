/* SPDX-License-Identifier: MIT */
#include <pkeyguard/platform.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pkeyguard/pkru.h>

#include "pkey/pkey_allocator.h"
#include "base/lock.h"
#include "base/os.h"
#include "pkru/signal_frame.h"

_Static_assert(sizeof(struct pkeyguard_platform) == 80, "frozen for the ABI");

/*
 * Runs look in a child process; both see the shared findings. The child may die of what it tries
 * (a filter that kills, say), so findings hold the worst answer until it has a better one. Only
 * async-signal-safe calls there: the parent may have threads.
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

static void probe(void *findings)
{
    struct pkeyguard_platform *found = findings;
    size_t page = os_page_size();
    void *address;

    if (found->pku_error == -EPERM) {
        int pkey;

        while ((pkey = os_pkey_alloc()) > 0)
            found->hardware_keys_free++;
        found->pku_error = pkey == -ENOSPC ? 0 : pkey;
    }
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

/* What the self-test's signal handler saw. */
static struct {
    sigjmp_buf after_fault;
    siginfo_t fault;
    uint32_t handler_pkru, frame_pkru;
    bool frame_has_pkru;
} seen;

static void look_around(const void *ucontext)
{
    seen.handler_pkru = pkeyguard_pkru_read();
    seen.frame_has_pkru = pkru_in_frame(ucontext, &seen.frame_pkru);
}

static void on_signal(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal, (void)info;
    look_around(ucontext);
}

static void on_fault(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal;
    look_around(ucontext);
    seen.fault = *info;
    siglongjmp(seen.after_fault, 1);
}

static void catch (int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    sigaction(signal, &action, NULL);
}

enum { READS, WRITES };

/* Under pkru an access must fault, by this pkey; a plain variable would not outlive the jump. */
static bool faults(volatile char *byte, int access, int pkey, uint32_t pkru)
{
    if (sigsetjmp(seen.after_fault, 1) == 0) {
        pkeyguard_pkru_write(pkru);
        if (access == WRITES)
            *byte = 1;
        else
            (void)*byte;
        return false;
    }
    return seen.fault.si_code == SEGV_PKUERR && seen.fault.si_addr == (void *)byte &&
           (int)seen.fault.si_pkey == pkey && seen.frame_has_pkru && seen.frame_pkru == pkru;
}

static bool survives_signal(uint32_t pkru, uint32_t deny_access)
{
    pkeyguard_pkru_write(pkru);
    os_signal_self(SIGUSR1);
    return pkeyguard_pkru_read() == pkru && (seen.handler_pkru & deny_access) &&
           seen.frame_has_pkru && seen.frame_pkru == pkru;
}

static void self_test(void *findings)
{
    int *result = findings;
    int pkey = os_pkey_alloc();
    size_t page = os_page_size();
    sigset_t none;
    void *address;
    uint32_t closed, read_only, open, ad, wd;

    if (pkey < 0) {
        *result = pkey;
        return;
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    catch (SIGSEGV, on_fault);
    catch (SIGUSR1, on_signal);
    if (os_allocate_pages(page, &address) != 0 ||
        os_protect_with_pkey(address, page, PROT_READ | PROT_WRITE, pkey) != 0)
        return;
    ad = PKEY_AD(pkey);
    wd = PKEY_WD(pkey);
    closed = pkeyguard_pkru_read() | ad | wd;
    read_only = closed & ~ad;
    open = read_only & ~wd;
    if (faults(address, READS, pkey, closed) && faults(address, WRITES, pkey, closed) &&
        faults(address, WRITES, pkey, read_only) && survives_signal(open, ad) &&
        survives_signal(read_only, ad)) {
        /* Now what must not fault: dying here leaves the result at -EIO. */
        pkeyguard_pkru_write(open);
        *(volatile char *)address = 1;
        pkeyguard_pkru_write(read_only);
        *result = *(volatile char *)address == 1 ? 0 : -EIO;
    }
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
