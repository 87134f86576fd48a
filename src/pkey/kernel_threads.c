/* SPDX-License-Identifier: MIT */
#include "pkey/kernel_threads.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/process.h"

/*
 * /proc/self/task, kept open. The program may close the descriptor, or open a file of its own under
 * that number, so each use checks device and inode. A fork child has its parent's directory, so
 * each use checks the number of the process.
 */
static struct task_directory {
    int file; /* -1: not open */
    unsigned process;
    dev_t device;
    ino_t inode;
} directory UNDER_LIBRARY_LOCK = {.file = -1};

static NEEDS_LIBRARY_LOCK bool stat_directory(struct stat *ret_status)
{
    return directory.file >= 0 && os_stat_file(directory.file, ret_status) &&
           ret_status->st_dev == directory.device && ret_status->st_ino == directory.inode;
}

/* The directory has one link for each thread, and two more: "." and "..". */
static unsigned threads_in(const struct stat *status)
{
    return (unsigned)status->st_nlink - 2;
}

/*
 * A child of vfork(2) finds itself alone there, but its parent's threads use this memory, too. In
 * any other process a thread that is alone is the first one, which counts until the end.
 */
static NEEDS_LIBRARY_LOCK bool open_directory(struct stat *ret_status)
{
    int file = os_open_file_at(AT_FDCWD, "/proc/self/task", O_DIRECTORY);

    if (file < 0 || !os_stat_file(file, ret_status) ||
        (threads_in(ret_status) == 1 && os_thread_id() != process_first_thread())) {
        os_close_file(file);
        return false;
    }
    directory.file = file;
    directory.process = process_number();
    directory.device = ret_status->st_dev;
    directory.inode = ret_status->st_ino;
    return true;
}

unsigned kernel_threads_count(void)
{
    struct stat status;
    bool at_hand = stat_directory(&status);

    if (at_hand && directory.process != process_number()) {
        os_close_file(directory.file);
        at_hand = false;
    }
    return at_hand || open_directory(&status) ? threads_in(&status) : 0;
}

enum { PF_EXITING = 4 }; /* of the kernel's include/linux/sched.h */

/*
 * Reads a file of a thread as a string, truncated to the size of the buffer. False: it cannot be
 * read.
 */
static NEEDS_LIBRARY_LOCK bool read_thread_file(const char *thread, const char *name, char *text,
                                                size_t size)
{
    int own = os_open_file_at(directory.file, thread, O_DIRECTORY);
    int file = own < 0 ? -1 : os_open_file_at(own, name, 0);
    ssize_t length = file < 0 ? -1 : os_read_file(file, text, size - 1);

    os_close_file(file);
    os_close_file(own);
    text[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

/* The kernel's flags of a thread, from its "stat" (proc(5)); -1: it cannot be read. */
static NEEDS_LIBRARY_LOCK long flags_of(const char *thread)
{
    enum { FLAGS_FIELD = 7 }; /* the position after the thread's name */
    char line[512], *field;

    if (!read_thread_file(thread, "stat", line, sizeof(line)))
        return -1;
    field = strrchr(line, ')');
    for (int i = 0; i < FLAGS_FIELD && field != NULL; i++)
        field = strchr(field + 1, ' ');
    return field == NULL ? 0 : (long)strtoul(field, NULL, 10);
}

/* True if the thread will run no more code of the program. */
static NEEDS_LIBRARY_LOCK bool about_to_end(const char *thread)
{
    long flags = flags_of(thread);

    return flags < 0 || flags & PF_EXITING;
}

bool kernel_threads_blocks(pid_t thread, int signal)
{
    char number[16], status[2048], *field;

    snprintf(number, sizeof(number), "%d", (int)thread);
    if (about_to_end(number) || !read_thread_file(number, "status", status, sizeof(status)))
        return false;
    field = strstr(status, "\nSigBlk:");
    return field != NULL && strtoull(field + strlen("\nSigBlk:"), NULL, 16) >> (signal - 1) & 1;
}

bool kernel_threads_leader_exited(void)
{
    char first[16];
    long flags;

    snprintf(first, sizeof(first), "%d", (int)getpid());
    flags = flags_of(first);
    return flags >= 0 && flags & PF_EXITING;
}

pid_t kernel_threads_find(bool (*test)(pid_t thread))
{
    _Alignas(struct os_directory_entry) char entries[1024];
    ssize_t length;

    os_rewind_directory(directory.file);
    while ((length = os_read_directory(directory.file, entries, sizeof(entries))) > 0) {
        for (ssize_t at = 0; at < length;) {
            const struct os_directory_entry *entry = (const void *)(entries + at);
            pid_t thread = (pid_t)strtol(entry->name, NULL, 10);

            if (thread > 0 && test(thread) && !about_to_end(entry->name))
                return thread;
            at += entry->length;
        }
    }
    return length < 0 ? -1 : 0;
}

bool kernel_threads_only_own(void)
{
    return os_is_only_thread();
}
