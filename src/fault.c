/* SPDX-License-Identifier: MIT */
#include <pkeyguard/fault.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "base/os.h"
#include "pkey/pkeys.h"
#include "pkru/signal_frame.h"
#include "region/region_record.h"
#include "base/registry.h"

/* ---- decoding ---- */

static enum pkeyguard_access access_of(const void *ucontext, const struct pages *pages)
{
    enum pkeyguard_access access;

    if (access_in_frame(ucontext, &access))
        return access;
    return pages->applied & PROT_READ ? PKEYGUARD_WRITE_ACCESS : PKEYGUARD_READ_ACCESS;
}

/* Whether virtual keys share the pkey. They have no default rights that a thread could lack. */
static bool shared(int pkey)
{
    return !(pkeys_bits(pkeys_snapshot()) & PKEY_AD(pkey));
}

static bool permitted(int prot, enum pkeyguard_access access)
{
    static const int needed[] = {[PKEYGUARD_READ_ACCESS] = PROT_READ | PROT_WRITE,
                                 [PKEYGUARD_WRITE_ACCESS] = PROT_WRITE,
                                 [PKEYGUARD_EXECUTE_ACCESS] = PROT_EXEC};

    return prot & needed[access];
}

/* When it happened, or -1. A guard of another thread may have bound the key since. */
static int pkey_of(const siginfo_t *info, const struct pages *pages,
                   const struct pkeyguard_fault *fault)
{
    int pkey = pages->pkey;

    if (info->si_code == SEGV_PKUERR)
        return (int)info->si_pkey;
    if (fault->kind == PKEYGUARD_FAULT_BY_PAGE && shared(pkey) &&
        permitted(pages->prot, fault->access))
        return -1;
    return pkey > 0 ? pkey : -1;
}

/* The faulting thread's own where the pages have a pkey. */
static void find_rights(const void *ucontext, const struct pages *pages,
                        struct pkeyguard_fault *fault)
{
    uint32_t pkru;

    if (fault->key_number < 0) {
        fault->rights = (enum pkeyguard_rights)pages->allowed;
    } else if (pkru_in_frame(ucontext, &pkru)) {
        fault->rights = pkru_rights(fault->key_number, pkru);
        fault->initial_rights = !shared(fault->key_number) &&
                                (pkru & PKEY_BITS(fault->key_number)) == PKEY_AD(fault->key_number);
    } else {
        /* PKRU is left out of a frame while it is 0, which forbids nothing. */
        fault->rights = PKEYGUARD_READ_WRITE;
    }
}

static struct pkeyguard_fault describe(const siginfo_t *info, const void *ucontext,
                                       const struct pkeyguard_region *region)
{
    const struct pages *pages = &region->pages;
    struct pkeyguard_fault fault = {
        .access = access_of(ucontext, pages),
        .address = info->si_addr,
        .offset = (char *)info->si_addr - region->head.address,
        .region_size = region->head.size,
    };

    if (fault.offset < 0 || (size_t)fault.offset >= pages->length)
        fault.kind = PKEYGUARD_FAULT_GUARD_PAGE;
    else if (info->si_code == SEGV_PKUERR)
        fault.kind = PKEYGUARD_FAULT_BY_KEY;
    else
        fault.kind = PKEYGUARD_FAULT_BY_PAGE;
    fault.key_number = pkey_of(info, pages, &fault);
    find_rights(ucontext, pages, &fault);
    memcpy(fault.region_name, region->name, sizeof(fault.region_name) - 1);
    return fault;
}

int pkeyguard_fault_decode(const siginfo_t *info, const void *ucontext,
                           struct pkeyguard_fault *ret_fault)
{
    struct pkeyguard_region *region;
    struct pkeyguard_fault fault;
    unsigned generation;

