/* SPDX-License-Identifier: MIT */
/* Sites that scan must find, and code that it must not take for sites; scan.sh lists the former. */
    .text
    .globl _start
    .type _start, @function
_start:
    nop
plain_wrpkru:
    wrpkru
    /* WRPKRU inside another instruction. */
    mov $0x00ef010f, %eax
    .byte 0x0f, 0x01            /* sgdt -0x6f(%rdi) ends in what begins no wrpkru... */
    .byte 0xef                  /* ...unless all three are read together */
    .size _start, . - _start

    .type restores, @function
restores:
    xrstor (%rax)
    xrstor 0x40(%rsp)
    xrstor64 0x12345678(%rax,%rbx)
    /* With a mask that leaves PKRU out, and with one that does not. */
    mov $0xfffffdff, %eax
    xor %edx, %edx
    xrstor 0x40(%rsp)
    mov $0x00000200, %eax
    xor %edx, %edx
    xrstor 0x40(%rsp)
    /* Inside others: an operand, a distance, a displacement. */
    movabs $0x0028ae0f00000000, %rax
    jmp . + 0x28ae0f + 5
    vaddps 0x28ae0f(%rax), %zmm1, %zmm2
    .size restores, . - restores

    /* Not sites. */
    .type harmless, @function
harmless:
    lfence
    rdpkru
    xsave (%rax)
    xsavec (%rax)
    fxrstor (%rax)
    clflush (%rax)
    xrstors (%rcx) /* for the kernel alone */
    .size harmless, . - harmless

    .type guard, @function
guard:
    rdpkru
    andl %eax, %ebx
    jz 1f
    xorl %ebx, %eax
    wrpkru
1:  rdpkru
    andl %eax, %r9d
    jz 1f
    xorl %r9d, %eax
    wrpkru
1:  rdpkru
    orl %esi, %eax
    wrpkru
    rdpkru
    orl %r15d, %eax
    wrpkru
    rdpkru
    xorl %esi, %eax
    testl %esi, %eax
    jne nearly
    orl 0x12345678(%r12), %eax
    wrpkru
    rdpkru
    xorl %esi, %eax
    testl %esi, %eax
    jne 1f
    leal (%rax,%rdx,2), %eax
    wrpkru
1:  rdpkru
    leal (%rax,%r12,2), %eax
    wrpkru
    rdpkru
    testl %eax, %r9d
    jz 1f
    testl %eax, 0x28(%r12)
    jz 1f
    xorl %r9d, %eax
    wrpkru
1:  rdpkru
    orl %eax, %r8d
    xorl %eax, %r8d
    jz 1f
    orl %r8d, %eax
    wrpkru
1:
    .size guard, . - guard

    /* Not guards of the library, but similar. */
    .type nearly, @function
nearly:
    rdpkru
    xorl %edx, %edx
    wrpkru
    rdpkru
    orl (%rsi), %ebx
    wrpkru
    xorl %edi, %eax
    wrpkru
    rdpkru
    testl %edx, (%rdi)
    wrpkru
    .size nearly, . - nearly

    /* With the mark of pkeyguard_pkru_write(), and with another NOP. */
    .type marked, @function
marked:
    wrpkru
    nopl 0x75726b70(%rax)
    wrpkru
    nopl 0x75726b71(%rax)
    .size marked, . - marked

    .type pkey_set, @function
pkey_set:
    wrpkru
    .size pkey_set, . - pkey_set
    .type pkeyguard_pkru_write, @function
pkeyguard_pkru_write:
    wrpkru
    xrstor (%rax)
    .size pkeyguard_pkru_write, . - pkeyguard_pkru_write

    .section .note.GNU-stack, "", @progbits
