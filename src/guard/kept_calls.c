/* SPDX-License-Identifier: MIT */
/*
 * The functions that inline guards call (arch/calls.h). On x86-64 they are in assembly, because no
 * C function keeps its caller's registers. What they do not handle they leave to C.
 *
 * open_to_write, open_to_read and close do in a few instructions what virtual_open.h and pin.h do,
 * in the same order: pin, look again whether the key has the pkey, open; and close, unpin. They
 * also nest guards on software keys (own_counts.h).
 */
#include "guard/guard_core.h"
#include "key/own_counts.h"
#include "key/virtual_open.h"
#include "region/region_record.h"

#pragma GCC visibility push(default)

#ifdef __x86_64__

/* gcc adds a stack protector to naked functions, too, if it is told to protect all. */
#if __has_attribute(no_stack_protector)
#define KEPT __attribute__((naked, used, no_instrument_function, no_stack_protector))
#else
#define KEPT __attribute__((naked, used, no_instrument_function))
#endif

#ifdef __GCC_HAVE_DWARF2_CFI_ASM
#define CFI(directive) "." directive "\n\t"
#else
#define CFI(directive)
#endif

/* clang-format off */

/*
 * Calls a C function and returns. It keeps rcx, rsi, rdi and r8 to r11, and stays out of the red
 * zone of the guard's function, whose first word has the return address.
 */
#define CALL_C(set_arguments, function)                                         \
    "leaq -120(%%rsp), %%rsp\n\t"                                               \
    CFI("cfi_adjust_cfa_offset 120")                                            \
    "pushq %%rbp\n\t"                                                           \
    CFI("cfi_adjust_cfa_offset 8")                                              \
    CFI("cfi_rel_offset %%rbp, 0")                                              \
    "movq %%rsp, %%rbp\n\t"                                                     \
    CFI("cfi_def_cfa_register %%rbp")                                           \
    "pushq %%rcx\n\t"                                                           \
    "pushq %%rsi\n\t"                                                           \
    "pushq %%rdi\n\t"                                                           \
    "pushq %%r8\n\t"                                                            \
    "pushq %%r9\n\t"                                                            \
    "pushq %%r10\n\t"                                                           \
    "pushq %%r11\n\t"                                                           \
    "andq $-16, %%rsp\n\t"                                                      \
    set_arguments "\n\t"                                                        \
    "call " function "\n\t"                                                     \
    "leaq -56(%%rbp), %%rsp\n\t"                                                \
    "popq %%r11\n\t"                                                            \
    "popq %%r10\n\t"                                                            \
    "popq %%r9\n\t"                                                             \
    "popq %%r8\n\t"                                                             \
    "popq %%rdi\n\t"                                                            \
    "popq %%rsi\n\t"                                                            \
    "popq %%rcx\n\t"                                                            \
    "popq %%rbp\n\t"                                                            \
    CFI("cfi_def_cfa %%rsp, 128")                                               \
    CFI("cfi_restore %%rbp")                                                    \
    "leaq 120(%%rsp), %%rsp\n\t"                                                \
    CFI("cfi_adjust_cfa_offset -120")                                           \
    "ret\n"

/* The calling thread's record. */
#define GET_RECORD(record)                                                      \
    "movq own_record@GOTTPOFF(%%rip), %%" record "\n\t"                         \
    "movq %%fs:(%%" record "), %%" record "\n\t"

/* To rcx: twice the number of the pkey that has these bits, which finds its counter (pin.h). */
#define GET_PKEY(bits)                                                          \
    "bsfl %%" bits ", %%ecx\n\t"

/* Unpins that pkey, and returns. rdx stays or becomes 0. */
#define UNPIN_AND_RETURN(record)                                                \
    "decl %c[pins](%%" record ",%%rcx,2)\n\t"                                   \
    "cmpl $1, %c[no_waiters](%%" record ")\n\t"                                 \
    "jne 7f\n\t"                                                                \
    "ret\n"                                                                     \
    "7:\t"                                                                      \
    CALL_C("movq %%" record ", %%rdi", "guard_wake_waiters")

/*
 * rsi: the key, which has a pkey. To rdx: what has to be undone. If both bits of the pkey, r8d, are
 * set, it opens the pkey: `open` changes eax, the value of PKRU without them. Else `is_open` jumps
 * to 8 unless the pkey is open.
 */