    if (info->si_signo != SIGSEGV || info->si_code <= 0)
        return -ENOENT;
    region = registry_find(&region_registry, info->si_addr, &generation);
    if (region == NULL)
        return -ENOENT;
    fault = describe(info, ucontext, region);
    /* A guard page inside the mapping reads as no mapping at all; elsewhere that is not ours. */
    if (fault.kind != PKEYGUARD_FAULT_GUARD_PAGE && info->si_code != SEGV_PKUERR &&
        info->si_code != SEGV_ACCERR)
        return -ENOENT;
    if (!registry_unchanged(region, generation))
        return -ENOENT;
    *ret_fault = fault;
    return 0;
}

/* ---- words ---- */

struct text {
    char *buffer;
    size_t size, length; /* length counts what did not fit, too */
};

static void append(struct text *text, const char *string)
{
    for (; *string != '\0'; string++, text->length++) {
        if (text->length + 1 < text->size)
            text->buffer[text->length] = *string;
    }
}

static void append_number(struct text *text, uintmax_t number, unsigned base)
{
    char digits[24], *first = digits + sizeof(digits);

    *--first = '\0';
    do {
        *--first = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    append(text, base == 16 ? "0x" : "");
    append(text, first);
}

static void append_region(struct text *text, const struct pkeyguard_fault *fault)
{
    if (fault->region_name[0] == '\0') {
        append(text, "a region without a name");
    } else {
        append(text, "region '");
        append(text, fault->region_name);
        append(text, "'");
    }
}

static void append_place(struct text *text, const struct pkeyguard_fault *fault)
{
    static const char *const accesses[] = {[PKEYGUARD_READ_ACCESS] = "read",
                                           [PKEYGUARD_WRITE_ACCESS] = "write",
                                           [PKEYGUARD_EXECUTE_ACCESS] = "execution"};
    bool before = fault->offset < 0;
    uintmax_t bytes =
        before ? -(uintmax_t)fault->offset : (uintmax_t)fault->offset - fault->region_size + 1;

    append(text, accesses[fault->access]);
    if (fault->kind == PKEYGUARD_FAULT_GUARD_PAGE) {
        append(text, " ");
        append_number(text, bytes, 10);
        append(text, bytes == 1 ? " byte " : " bytes ");
        append(text, before ? "before the start of " : "past the end of ");
        append_region(text, fault);
    } else {
        append(text, fault->access == PKEYGUARD_WRITE_ACCESS ? " to " : " of ");
        append_region(text, fault);
        append(text, " + ");
        append_number(text, (uintmax_t)fault->offset, 16);
    }
}

/* Page rights hold under any guard; without a pkey they are taken away where none is open. */
static bool by_page_rights(const struct pkeyguard_fault *fault)
{
    bool writes = fault->access == PKEYGUARD_WRITE_ACCESS;

    return fault->kind == PKEYGUARD_FAULT_BY_PAGE &&
           (fault->key_number > 0 ||
            fault->rights >= (writes ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY));
}

static void append_reason(struct text *text, const struct pkeyguard_fault *fault)
{
    bool by_key = fault->kind == PKEYGUARD_FAULT_BY_KEY;

    if (fault->kind == PKEYGUARD_FAULT_GUARD_PAGE) {
        append(text, "an index or a length is out of bounds");
        return;
    }
    if (by_page_rights(fault)) {
        append(text, "its page rights forbid it; see pkeyguard_region_protect()");
        return;
    }
    if (fault->initial_rights)
        append(text, "this thread has no access: it is older than the key, or in a signal handler");
    else if (fault->rights == PKEYGUARD_NO_ACCESS)
        append(text, by_key ? "this thread has no access" : "no guard has it open");
    else
        append(text, by_key ? "this thread has it read-only" : "guards have it open read-only");
    append(text, fault->access == PKEYGUARD_WRITE_ACCESS ? "; open a write scope"
                                                         : "; open a read scope");
    if (fault->initial_rights)
        append(text, ", or call pkeyguard_thread_reset() for the default rights");
}

int pkeyguard_fault_format(const struct pkeyguard_fault *fault, char *buffer, size_t size)
{
    struct text text = {.buffer = buffer, .size = size};

    append_place(&text, fault);
    append(&text, ": ");
    append_reason(&text, fault);
    append(&text, " (");
    if (fault->key_number > 0) {
        append(&text, "pkey ");
        append_number(&text, (uintmax_t)fault->key_number, 10);
        append(&text, ", ");
    }
    append(&text, "address ");
    append_number(&text, (uintptr_t)fault->address, 16);
    append(&text, ")");
    if (size > 0)
        buffer[text.length < size ? text.length : size - 1] = '\0';
    return text.length < size ? 0 : -ERANGE;
}

/* ---- the reporter ---- */

static bool installed;
static atomic_uint reporter_flags;

/* What was there before. A handler with SA_RESETHAND is called once. */
static struct sigaction previous;
static atomic_flag previous_called = ATOMIC_FLAG_INIT;

/* Rights that nobody chose become the key's default. If that is not enough, the next fault says so.
 */
static bool grant_default(const struct pkeyguard_fault *fault, void *ucontext)
{
    int pkey = fault->key_number;
    uint32_t mask, pkru, defaults = pkeys_defaults();

    if (fault->kind != PKEYGUARD_FAULT_BY_KEY || !fault->initial_rights ||
        !pkru_in_frame(ucontext, &pkru))
        return false;
    mask = PKEY_BITS(pkey);
    return pkru_set_in_frame(ucontext, (pkru & ~mask) | (defaults & mask));
}

static void report(const struct pkeyguard_fault *fault)
{
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    pkeyguard_fault_format(fault, text, sizeof(text));
    os_print(text);
}

/* The kernel's own faults happen again on return; a signal that was sent must be sent again. */
static void leave_to_kernel(const siginfo_t *info, const struct sigaction *action)
{
    bool sent = info->si_code <= 0;

    if (sent && action->sa_handler == SIG_IGN)
        return;
    os_handle_signal(SIGSEGV, action, NULL);
    if (sent)
        os_signal_self_as(info);
}

static void go_on(int signal, siginfo_t *info, void *ucontext)
{
    static const struct sigaction standard = {.sa_handler = SIG_DFL};

    if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)
        leave_to_kernel(info, &previous);
    else if (previous.sa_flags & SA_RESETHAND && atomic_flag_test_and_set(&previous_called))
        leave_to_kernel(info, &standard);
    else if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(signal, info, ucontext);
    else
        previous.sa_handler(signal);
}

