/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the rows of the benchmark table
 *
 * A bench_<module>.c lists what it measures in bench_groups; bench.c, linked to each, measures it
 * and prints the table's lines.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>

/*
 * INSTRUCTIONS: executed in one operation, the kernel's included, less the baseline's. Exact, but
 * only in a machine whose clock counts instructions (GUEST_ICOUNT in ../guest/boot.sh).
 * MEAN_INSTRUCTIONS: the mean of those of many operations, which are not alike; timer interrupts
 * among them count. How often they execute WRPKRU is not counted.
 * TIMES_INSTRUCTIONS: how many times the baseline's instructions an operation executes.
 * TIMES_BASELINE: how many times as long as the baseline an operation takes, on any machine.
 * TIMES_LOWEST: the same where only what went undisturbed tells anything, of the lowest times.
 * MEMORY: resident bytes for each object, and mappings for all of them together, that an operation
 * which makes objects leaves in use; each is done in a process of its own.
 */
enum bench_unit {
    INSTRUCTIONS,
    MEAN_INSTRUCTIONS,
    TIMES_INSTRUCTIONS,
    TIMES_BASELINE,
    TIMES_LOWEST,
    MEMORY
};

/* One line of the table; the last of a group's has no name. */
struct bench_row {
    const char *name;
    void (*operation)(unsigned count); /* does it so many times */
    unsigned writes; /* how often one operation executes WRPKRU, where instructions are counted */
    double at_most;  /* the target, in the group's unit; 0: none */
};

/* Rows that share a preparation and a baseline; the last group has no name. */
struct bench_group {
    const char *name;
    enum bench_unit unit;
    const char *baseline_name; /* but for INSTRUCTIONS and MEMORY */
    void (*set_up)(void);
    void (*tear_down)(void);
    void (*baseline)(unsigned count); /* but for MEMORY */
    unsigned objects;                 /* for MEMORY */
    unsigned operations; /* for MEAN_INSTRUCTIONS; where they are counted and not alike, a period */
    const struct bench_row *rows;
};

extern const struct bench_group bench_groups[];

/* Ends the program unless what is named succeeded. */
void bench_require(bool succeeded, const char *what);

#endif
