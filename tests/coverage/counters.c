/* SPDX-License-Identifier: MIT */
/*
 * Keeps gcov's counters in a file that a program and its children share. gcov writes its counters
 * when a process calls exit(), but most tests end otherwise: libcheck's children by _exit(), others
 * by a signal. Here each count is in the file at once.
 *
 * The environment says what a program does:
 * COUNT_INTO=FILE   it counts in FILE, which is made if it is not there
 * COUNTED_IN=FILE   it adds the counters at the end of FILE, which the same program has made, to
 *                   gcov's .gcda files, and exits
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Whole pages: see counters.ld. */
extern char counters_begin[], counters_end[];

void __gcov_dump(void);

/* What gcov does in each process that exits: nothing, because the file has the counters. */
void __wrap___gcov_exit(void);
void __wrap___gcov_exit(void)
{
}

static _Noreturn void fail(const char *file)
{
    perror(file);
    _exit(1);
}

static void count_into(const char *file, size_t size)
{
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
        mmap(counters_begin, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
            counters_begin)
        fail(file);
    close(fd);
}

static _Noreturn void add_to_gcov(const char *file, size_t size)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

    if (end < (off_t)size || pread(fd, counters_begin, size, end - (off_t)size) != (ssize_t)size)
        fail(file);
    __gcov_dump();
    _exit(0);
}

/* gcov's own constructors have priority 100. The library's come after this one. */
__attribute__((constructor(101))) static void share_counters(void)
{
    const char *count_file = getenv("COUNT_INTO"), *counted_file = getenv("COUNTED_IN");
    size_t size = (size_t)(counters_end - counters_begin);

    if (counted_file != NULL)
        add_to_gcov(counted_file, size);
    if (count_file != NULL)
        count_into(count_file, size);
}
