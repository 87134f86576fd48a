/* SPDX-License-Identifier: MIT */
/*
 * usage: bench_<module> instructions   lines of the groups that count instructions or memory, and
 *                                      whether each target is met: the exit status
 *        bench_<module> times [ROUNDS] lines of the groups that compare times; their targets are
 *                                      printed and decide nothing
 */
#include "bench.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

/* So few operations in a row that, of many tries, some see no timer interrupt. */
enum { COUNT = 10, TRIES = 50 };
enum { MAX_ROUNDS = 2000, ROUNDS_IN_PLACE = 100, MAX_ROWS = 16 };

static bool met = true;

void bench_require(bool succeeded, const char *what)
{
    if (succeeded)
        return;
    fprintf(stderr, "bench: %s failed\n", what);
    exit(2);
}

/* The time stamp counter's advance over the operations, undisturbed. */
static double ticks(void (*operation)(unsigned count), unsigned count)
{
    uint64_t fewest = UINT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        uint64_t begin = __rdtsc(), taken;

        operation(count);
        taken = __rdtsc() - begin;
        if (taken < fewest)
            fewest = taken;
    }
    return (double)fewest;
}

/* Without what the function spends outside its loop. */
static double each(void (*operation)(unsigned count), unsigned count)
{
    return (ticks(operation, 2 * count) - ticks(operation, count)) / count;
}

/* All of them have been done once before. */
static double mean(void (*operation)(unsigned count), unsigned count)
{
    uint64_t begin;

    operation(count);
    begin = __rdtsc();
    operation(count);
    return (double)(__rdtsc() - begin) / count;
}

/* What the clock must show to be believed. */
static void nothing(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __asm__ volatile("");
}

static void hundred_instructions(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __asm__ volatile(".rept 100\n\tnop\n\t.endr");
}

static volatile sig_atomic_t writes;

static void on_step(int signal, siginfo_t *info, void *context)
{
    static const unsigned char wrpkru[] = {0x0f, 0x01, 0xef};
    const ucontext_t *stepped = context;

    (void)signal, (void)info;
    if (memcmp((const void *)stepped->uc_mcontext.gregs[REG_RIP], wrpkru, sizeof(wrpkru)) == 0)
        writes++;
}

/* Steps through the operation: with the trap flag set, the CPU traps before each instruction. */
static unsigned count_writes(void (*operation)(unsigned count))
{
    static const unsigned long long trap = 0x100;
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGTRAP, &action, NULL);
    writes = 0;
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap);
    operation(1);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~trap);
    return (unsigned)writes;
}

/* Ends a line. */
static void print_target(const struct bench_row *row, int decimals)
{
    if (row->at_most != 0)
        printf(" ≤ %.*f", decimals, row->at_most);
    printf(" |\n");
}

static void hold_to_target(const struct bench_row *row, double cost)
{
    if (row->at_most == 0 || cost <= row->at_most)
        return;
    fprintf(stderr, "bench: %s: %.2f, not at most %.2f\n", row->name, cost, row->at_most);
    met = false;
}

static double instructions(const struct bench_group *group, void (*operation)(unsigned count))
{
    if (group->unit == MEAN_INSTRUCTIONS)
        return mean(operation, group->operations);
    return each(operation, group->operations != 0 ? group->operations : COUNT);
}

static void print_writes(const struct bench_row *row)
{
    unsigned counted = count_writes(row->operation);

    printf(" %u |", counted);
    if (counted == row->writes)
        return;
    fprintf(stderr, "bench: %s: %u WRPKRU, not %u\n", row->name, counted, row->writes);
    met = false;
}

static void count_instructions(const struct bench_group *group)
{
    bool multiple = group->unit == TIMES_INSTRUCTIONS;
    int decimals = multiple ? 2 : 0;
    double baseline;

    group->set_up();
    baseline = instructions(group, group->baseline);
    if (multiple)
        printf("| **%s** | × %s (%.0f instructions) | | |\n", group->name, group->baseline_name,
               baseline);
    else
        printf("| **%s** | instructions | | |\n", group->name);
    for (const struct bench_row *row = group->rows; row->name != NULL; row++) {
        double count = instructions(group, row->operation);
        double cost = multiple ? count / baseline : count - baseline;

        printf("| %s | %.*f |", row->name, decimals, cost);
        if (group->unit == MEAN_INSTRUCTIONS)
            printf(" |");
        else
            print_writes(row);
        print_target(row, decimals);
        hold_to_target(row, cost);
    }
    group->tear_down();
}

struct memory {
    long kilobytes, mappings;
};

/* Without files' pages: a child maps those of its libraries anew. */
static struct memory memory_in_use(void)
{
    FILE *sums = fopen("/proc/self/smaps_rollup", "r"), *mappings = fopen("/proc/self/maps", "r");
    struct memory memory = {0};
    char line[1024];

    bench_require(sums != NULL && mappings != NULL, "opening /proc/self");
    while (fgets(line, sizeof(line), sums) != NULL &&
           sscanf(line, "Anonymous: %ld", &memory.kilobytes) != 1)
        ;
    while (fgets(line, sizeof(line), mappings) != NULL)
        memory.mappings++;
    fclose(sums);
    fclose(mappings);
    return memory;
}

