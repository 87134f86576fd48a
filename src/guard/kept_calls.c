/* SPDX-License-Identifier: MIT */
/*
 * The functions that inline guards call (arch/calls.h). On x86-64 they are in assembly, because no
 * C function keeps its caller's registers. What they do not handle they leave to C.
 *
 * open_to_write, open_to_read and close do in a few instructions what virtual_open.h and pin.h do,
 * in the same order: pin, look again whether the key has the pkey, open; and close, unpin.
 */
#include "guard/guard_core.h"
#include "key/virtual_open.h"

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
 * rsi: the key. To rdx: what has to be undone. If both bits of the pkey, r8d, are set, it opens the
 * pkey: `open` changes eax, the value of PKRU without them. Else `is_open` jumps to 8 unless the
 * pkey is open. UNBOUND, the bit of a key without a pkey, is never set in PKRU and opens nothing.
 */
#define OPEN_BOUND(open, is_open)                                               \
    GET_RECORD("rax")                                                           \
    "cmpl $1, %c[registered](%%rax)\n\t"                                        \
    "jne 9f\n\t"                                                                \
    "movl %c[bound_bits](%%rsi), %%r8d\n\t"                                     \
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
    "cmpl %[unbound], %%r8d\n\t"                                                \
    "je 8f\n\t"                                                                 \
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
    "ret"

/* Jumps to the label unless rdx is an undo of this kind. */
#define UNLESS_KIND(kind, label)                                                \
    "leal -%c[" kind "](%%rdx), %%eax\n\t"                                      \
    "testb %[kinds], %%al\n\t"                                                  \
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
    [unbound] "i"(UNBOUND), [every_ad] "i"(EVERY_AD),                           \
    [opened] "i"(UNDO_OPENED), [pinned] "i"(UNDO_PINNED), [kinds] "i"(UNDO_KINDS)

KEPT void pkeyguard_kept_open(void)
{
    __asm__(CALL_C("movl %%eax, %%r8d", "guard_open_slowly")
            :);
}

KEPT void pkeyguard_kept_open_to_write(void)
{
    __asm__(OPEN_BOUND("",
                       "notl %%eax\n\t"
                       "testl %%r8d, %%eax\n\t"
                       "jne 8f\n\t")
            : : OFFSETS);
}

KEPT void pkeyguard_kept_open_to_read(void)
{
    __asm__(OPEN_BOUND("orl %c[wd_bit](%%rsi), %%eax\n\t",
                       "andl %[every_ad], %%r8d\n\t"
                       "testl %%r8d, %%eax\n\t"
                       "je 8f\n\t")
            : : OFFSETS);
}

KEPT void pkeyguard_kept_close(void)
{
    __asm__(UNLESS_KIND("opened", "3f")
            GET_PINNED("opened")
            "xorl %%ecx, %%ecx\n\t"
            "rdpkru\n\t"
            "orl %%esi, %%eax\n\t"
            "wrpkru\n\t"
            GET_PKEY("esi")
            "2:\t"
            UNPIN_AND_RETURN("r8")
            "3:\t"
            UNLESS_KIND("pinned", "4f")
            GET_PINNED("pinned")
            "jmp 2b\n"
            "4:\t"
            CALL_C("movq %%rdx, %%rdi", "guard_close_slowly")
            "9:\t"
            "ret"
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

/* No key has a pkey here. */
uint64_t pkeyguard_kept_open_to_write(struct pkeyguard_key *key)
{
    (void)key;
    return 0;
}

uint64_t pkeyguard_kept_open_to_read(struct pkeyguard_key *key)
{
    (void)key;
    return 0;
}

void pkeyguard_kept_close(uint64_t undo)
{
    guard_close_slowly(undo);
}

#endif

#pragma GCC visibility pop
