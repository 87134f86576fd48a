/* SPDX-License-Identifier: MIT */
#include "stepping.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#if HAS_STEPS

enum { TRAP_FLAG = 1 << 8, SEEN_ROOM = 1 << 15 };

static volatile bool stepping;
static unsigned steps;
static void (*stop_function)(void);
static uintptr_t here;            /* the instruction */
static uintptr_t seen[SEEN_ROOM]; /* a hash table of instructions */

static void on_trap(int signal, siginfo_t *info, void *ucontext)
{
    ucontext_t *context = ucontext;

    (void)signal, (void)info;
    if (stepping) {
        steps++;
        here = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
        stop_function();
    }
    if (!stepping)
        context->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

/* Below the red zone, where the compiler may have put something. */
static void set_trap_flag(void)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "orq %0, (%%rsp)\n\t"
                     "popfq\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     :
                     : "i"(TRAP_FLAG)
                     : "cc", "memory");
}

void step_through(void (*work)(void *argument), void *argument, void (*stop)(void))
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    sigfillset(&action.sa_mask);
    sigaction(SIGTRAP, &action, NULL);
    stop_function = stop;
    steps = 0;
    stepping = true;
    set_trap_flag();
    work(argument);
    stepping = false; /* the next trap clears the flag */
    __asm__ volatile("nop" : : : "memory");
}

unsigned steps_taken(void)
{
    return steps;
}

bool is_new_instruction(void)
{
    size_t place = here * 2654435761u % SEEN_ROOM;

    for (; seen[place] != 0; place = (place + 1) % SEEN_ROOM) {
        if (seen[place] == here)
            return false;
    }
    seen[place] = here;
    return true;
}

void forget_instructions(void)
{
    memset(seen, 0, sizeof(seen));
}

void stop_stepping(void)
{
    stepping = false;
}

#endif