#define OPEN_BOUND(open, is_open)                                               \
    GET_RECORD("rax")                                                           \
    "cmpl $1, %c[registered](%%rax)\n\t"                                        \
    "jne 9f\n\t"                                                                \
    GET_PKEY("r8d")                                                             \
    "incl %c[pins](%%rax,%%rcx,2)\n\t"                                          \
    "orl %%r8d, %c[used](%%rax)\n\t"                                            \
    "cmpl %%r8d, %c[bound_bits](%%rsi)\n\t"                                     \
    "jne 8f\n\t"                                                                \
    "xorl %%ecx, %%ecx\n\t"                                                     \
    "rdpkru\n\t"                                                                \
    "xorl %%r8d, %%eax\n\t"                                                     \
    "testl %%r8d, %%eax\n\t"                                                    \
    "jne 5f\n\t"                                                                \
    open                                                                        \
    "wrpkru\n\t"                                                                \
    "leaq %c[opened](%%rsi), %%rdx\n\t"                                         \
    "ret\n"                                                                     \
    "5:\t"                                                                      \
    is_open                                                                     \
    "leaq %c[pinned](%%rsi), %%rdx\n\t"                                         \
    "ret\n"                                                                     \
    "8:\t"                                                                      \
    GET_RECORD("rax")                                                           \
    GET_PKEY("r8d")                                                             \
    "xorl %%edx, %%edx\n\t"                                                     \
    UNPIN_AND_RETURN("rax")                                                     \
    "9:\t"                                                                      \
    "xorl %%edx, %%edx\n\t"                                                     \
    "ret\n"

/*
 * r8: the pages or the key of a software guard that reads, or that writes: `nests` and `guards` are
 * the members of struct own_count. To rax and rcx: where the thread has the entry in which such
 * guards nest, for MEMBER. Jumps to `absent` if there is none.
 */
#define MEMBER(name)                                                            \
    "%%fs:%c[few]+%c[" name "](%%rax,%%rcx)"
#define FIND_OWN_COUNT(nests, absent)                                           \
    "movq own_counts@GOTTPOFF(%%rip), %%rax\n\t"                                \
    "movq %%fs:%c[latest](%%rax), %%rcx\n\t"                                    \
    "cmpq %%r8, " MEMBER(nests) "\n\t"                                          \
    "je 22f\n\t"                                                                \
    "movq %%fs:%c[end](%%rax), %%rcx\n"                                         \
    "21:\t"                                                                     \
    "subq %[entry_size], %%rcx\n\t"                                             \
    "jb " absent "\n\t"                                                         \
    "cmpq %%r8, " MEMBER(nests) "\n\t"                                          \
    "jne 21b\n\t"                                                               \
    "movq %%rcx, %%fs:%c[latest](%%rax)\n"                                      \
    "22:\t"

/* Settles that entry; rdx: what the guard had to undo. To rdx: 0. */
#define SETTLE                                                                  \
    CALL_C("movq %%fs:0, %%rdi\n\t"                                             \
           "addq %%rax, %%rdi\n\t"                                              \
           "leaq %c[few](%%rdi,%%rcx), %%rdi\n\t"                               \
           "movq %%rdx, %%rsi", "guard_settle")

/*
 * rdi: the region, or the key if it is equal to rsi, of a guard on a software key. To rdx: what has
 * to be undone, if the guard could be nested. `less` jumps if the target has less than these
 * rights, as after a release by another thread.
 */
#define NEST(rights, less, of_region, nests, guards)                            \
    "cmpq %%rdi, %%rsi\n\t"                                                     \
    "je 25f\n\t"                                                                \
    "cmpl %[" rights "], %c[pages]+%c[allowed](%%rdi)\n\t"                      \
    less " 9b\n\t"                                                              \
    "leaq %c[pages](%%rdi), %%r8\n\t"                                           \
    "leaq %c[" of_region "](%%rdi), %%rdx\n"                                    \
    "24:\t"                                                                     \
    FIND_OWN_COUNT(nests, "9b")                                                 \
    "incl " MEMBER(guards) "\n\t"                                               \
    "cmpq %%r8, " MEMBER(nests) "\n\t"                                          \
    "jne 23f\n\t"                                                               \
    "ret\n"                                                                     \
    "23:\t"                                                                     \
    "decl " MEMBER(guards) "\n\t"                                               \
    SETTLE                                                                      \
    "25:\t"                                                                     \
    "cmpl %[" rights "], %c[open](%%rsi)\n\t"                                   \
    less " 9b\n\t"                                                              \
    "movq %%rsi, %%r8\n\t"                                                      \
    "leaq %c[" of_region "]+%c[of_key](%%rsi), %%rdx\n\t"                       \
    "jmp 24b"

/*
 * eax: the kind of the undo in rdx, minus UNDO_OPENED. Jumps to the label unless it is this kind.
 */
#define UNLESS_KIND(kind, label)                                                \
    "cmpl $%c[" kind "]-%c[opened], %%eax\n\t"                                  \
    "jne " label "\n\t"

