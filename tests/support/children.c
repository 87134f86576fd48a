/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int make_child(enum way way)
{
    int child;

    switch (way) {
    case BY_FORK:
        child = fork();
        break;
    case BY_FORK_ONLY:
        child = _Fork();
        break;
    default:
        child = (int)syscall(SYS_clone, way == BY_CLONE ? 0UL : (unsigned long)SIGCHLD, 0UL, 0UL,
                             0UL, 0UL);
    }
    if (child < 0)
        ck_abort_msg("no child: %s", strerror(errno));
    return child;
}

int end_of_child(int child)
{
    int status;

    while (waitpid(child, &status, __WALL) < 0)
        ck_assert_int_eq(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_as_child(enum way way, int (*work)(void *argument), void *argument)
{
    int child = way == BY_VFORK ? (int)vfork() : make_child(way);

    if (child == 0)
        _exit(work(argument));
    ck_assert_int_gt(child, 0);
    return end_of_child(child);
}
