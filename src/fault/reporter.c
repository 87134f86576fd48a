/* SPDX-License-Identifier: MIT */
/* reporter.c - the library's own SIGSEGV handler, which prints faults and then passes them on */
#include <pkeyguard/fault.h>

#include <errno.h>
#include <stdatomic.h>

#include "base/keep_loaded.h"
#include "base/lock.h"
#include "base/os.h"
#include "fault/recovery.h"
#include "pkey/own_pkru.h"
#include "pkey/pkeys.h"
#include "pkey/thread_records.h"
#include "pkru/signal_frame.h"

static struct fault_reporter {
    bool installed;              /* under the library's lock */
    atomic_uint flags;           /* written under the library's lock, read by the handler */
    struct sigaction previous;   /* the action before; constant once the handler is installed */
    atomic_flag previous_called; /* previous has SA_RESETHAND and was called; set by the handler */
} reporter = {.previous_called = ATOMIC_FLAG_INIT};

/* True if a frame's rights on the pkey are the kernel's initial ones, or no less than the default.
 */
static bool has_default_or_initial(uint32_t pkru, uint32_t pkey)
{
    pkru_bits denied = pkru & PKEY_BITS(pkey);

    return denied == PKEY_AD(pkey) || (denied & ~pkeys_defaults()) == 0;
}

/*
 * True if some of the key's default rights were given up, and code that depends on it may still run
 * in this thread. The code that faulted may be a signal handler, which starts with the kernel's
 * initial rights, and it may have interrupted that code.
 */
static bool gave_up_rights(int pkey, const void *ucontext)
{
    return pkey_manager.given_up & PKEY_BITS(pkey) &&
           !thread_test_frames_above(stack_in_frame(ucontext), has_default_or_initial,
                                     (uint32_t)pkey);
}

/*
 * If the faulting thread has the kernel's initial rights on the key, gives it the default rights.
 * Returns false if nothing changed. If the default rights do not allow the access either, the
 * access faults again and is reported.
 */
static bool grant_default_rights(const struct pkeyguard_fault *fault, void *ucontext)
{
    int pkey = fault->key_number;
    pkru_bits mask, defaults = pkeys_defaults();
    uint32_t pkru;

    if (fault->kind != PKEYGUARD_FAULT_BY_KEY || !fault->initial_rights ||
        !pkru_in_frame(ucontext, &pkru) || gave_up_rights(pkey, ucontext))
        return false;
    mask = PKEY_BITS(pkey);
    return pkru_set_in_frame(ucontext, (pkru & ~mask) | (defaults & mask));
}

static void report_fault(const struct pkeyguard_fault *fault)
{
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    pkeyguard_fault_format(fault, text, sizeof(text));
    os_print(text);
}

/*
 * Lets the kernel apply the action. After a fault the thread makes the access again when the
 * handler returns. A signal that was sent is sent once more.
 */
static void leave_to_kernel(const siginfo_t *info, const struct sigaction *action)
{
    bool sent = info->si_code <= 0;

    if (sent && action->sa_handler == SIG_IGN)
        return;
    os_handle_signal(SIGSEGV, action, NULL);
    if (sent)
        os_signal_self_as(info);
}

/* Does what would have happened if the reporter were not installed. */
static void pass_on(int signal, siginfo_t *info, void *ucontext)
{
    static const struct sigaction default_action = {.sa_handler = SIG_DFL};
    const struct sigaction *previous = &reporter.previous;

    if (previous->sa_handler == SIG_DFL || previous->sa_handler == SIG_IGN)
        leave_to_kernel(info, previous);
    else if (previous->sa_flags & (int)SA_RESETHAND &&
             atomic_flag_test_and_set(&reporter.previous_called))
        leave_to_kernel(info, &default_action);
    else if (previous->sa_flags & SA_SIGINFO)
        previous->sa_sigaction(signal, info, ucontext);
    else
        previous->sa_handler(signal);
}

/*
 * A handler starts with the kernel's rights, and a jump out of it keeps them. Gives the thread back
 * what it had on the pkeys of others in the program. A frame without PKRU means 0.
 */
static void give_back_rights_of_others(const void *ucontext)
{
    uint32_t pkru = 0;

    if (!pkeyguard_pkru_supported())
        return;
    (void)pkru_in_frame(ucontext, &pkru);
    /* From here on no other thread makes a pkey the library's that this one still has open. */
    own_pkru_begin_change();
    own_pkru_give_back(~pkeys_own(), pkru);
    own_pkru_end_change();
}

/* Jumps to the thread's innermost recovery point. Returns if the thread has none. */
static void jump_to_recovery_point(const struct pkeyguard_fault *fault, const void *ucontext)
{
    struct recovery_point *point = own_recovery_point;

    if (point == NULL)
        return;
    own_recovery_point = point->outer;
    point->fault = *fault;
    give_back_rights_of_others(ucontext);
    siglongjmp(point->back, 1);
}

static void reporter_on_fault(int signal, siginfo_t *info, void *ucontext)
{
    int saved_errno = errno;
    struct pkeyguard_fault fault;
    bool granted = false;

    if (pkeyguard_fault_decode(info, ucontext, &fault) == 0) {
        granted = reporter.flags & PKEYGUARD_REPORTER_GRANT_DEFAULTS &&
                  grant_default_rights(&fault, ucontext);
        if (!granted && reporter.flags & PKEYGUARD_REPORTER_RECOVER)
            jump_to_recovery_point(&fault, ucontext);
        if (!granted)
            report_fault(&fault);
        errno = saved_errno;
    }
    if (!granted)
        pass_on(signal, info, ucontext);
}

bool reporter_recovers(void)
{
    return reporter.installed && reporter.flags & PKEYGUARD_REPORTER_RECOVER;
}

/*
 * The handler gets the previous handler's signal mask, so that the kernel blocks the same signals
 * during it.
 */
static int install_reporter(void)
{
    struct sigaction action = {.sa_sigaction = reporter_on_fault};
    int error = os_ensure_signal_stack();

    if (error != 0)
        return error;
    os_handle_signal(SIGSEGV, NULL, &reporter.previous);
    action.sa_mask = reporter.previous.sa_mask;
    action.sa_flags =
        SA_SIGINFO | SA_ONSTACK | (reporter.previous.sa_flags & (SA_NODEFER | SA_RESTART));
    os_handle_signal(SIGSEGV, &action, NULL);
    reporter.installed = true;
    return 0;
}

int pkeyguard_fault_reporter_install(unsigned flags)
{
    int error;

    if ((flags & ~(unsigned)(PKEYGUARD_REPORTER_GRANT_DEFAULTS | PKEYGUARD_REPORTER_RECOVER)) != 0)
        return -EINVAL;
    error = keep_loaded();
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    if (!reporter.installed)
        error = install_reporter();
    if (error == 0)
        reporter.flags = flags;
    library_unlock();
    return error;
}
