/* SPDX-License-Identifier: MIT */
/*
 * usage: bench_MODULE instructions    measures the groups that count instructions or memory; fails
 *                                     if a target is missed
 *        bench_MODULE targets         the same, without what has no targets: other software, and
 *                                     means
 *        bench_MODULE times [ROUNDS]  measures the groups that compare times; prints the targets
 *                                     and does not check them
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

/* In at least one of TRIES tries, COUNT operations run without a timer interrupt. */
enum { COUNT = 10, TRIES = 10 };
/* After ROUNDS_IN_PLACE rounds a group is set up again at other addresses. */
enum { MAX_ROUNDS = 2000, ROUNDS_IN_PLACE = 100, MAX_ROWS = 16 };

static bool targets_only;
static bool targets_met = true;

void bench_require(bool succeeded, const char *what)
{
    if (succeeded)
        return;
    fprintf(stderr, "bench: %s failed\n", what);
    exit(2);
}

/* ---- instructions: the time stamp counter counts them in a guest with GUEST_ICOUNT ---- */

/* The fewest ticks that count operations took: those of a try without interrupts. */
static double fewest_ticks(void (*operation)(unsigned count), unsigned count)
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

/* The difference of two runs leaves out what the function executes outside its loop. */
static double ticks_per_operation(void (*operation)(unsigned count), unsigned count)
{
    return (fewest_ticks(operation, 2 * count) - fewest_ticks(operation, count)) / count;
}

/* Measures the second of two equal runs: it finds the keys bound as the first one leaves them. */
static double mean_ticks(void (*operation)(unsigned count), unsigned count)
{
    uint64_t begin;

    operation(count);
    begin = __rdtsc();
    operation(count);
    return (double)(__rdtsc() - begin) / count;
}

static void no_instructions(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __asm__ volatile("");
}

static void hundred_instructions(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __asm__ volatile(".rept 100\n\tnop\n\t.endr");
}

static bool clock_counts_instructions(void)
{
    return ticks_per_operation(hundred_instructions, COUNT) -
               ticks_per_operation(no_instructions, COUNT) ==
           100;
}

/* What single steps counted: all instructions, and those that are WRPKRU. */
struct steps {
    unsigned all, wrpkru;
};

static volatile struct steps counted; /* written by on_step() */

static void on_step(int signal, siginfo_t *info, void *context)
{
    static const unsigned char wrpkru[] = {0x0f, 0x01, 0xef};
    const ucontext_t *stepped = context;

    (void)signal, (void)info;
    counted.all++;
    if (memcmp((const void *)stepped->uc_mcontext.gregs[REG_RIP], wrpkru, sizeof(wrpkru)) == 0)
        counted.wrpkru++;
}

/* Counts one operation. With the trap flag set the CPU traps between instructions. */
static struct steps single_step(void (*operation)(unsigned count))
{
    static const unsigned long long trap_flag = 0x100;
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGTRAP, &action, NULL);
    counted = (struct steps){0};
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap_flag);
    operation(1);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~trap_flag);
    return counted;
}

/* The last column; ends the row. */
static void print_target(const struct bench_row *row, int decimals)
{
    if (row->at_most != 0)
        printf(" ≤ %.*f", decimals, row->at_most);
    printf(" |\n");
}

static void check_target(const struct bench_row *row, double cost)
{
    if (row->at_most == 0 || cost <= row->at_most)
        return;
    fprintf(stderr, "bench: %s: %.2f is more than the target %.2f\n", row->name, cost,
            row->at_most);
    targets_met = false;
}

/* The instructions of one operation. */
static double count_operation(const struct bench_group *group, void (*operation)(unsigned count))
{
    if (group->unit == STEPS) {
        operation(1); /* binds what it calls */
        return single_step(operation).all;
    }
    if (group->unit == MEAN_INSTRUCTIONS)
        return mean_ticks(operation, group->operations);
    return ticks_per_operation(operation, group->operations != 0 ? group->operations : COUNT);
}

/* Prints and checks the column of WRPKRU. */
static void print_wrpkru(const struct bench_row *row)
{
    unsigned writes = single_step(row->operation).wrpkru;

    printf(" %u |", writes);
    if (writes == row->writes)
        return;
    fprintf(stderr, "bench: %s: %u WRPKRU instead of %u\n", row->name, writes, row->writes);
    targets_met = false;
}

static void count_instructions(const struct bench_group *group)
{
    bool ratio = group->unit == INSTRUCTION_RATIO;
    int decimals = ratio ? 2 : 0;
    double baseline;

    group->set_up();
    baseline = count_operation(group, group->baseline);
    if (ratio)
        printf("| **%s** | × %s (%.0f instructions) | | |\n", group->name, group->baseline_name,
               baseline);
    else
        printf("| **%s** | instructions | | |\n", group->name);
    if (group->crowd != NULL)
        group->crowd();
    for (const struct bench_row *row = group->rows; row->name != NULL; row++) {
        double count, cost;

        if (targets_only && row->other)
            continue;
        count = count_operation(group, row->operation);
        cost = ratio ? count / baseline : count - baseline;
        if (group->unit == STEPS)
            cost++; /* the return, which the baseline's function has too */

        printf("| %s | %.*f |", row->name, decimals, cost);
        if (group->unit == MEAN_INSTRUCTIONS)
            printf(" |");
        else
            print_wrpkru(row);
        print_target(row, decimals);
        check_target(row, cost);
    }
    group->tear_down();
}

/* ---- memory ---- */

struct memory {
    long kilobytes, mappings;
};

/* Only anonymous memory: a child's pages of files become resident again as it uses them. */
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

