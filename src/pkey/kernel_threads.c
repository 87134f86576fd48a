/* SPDX-License-Identifier: MIT */
#include "pkey/kernel_threads.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/lock.h"

/* Raw system calls: open(3), read(3) and close(3) are cancellation points. */
static int open_at(int directory, const char *path, int flags)
{
    return (int)syscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC | flags, 0);
}

static void close_file(int file)
{
    if (file >= 0)
        syscall(SYS_close, file);
}

/*
 * /proc/self/task, open. The program may close it, or open a file of its own under that number: the
 * device and inode tell. A fork child has its parent's: the number of forks tells.
 */
static struct task_directory {
    int file; /* -1: not open */
    unsigned forks;
    dev_t device;
    ino_t inode;
} directory UNDER_LIBRARY_LOCK = {.file = -1};

static NEEDS_LIBRARY_LOCK bool stat_directory(struct stat *ret_status)
{
    /* Raw system call: fstat(3) passes an empty path, which costs eight times as much. */
    return directory.file >= 0 && syscall(SYS_fstat, directory.file, ret_status) == 0 &&
           ret_status->st_dev == directory.device && ret_status->st_ino == directory.inode;
}

static NEEDS_LIBRARY_LOCK bool open_directory(struct stat *ret_status)
{
    directory.file = open_at(AT_FDCWD, "/proc/self/task", O_DIRECTORY);
    if (directory.file < 0 || syscall(SYS_fstat, directory.file, ret_status) != 0)
        return false;
    directory.forks = library_forks();
    directory.device = ret_status->st_dev;
    directory.inode = ret_status->st_ino;
    return true;
}

unsigned kernel_threads_count(void)
{
    struct stat status;
    bool at_hand = stat_directory(&status);

    if (at_hand && directory.forks != library_forks()) {
        close_file(directory.file);
        at_hand = false;
    }
    /* The directory has one link for each thread, and two more: "." and "..". */
    return at_hand || open_directory(&status) ? (unsigned)status.st_nlink - 2 : 0;
}

enum { PF_EXITING = 4 }; /* of the kernel's include/linux/sched.h */

/* The kernel's flags of a thread, from its "stat" (proc(5)); -1: it cannot be read. */
static NEEDS_LIBRARY_LOCK long flags_of(const char *thread)
{
    enum { FLAGS_FIELD = 7 }; /* counted from the thread's name */
    char line[512], *field;
    int own = open_at(directory.file, thread, O_DIRECTORY);
    int file = own < 0 ? -1 : open_at(own, "stat", 0);
    long length = file < 0 ? -1 : syscall(SYS_read, file, line, sizeof(line) - 1);

    close_file(file);
    close_file(own);
    if (length <= 0)
        return -1;
    line[length] = '\0';
    field = strrchr(line, ')');
    for (int i = 0; i < FLAGS_FIELD && field != NULL; i++)
        field = strchr(field + 1, ' ');
    return field == NULL ? 0 : (long)strtoul(field, NULL, 10);
}

/* True if the thread runs no code of the program any more. */
static NEEDS_LIBRARY_LOCK bool about_to_end(const char *thread)
{
    long flags = flags_of(thread);

    return flags < 0 || flags & PF_EXITING;
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
    /* Raw system call: readdir(3) allocates with malloc. */
    struct directory_entry {
        uint64_t inode, offset;
        uint16_t length;
        uint8_t type;
        char name[];
    };
    _Alignas(struct directory_entry) char entries[1024];
    long length;

    lseek(directory.file, 0, SEEK_SET);
    while ((length = syscall(SYS_getdents64, directory.file, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < length;) {
            const struct directory_entry *entry = (const void *)(entries + at);
            pid_t thread = (pid_t)strtol(entry->name, NULL, 10);

            if (thread > 0 && test(thread) && !about_to_end(entry->name))
                return thread;
            at += entry->length;
        }
    }
    return 0;
}

bool kernel_threads_only_own(void)
{
    /* With this flag unshare(2) does nothing, and succeeds only in a process with one thread. */
    return syscall(SYS_unshare, CLONE_THREAD) == 0;
}