static void on_fault(int signal, siginfo_t *info, void *ucontext)
{
    int saved_errno = errno;
    struct pkeyguard_fault fault;
    bool granted = false;

    if (pkeyguard_fault_decode(info, ucontext, &fault) == 0) {
        granted =
            reporter_flags & PKEYGUARD_REPORTER_GRANT_DEFAULTS && grant_default(&fault, ucontext);
        if (!granted)
            report(&fault);
        errno = saved_errno;
    }
    if (!granted)
        go_on(signal, info, ucontext);
}

/* With the previous handler's mask, so that the kernel blocks for it what it would have blocked. */
static int install(void)
{
    struct sigaction action = {.sa_sigaction = on_fault};
    int error = os_ensure_signal_stack();

    if (error != 0)
        return error;
    os_handle_signal(SIGSEGV, NULL, &previous);
    action.sa_mask = previous.sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous.sa_flags & (SA_NODEFER | SA_RESTART));
    os_handle_signal(SIGSEGV, &action, NULL);
    installed = true;
    return 0;
}

int pkeyguard_fault_reporter_install(unsigned flags)
{
    int error;

    if ((flags & ~(unsigned)PKEYGUARD_REPORTER_GRANT_DEFAULTS) != 0)
        return -EINVAL;
    error = library_lock();
    if (error != 0)
        return error;
    if (!installed)
        error = install();
    if (error == 0)
        reporter_flags = flags;
    library_unlock();
    return error;
}