/* Runs the operation in a child process, where it cannot reuse what another row has freed. */
static struct memory measure_memory(void (*operation)(unsigned count), unsigned objects)
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
        struct memory memory;
        double cost;

        if (targets_only && row->other)
            continue;
        memory = measure_memory(row->operation, group->objects);
        cost = 1024.0 * (double)memory.kilobytes / group->objects;

        printf("| %s | %.1f, %ld | |", row->name, cost, memory.mappings);
        print_target(row, 0);
        check_target(row, cost);
    }
    group->tear_down();
}

/* ---- times ---- */

/* Nanoseconds of one operation. The first COUNT of them are not measured: they fill the caches. */
static double nanoseconds(void (*operation)(unsigned count))
{
    struct timespec begin, end;

    operation(COUNT);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    operation(COUNT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) /
           COUNT;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Sorts the values. */
static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
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

/* The cost of a row, from its times and the baseline's. Overwrites the row's times. */
static double time_ratio(const struct bench_group *group, double *times, const double *baseline,
                         size_t rounds)
{
    if (group->unit == LOWEST_TIME_RATIO)
        return lowest(times, rounds) / lowest(baseline, rounds);
    for (size_t round = 0; round < rounds; round++)
        times[round] /= baseline[round];
    return median(times, rounds);
}

/* Moves the next mappings to other addresses: the cost of a system call depends on them. */
static void set_up_elsewhere(const struct bench_group *group)
{
    enum { SPACER = 3 << 19 };

    bench_require(mmap(NULL, SPACER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED,
                  "mmap");
    group->set_up();
}

static void tear_down_and_set_up(const struct bench_group *group, size_t round)
{
    if (round != 0)
        group->tear_down();
    set_up_elsewhere(group);
}

/*
 * Fills times[row] with a time for each round; times[row_count] is the baseline's. Rows and
 * baseline take turns in each round, so a slow moment of the machine slows all of them.
 */
static void measure_rounds(const struct bench_group *group, size_t row_count, size_t rounds,
                           double times[][MAX_ROUNDS])
{
    for (size_t round = 0; round < rounds; round++) {
        if (round % ROUNDS_IN_PLACE == 0)
            tear_down_and_set_up(group, round);
        for (size_t turn = 0; turn <= row_count; turn++) {
            size_t row = (round + turn) % (row_count + 1);

            times[row][round] =
                nanoseconds(row == row_count ? group->baseline : group->rows[row].operation);
        }
    }
    group->tear_down();
}

/* The same for a group with a crowd, whose baseline is measured first in each place. */
static void measure_rounds_with_crowd(const struct bench_group *group, size_t row_count,
                                      size_t rounds, double times[][MAX_ROUNDS])
{
    for (size_t begin = 0, end; begin < rounds; begin = end) {
        end = begin + ROUNDS_IN_PLACE < rounds ? begin + ROUNDS_IN_PLACE : rounds;
        tear_down_and_set_up(group, begin);
        for (size_t round = begin; round < end; round++)
            times[row_count][round] = nanoseconds(group->baseline);
        group->crowd();
        for (size_t round = begin; round < end; round++) {
            for (size_t row = 0; row < row_count; row++)
                times[row][round] = nanoseconds(group->rows[row].operation);
        }
    }
    group->tear_down();
}

static void compare_times(const struct bench_group *group, size_t rounds)
{
    static double times[MAX_ROWS + 1][MAX_ROUNDS];
    double costs[MAX_ROWS], *baseline_times, baseline;
    size_t row_count = 0;

    while (group->rows[row_count].name != NULL)
        row_count++;
    if (group->crowd != NULL)
        measure_rounds_with_crowd(group, row_count, rounds, times);
    else
        measure_rounds(group, row_count, rounds, times);
    baseline_times = times[row_count];
    for (size_t row = 0; row < row_count; row++)
        costs[row] = time_ratio(group, times[row], baseline_times, rounds);
    baseline = group->unit == LOWEST_TIME_RATIO ? lowest(baseline_times, rounds)
                                                : median(baseline_times, rounds);

    printf("| **%s** | × %s (%.3g µs) | |\n", group->name, group->baseline_name, baseline / 1000);
    for (size_t row = 0; row < row_count; row++) {
        printf("| %s | %.2f |", group->rows[row].name, costs[row]);
        print_target(&group->rows[row], 2);
    }
}

static void measure(const struct bench_group *group, bool counts, size_t rounds)
{
    bool compares = group->unit == TIME_RATIO || group->unit == LOWEST_TIME_RATIO;

    if (counts == compares || (targets_only && group->unit == MEAN_INSTRUCTIONS))
        return;
    if (compares)
        compare_times(group, rounds);
    else if (group->unit == MEMORY)
        count_memory(group);
    else
        count_instructions(group);
}

int main(int argc, char *argv[])
{
    const char *what = argc < 2 ? "" : argv[1];
    bool counts = argc == 2 && strcmp(what, "instructions") == 0;
    long rounds = argc == 3 ? strtol(argv[2], NULL, 10) : MAX_ROUNDS;

    targets_only = argc == 2 && strcmp(what, "targets") == 0;
    counts = counts || targets_only;
    if (!counts && (strcmp(what, "times") != 0 || rounds < 1 || rounds > MAX_ROUNDS)) {
        fprintf(stderr, "usage: %s instructions | targets | times [ROUNDS]\n", argv[0]);
        return 2;
    }
    if (counts && !clock_counts_instructions()) {
        fprintf(stderr, "bench: this machine's clock does not count instructions\n");
        return 2;
    }
    for (const struct bench_group *group = bench_groups; group->name != NULL; group++)
        measure(group, counts, (size_t)rounds);
    return targets_met ? 0 : 1;
}