/* In a child, which finds nothing that another contestant has given back. */
static struct memory memory_for(void (*operation)(unsigned count), unsigned objects)
{
    struct memory memory;
    int ends[2];
    pid_t child;

    bench_require(pipe(ends) == 0, "pipe");
    fflush(stdout);
    child = fork();
    bench_require(child >= 0, "fork");
    if (child == 0) {
        struct memory before = memory_in_use();

        operation(objects);
        memory = memory_in_use();
        memory.kilobytes -= before.kilobytes;
        memory.mappings -= before.mappings;
        _exit(write(ends[1], &memory, sizeof(memory)) != sizeof(memory));
    }
    close(ends[1]);
    bench_require(read(ends[0], &memory, sizeof(memory)) == sizeof(memory), "measuring memory");
    close(ends[0]);
    waitpid(child, NULL, 0);
    return memory;
}

static void count_memory(const struct bench_group *group)
{
    group->set_up();
    printf("| **%s** | bytes each, mappings | | |\n", group->name);
    for (const struct bench_row *row = group->rows; row->name != NULL; row++) {
        struct memory memory = memory_for(row->operation, group->objects);
        double cost = 1024.0 * (double)memory.kilobytes / group->objects;

        printf("| %s | %.1f, %ld | |", row->name, cost, memory.mappings);
        print_target(row, 0);
        hold_to_target(row, cost);
    }
    group->tear_down();
}

static double nanoseconds(void (*operation)(unsigned count))
{
    struct timespec begin, end;

    operation(COUNT); /* the others may have taken its place in the caches */
    clock_gettime(CLOCK_MONOTONIC, &begin);
    operation(COUNT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) /
           COUNT;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

static double lowest(const double *values, size_t count)
{
    double low = values[0];

    for (size_t i = 1; i < count; i++) {
        if (values[i] < low)
            low = values[i];
    }
    return low;
}

/* Leaves the values in another order. */
static double typical(const struct bench_group *group, double *times, const double *baseline,
                      size_t rounds)
{
    if (group->unit == TIMES_LOWEST)
        return lowest(times, rounds) / lowest(baseline, rounds);
    for (size_t round = 0; round < rounds; round++)
        times[round] /= baseline[round];
    return median(times, rounds);
}

/* What a system call costs depends on where its pages lie: the next ones shall lie elsewhere. */
static void set_up_elsewhere(const struct bench_group *group)
{
    enum { SPACER = 3 << 19 };

    bench_require(mmap(NULL, SPACER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED,
                  "mmap");
    group->set_up();
}

/* The contestants take turns, so that what slows the machine down for a while slows all of them. */
static void compare_times(const struct bench_group *group, size_t rounds)
{
    static double times[MAX_ROWS + 1][MAX_ROUNDS]; /* the last row's: the baseline's */
    double costs[MAX_ROWS], baseline;
    size_t rows = 0;

    while (group->rows[rows].name != NULL)
        rows++;
    for (size_t round = 0; round < rounds; round++) {
        if (round % ROUNDS_IN_PLACE == 0) {
            if (round != 0)
                group->tear_down();
            set_up_elsewhere(group);
        }
        for (size_t turn = 0; turn <= rows; turn++) {
            size_t who = (round + turn) % (rows + 1);

            times[who][round] =
                nanoseconds(who == rows ? group->baseline : group->rows[who].operation);
        }
    }
    group->tear_down();
    for (size_t row = 0; row < rows; row++)
        costs[row] = typical(group, times[row], times[rows], rounds);

    baseline =
        group->unit == TIMES_LOWEST ? lowest(times[rows], rounds) : median(times[rows], rounds);
    printf("| **%s** | × %s (%.3g µs) | | |\n", group->name, group->baseline_name, baseline / 1000);
    for (size_t i = 0; i < rows; i++) {
        printf("| %s | %.2f | |", group->rows[i].name, costs[i]);
        print_target(&group->rows[i], 2);
    }
}

int main(int argc, char *argv[])
{
    bool counts = argc == 2 && strcmp(argv[1], "instructions") == 0;
    long rounds = argc == 3 ? strtol(argv[2], NULL, 10) : MAX_ROUNDS;

    if (!counts &&
        (argc < 2 || strcmp(argv[1], "times") != 0 || rounds < 1 || rounds > MAX_ROUNDS)) {
        fprintf(stderr, "usage: %s instructions | times [ROUNDS]\n", argv[0]);
        return 2;
    }
    if (counts && each(hundred_instructions, COUNT) - each(nothing, COUNT) != 100) {
        fprintf(stderr, "bench: this machine's clock does not count instructions\n");
        return 2;
    }
    for (const struct bench_group *group = bench_groups; group->name != NULL; group++) {
        if (counts == (group->unit == TIMES_BASELINE || group->unit == TIMES_LOWEST))
            continue;
        if (!counts)
            compare_times(group, (size_t)rounds);
        else if (group->unit == MEMORY)
            count_memory(group);
        else
            count_instructions(group);
    }
    return met ? 0 : 1;
}