/*
 * rdx: an undo of this kind. To r8: the record; to esi: the bits of the key's pkey; and to rcx as
 * GET_PKEY. Jumps to 9 if this thread has no pin: it never has a pkey of the pool open without one.
 */
#define GET_PINNED(kind)                                                        \
    GET_RECORD("r8")                                                            \
    "movl %c[pkey_bits]-%c[" kind "](%%rdx), %%esi\n\t"                         \
    GET_PKEY("esi")                                                             \
    "cmpl $0, %c[pins](%%r8,%%rcx,2)\n\t"                                       \
    "je 9f\n\t"

#define OFFSETS                                                                 \
    [pins] "i"(offsetof(struct thread_record, pins)),                           \
    [used] "i"(offsetof(struct thread_record, used)),                           \
    [no_waiters] "i"(offsetof(struct thread_record, no_waiters)),               \
    [registered] "i"(offsetof(struct thread_record, registered)),               \
    [bound_bits] "i"(offsetof(struct pkeyguard_key, bound_bits)),               \
    [pkey_bits] "i"(offsetof(struct pkeyguard_key, pkey_bits)),                 \
    [wd_bit] "i"(offsetof(struct pkeyguard_key, wd_bit)),                       \
    [open] "i"(offsetof(struct pkeyguard_key, open)),                           \
    [pages] "i"(offsetof(struct pkeyguard_region, pages)),                      \
    [allowed] "i"(offsetof(struct pages, allowed)),                             \
    [latest] "i"(offsetof(struct own_counts, latest)),                          \
    [end] "i"(offsetof(struct own_counts, end)),                                \
    [few] "i"(offsetof(struct own_counts, few)),                                \
    [entry_size] "i"(sizeof(struct own_count)),                                 \
    [nests_readers] "i"(offsetof(struct own_count, nests_readers)),             \
    [nests_writers] "i"(offsetof(struct own_count, nests_writers)),             \
    [readers] "i"(offsetof(struct own_count, readers)),                         \
    [writers] "i"(offsetof(struct own_count, writers)),                         \
    [unbound] "i"(UNBOUND), [every_ad] "i"(EVERY_AD),                           \
    [read_only] "i"(PKEYGUARD_READ_ONLY),                                       \
    [read_write] "i"(PKEYGUARD_READ_WRITE),                                     \
    [opened] "i"(UNDO_OPENED), [pinned] "i"(UNDO_PINNED),                       \
    [reads] "i"(UNDO_READS), [writes] "i"(UNDO_WRITES),                         \
    [of_key] "i"(UNDO_OF_KEY), [kinds] "i"(UNDO_KINDS)

KEPT void pkeyguard_kept_open(void)
{
    __asm__(CALL_C("movl %%eax, %%r8d", "guard_open_slowly")
            :);
}

/* To r8d: the bits of the key's pkey. Jumps to 10 if it has none. */
#define GET_BOUND                                                               \
    "movl %c[bound_bits](%%rsi), %%r8d\n\t"                                     \
    "cmpl %[unbound], %%r8d\n\t"                                                \
    "je 10f\n\t"

KEPT void pkeyguard_kept_open_to_write(void)
{
    __asm__(GET_BOUND
            OPEN_BOUND("",
                       "notl %%eax\n\t"
                       "testl %%r8d, %%eax\n\t"
                       "jne 8f\n\t")
            "10:\t"
            NEST("read_write", "jne", "writes", "nests_writers", "writers")
            : : OFFSETS);
}

KEPT void pkeyguard_kept_open_to_read(void)
{
    __asm__(GET_BOUND
            OPEN_BOUND("orl %c[wd_bit](%%rsi), %%eax\n\t",
                       "andl %[every_ad], %%r8d\n\t"
                       "testl %%r8d, %%eax\n\t"
                       "je 8f\n\t")
            "10:\t"
            NEST("read_only", "jb", "reads", "nests_readers", "readers")
            : : OFFSETS);
}

