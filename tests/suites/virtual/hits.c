/* SPDX-License-Identifier: MIT */
/* The memory that a guard writes to when its key is bound. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "test_virtual.h"

enum { TRAP_FLAG = 0x100, LINE_BYTES = 64, MOST_LINES = 64, MOST_RANGES = 128 };

/* Lives on a thread's stack: writes to stacks are not traced. */
struct trace {
    struct range {
        uintptr_t start, end;
    } ranges[MOST_RANGES];
    int range_count, line_count;
    uintptr_t lines[MOST_LINES];
    uintptr_t open_page;
};

static struct trace *trace;
static uintptr_t main_self;

static void protect_range(struct range range, int prot)
{
    if (range.start < range.end)
        syscall(SYS_mprotect, range.start, range.end - range.start, prot);
}

/* Has the CPU trap after the next instruction, or no more. */
static void step_from(void *context, bool trap)
{
#ifdef __x86_64__
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

    *flags = trap ? *flags | TRAP_FLAG : *flags & ~TRAP_FLAG;
#else
    (void)context, (void)trap;
#endif
}

static void on_write(int unused, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;

    (void)unused;
    if (trace->line_count < MOST_LINES)
        trace->lines[trace->line_count++] = address / LINE_BYTES;
    trace->open_page = address & ~(uintptr_t)(PAGE_BYTES - 1);
    protect_range((struct range){trace->open_page, trace->open_page + PAGE_BYTES}, PAGE_RW);
    step_from(context, true);
}

/* Runs after the instruction that wrote. */
static void on_step(int unused, siginfo_t *info, void *context)
{
    (void)unused, (void)info;
    protect_range((struct range){trace->open_page, trace->open_page + PAGE_BYTES}, PROT_READ);
    step_from(context, false);
}

static void add_range(uintptr_t start, uintptr_t end)
{
    ck_assert_int_lt(trace->range_count, MOST_RANGES);
    trace->ranges[trace->range_count++] = (struct range){start, end};
}

/* Leaves out the two pages on either side of a thread's descriptor, which are its own memory. */
static void add_around(uintptr_t start, uintptr_t end, uintptr_t self)
{
    uintptr_t page = self & ~(uintptr_t)(PAGE_BYTES - 1);

    if (self < start || self >= end) {
        add_range(start, end);
        return;
    }
    add_range(start, page - 2 * PAGE_BYTES < start ? start : page - 2 * PAGE_BYTES);
    add_range(page + 2 * PAGE_BYTES < end ? page + 2 * PAGE_BYTES : end, end);
}

/* All writable memory but the stacks and the regions. */
static void find_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    uintptr_t local = (uintptr_t)&maps;
    char line[512];

    trace->range_count = 0;
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end;
        char prot[5];
        bool is_region = false;

        ck_assert_int_eq(sscanf(line, "%lx-%lx %4s", &start, &end, prot), 3);
        for (int i = 0; i < KEYS; i++)
            is_region |= (uintptr_t)address_of(regions[i]) - start < end - start;
        if (strcmp(prot, "rw-p") == 0 && strstr(line, "[stack]") == NULL && !is_region &&
            local - start >= end - start)
            add_around(start, end, main_self);
    }
    fclose(maps);
}

static void protect_ranges(int prot)
{
    for (int i = 0; i < trace->range_count; i++)
        protect_range(trace->ranges[i], prot);
}

static void write_and_read(void)
{
    pkeyguard_scoped_write (volatile int, number, regions[0])
        *number = 1;
    pkeyguard_scoped_read (volatile int, number, regions[0])
        (void)*number;
}

/*
 * Finds the cache lines that a hit writes to: memory is read-only, each fault is noted, and the
 * instruction is run again by itself.
 */
static void trace_hit(struct trace *ret_trace)
{
    struct sigaction write = {.sa_sigaction = on_write, .sa_flags = SA_SIGINFO};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &write, NULL);
    sigaction(SIGTRAP, &step, NULL);
    trace = ret_trace;
    /* The first round binds the key, and the functions of shared libraries. */
    for (int i = 0; i < 2; i++) {
        write_and_read();
        find_ranges();
        trace->line_count = 0;
        protect_ranges(PROT_READ);
        write_and_read();
        protect_ranges(PAGE_RW);
    }
    ck_assert_int_gt(trace->line_count, 0);
    ck_assert_int_lt(trace->line_count, MOST_LINES);
}

static void *trace_there(void *ret_trace)
{
    struct trace mine;

    trace_hit(&mine);
    *(struct trace *)ret_trace = mine;
    return NULL;
}

/*
 * A hit takes no lock and counts in no memory of the key or of all threads. Two threads that use
 * the same key write to no line in common.
 */
START_TEST(hit_writes_to_no_shared_cache_line)
{
    struct trace here, there;
    pthread_t thread;

    main_self = (uintptr_t)pthread_self();
    trace_hit(&here);
    ck_assert_int_eq(pthread_create(&thread, NULL, trace_there, &there), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (int i = 0; i < here.line_count; i++) {
        for (int k = 0; k < there.line_count; k++)
            ck_assert_uint_ne(here.lines[i], there.lines[k]);
    }
}
END_TEST

void add_hits(Suite *suite)
{
    TCase *tests = add_case(suite, "hits", set_up_keys, tear_down_keys);

    add_pku_test(tests, hit_writes_to_no_shared_cache_line);
}
