/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the rows of the benchmark's tables
 *
 * Each bench_MODULE.c lists in bench_groups what it measures. bench.c is linked to each of them: it
 * measures the groups and prints their rows.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>

/*
 * The unit of a group's costs.
 *
 * INSTRUCTIONS: instructions of one operation, the kernel's included, minus the baseline's. Exact,
 *     but only on a machine whose clock counts instructions (GUEST_ICOUNT in ../guest/boot.sh).
 * MEAN_INSTRUCTIONS: the same, but the mean of many operations whose costs differ. Timer interrupts
 *     are included, and WRPKRU is not counted.
 * STEPS: instructions of one function, counted by single steps from its first one to its return.
 *     The baseline calls in the same way a function that only returns.
 * INSTRUCTION_RATIO: instructions of one operation divided by the baseline's.
 * TIME_RATIO: the time of one operation divided by the baseline's, on any machine.
 * LOWEST_TIME_RATIO: its lowest time divided by the baseline's lowest time. This is for emulated
 *     CPUs, where only the rounds count in which nothing else ran.
 * MEMORY: memory that an operation leaves in use, in bytes for each object that it creates, and the
 *     number of its mappings.
 */
enum bench_unit {
    INSTRUCTIONS,
    MEAN_INSTRUCTIONS,
    STEPS,
    INSTRUCTION_RATIO,
    TIME_RATIO,
    LOWEST_TIME_RATIO,
    MEMORY
};

/* A row of the table. The last row of a group has no name. */
struct bench_row {
    const char *name;
    void (*operation)(unsigned count); /* performs the operation count times */
    unsigned writes;                   /* how many WRPKRU one operation executes; not checked with
                                          MEAN_INSTRUCTIONS, times and MEMORY */
    double at_most;                    /* the target, in the group's unit; 0: none */
    bool other; /* not the library but what it is compared with: not run by "targets" */
};

/* Rows with the same preparation and baseline. The last group has no name. */
struct bench_group {
    const char *name;
    enum bench_unit unit;
    const char *baseline_name; /* for ratios */
    void (*set_up)(void);
    void (*tear_down)(void);
    void (*baseline)(unsigned count); /* for all units except MEMORY */
    void (*crowd)(void); /* TIME_RATIO, INSTRUCTION_RATIO: runs after the baseline is measured and
                            before the rows are; prepares what the rows have and the baseline has
                            not; may be NULL */
    unsigned objects;    /* MEMORY: how many objects an operation creates */
    unsigned operations; /* MEAN_INSTRUCTIONS: how many operations to measure. INSTRUCTIONS and
                            INSTRUCTION_RATIO: costs repeat after so many; 0: all are equal */
    const struct bench_row *rows;
};

extern const struct bench_group bench_groups[];

/* Ends the program unless succeeded is true. what: the name of the call that failed. */
void bench_require(bool succeeded, const char *what);

#endif