/* A guard that reads counts only where none writes, so only then must the last one be settled. */
KEPT void pkeyguard_kept_close(void)
{
    __asm__("leal -%c[opened](%%rdx), %%eax\n\t"
            "andl %[kinds], %%eax\n\t"
            "jne 3f\n\t"
            GET_PINNED("opened")
            "xorl %%ecx, %%ecx\n\t"
            "rdpkru\n\t"
            "orl %%esi, %%eax\n\t"
            "wrpkru\n\t"
            GET_PKEY("esi")
            "2:\t"
            UNPIN_AND_RETURN("r8")
            "3:\t"
            UNLESS_KIND("pinned", "10f")
            GET_PINNED("pinned")
            "jmp 2b\n"
            "9:\t"
            "ret\n"

            "10:\t"
            UNLESS_KIND("writes", "12f")
            "leaq %c[pages]-%c[writes](%%rdx), %%r8\n"
            "11:\t"
            FIND_OWN_COUNT("nests_writers", "17f")
            "decl " MEMBER("writers") "\n\t"
            "je 16f\n\t"
            "ret\n"
            "12:\t"
            UNLESS_KIND("reads", "15f")
            "leaq %c[pages]-%c[reads](%%rdx), %%r8\n"
            "13:\t"
            FIND_OWN_COUNT("nests_readers", "17f")
            "decl " MEMBER("readers") "\n\t"
            "jne 14f\n\t"
            "cmpl $0, " MEMBER("writers") "\n\t"
            "je 16f\n"
            "14:\t"
            "ret\n"
            "15:\t"
            "leaq -%c[writes]-%c[of_key](%%rdx), %%r8\n\t"
            "cmpl $%c[writes]+%c[of_key]-%c[opened], %%eax\n\t"
            "je 11b\n\t"
            "leaq -%c[reads]-%c[of_key](%%rdx), %%r8\n\t"
            "cmpl $%c[reads]+%c[of_key]-%c[opened], %%eax\n\t"
            "je 13b\n\t"
            "jmp 17f\n"
            "16:\t"
            SETTLE
            "17:\t"
            CALL_C("movq %%rdx, %%rdi", "guard_close_slowly")
            : : OFFSETS);
}
/* clang-format on */

#else

void *pkeyguard_kept_open(void *target, size_t size, size_t offset, const char *where,
                          unsigned flags, uint64_t *ret_undo)
{
    struct pkeyguard_opened opened = guard_open_slowly(target, size, offset, where, flags);

    *ret_undo = opened.undo;
    return opened.address;
}

/* ---- nested guards on software keys, as in the assembly; no key has a pkey here ---- */

static const void *target_of_nested(const struct own_count *mine, enum pkeyguard_rights rights)
{
    compiler_fence();
    return rights == PKEYGUARD_READ_WRITE ? mine->nests_writers : mine->nests_readers;
}

static uint32_t *guards_of(struct own_count *mine, enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_READ_WRITE ? &mine->writers : &mine->readers;
}

static struct own_count *find_own_count(const void *target, enum pkeyguard_rights rights)
{
    for (int i = 0; i < FEW; i++) {
        if (target_of_nested(&own_counts.few[i], rights) == target)
            return &own_counts.few[i];
    }
    return NULL;
}

/* Returns true if the entry must be settled. */
static bool subtract_guard(struct own_count *mine, enum pkeyguard_rights rights)
{
    uint32_t left = __atomic_sub_fetch(guards_of(mine, rights), 1, __ATOMIC_RELAXED);

    return left == 0 && (rights == PKEYGUARD_READ_WRITE || mine->writers == 0);
}

static uint64_t nest(void *named, struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    bool of_key = named == (void *)key;
    const struct pages *pages = of_key ? NULL : &((struct pkeyguard_region *)named)->pages;
    const void *target = of_key ? (const void *)key : pages;
    uint64_t undo = undo_make(named, of_key, rights, GUARD_WIDENS, &(struct pkru_change){0});
    struct own_count *mine;

    if ((of_key ? key->open : pages->allowed) < (int)rights)
        return 0;
    mine = find_own_count(target, rights);
    if (mine == NULL)
        return 0;
    __atomic_add_fetch(guards_of(mine, rights), 1, __ATOMIC_RELAXED);
    if (target_of_nested(mine, rights) == target)
        return undo;
    subtract_guard(mine, rights);
    guard_settle(mine, undo);
    return 0;
}

uint64_t pkeyguard_kept_open_to_write(void *target, struct pkeyguard_key *key)
{
    return nest(target, key, PKEYGUARD_READ_WRITE);
}

uint64_t pkeyguard_kept_open_to_read(void *target, struct pkeyguard_key *key)
{
    return nest(target, key, PKEYGUARD_READ_ONLY);
}

static struct own_count *entry_of(uint64_t undo)
{
    enum pkeyguard_rights rights = undo_rights(undo);
    char *named = undo_address(undo);

    if (rights < PKEYGUARD_READ_ONLY || undo & (UNDO_RESTRICTS | UNDO_CHECKED))
        return NULL;
    return find_own_count(
        undo & UNDO_OF_KEY ? named : named + offsetof(struct pkeyguard_region, pages), rights);
}

void pkeyguard_kept_close(uint64_t undo)
{
    struct own_count *mine = entry_of(undo);

    if (mine == NULL)
        guard_close_slowly(undo);
    else if (subtract_guard(mine, undo_rights(undo)))
        guard_settle(mine, undo);
}

#endif

#pragma GCC visibility pop
