/* SPDX-License-Identifier: MIT */
/*
 * The guest's init: runs the jobs in /jobs, as many at a time as the machine has processors, and
 * powers off. boot.sh describes the format of /jobs and reads the output.
 *
 * Each processor has a slot, which runs one job after the other. A job's output goes to the slot's
 * terminal, ttyS1 or the next, between two marker lines. A marker starts with a token that boot.sh
 * makes up for each boot, so that no output looks like a marker. The token is the last argument.
 * The arguments before it are options that the kernel does not know as its own, such as nokaslr.
 */
#define _GNU_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct job {
    char *name;
    unsigned int timeout;
    char *environment;
    char *command;
};

struct slot {
    int output;
    int procs, kill; /* files of the control group that the jobs run in */
    pid_t child;     /* 0: no job runs */
    char name[100];
    time_t begun, deadline; /* by CLOCK_MONOTONIC */
    bool timed_out;
};

enum { MAX_SLOTS = 2 }; /* boot.sh gives the machine a terminal for each */

static struct slot slots[MAX_SLOTS];
static int slot_count;
static int console = STDERR_FILENO;
static const char *token;

static _Noreturn void power_off(void)
{
    for (int i = 0; i < slot_count; i++)
        tcdrain(slots[i].output);
    tcdrain(console);
    reboot(RB_POWER_OFF);
    _exit(1); /* The kernel panics, which ends QEMU, too. */
}

/* Powers off without the final marker, so that boot.sh fails on the host. */
static _Noreturn void fail(const char *what)
{
    dprintf(console, "init: %s: %s\n", what, strerror(errno));
    power_off();
}

static void mount_at(const char *type, const char *directory)
{
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        fail(directory);
    if (mount(type, directory, type, 0, NULL) != 0)
        fail(directory);
}

static void set_aside_huge_pages(void)
{
    int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "8", 1) != 1)
        fail("huge pages");
    close(fd);
}

/* The kernel gives 127.0.0.1 to the loopback interface when it is switched on. */
static void switch_loopback_on(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
        fail("loopback");
    close(fd);
}

/* Opens a terminal in raw mode, so that the output arrives byte for byte. */
static int open_tty(const char *path)
{
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;

    if (fd < 0 || tcgetattr(fd, &mode) != 0)
        fail(path);
    cfmakeraw(&mode);
    if (tcsetattr(fd, TCSANOW, &mode) != 0)
        fail(path);
    return fd;
}

/*
 * Writes a marker line. The newline before it ends an unfinished line of output; boot.sh removes
 * exactly one. tcdrain() makes sure that a panic cannot lose the marker.
 */
static __attribute__((format(printf, 2, 3))) void mark(int fd, const char *format, ...)
{
    va_list arguments;

    dprintf(fd, "\n%s\t", token);
    va_start(arguments, format);
    vdprintf(fd, format, arguments);
    va_end(arguments);
    dprintf(fd, "\n");
    if (tcdrain(fd) != 0)
        fail("tcdrain");
}

static void parse_job(char *line, struct job *job)
{
    char *timeout;
    char *end;

    line[strcspn(line, "\n")] = '\0';
    job->name = strsep(&line, "\t");
    timeout = strsep(&line, "\t");
    job->environment = strsep(&line, "\t");
    job->command = strsep(&line, "\t");

    errno = EINVAL;
    if (!job->command)
        fail("/jobs");
    job->timeout = (unsigned int)strtoul(timeout, &end, 10);
    if (job->timeout == 0 || *end != '\0')
        fail(job->name);
}

static void set_environment(char *words)
{
    clearenv();
    putenv("PATH=/usr/local/bin:/usr/bin:/bin");
    putenv("HOME=/tmp");
    putenv("TMPDIR=/tmp");
    putenv("LC_ALL=C");
    putenv("PKEYGUARD_TEST_GUEST=1");
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        if (strchr(word, '='))
            putenv(word);
    }
}

static _Noreturn void become(struct job *job, const struct slot *slot)
{
    char **words = calloc(strlen(job->command) / 2 + 2, sizeof(*words));
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    size_t count = 0;
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    set_environment(job->environment);
    if (words && null >= 0 && write(slot->procs, "0", 1) == 1 && dup2(null, STDIN_FILENO) >= 0 &&
        dup2(slot->output, STDOUT_FILENO) >= 0 && dup2(slot->output, STDERR_FILENO) >= 0) {
        for (char *word = strtok(job->command, " "); word; word = strtok(NULL, " "))
            words[count++] = word;
        execv(words[0], words);
    }
    dprintf(slot->output, "init: cannot run %s: %s\n", job->command, strerror(errno));
    _exit(127);
}

static time_t now(void)
{
    struct timespec time;

    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
        fail("clock_gettime");
    return time.tv_sec;
}

static void start(struct job *job, struct slot *slot)
{
    mark(slot->output, "start\t%s", job->name);
    snprintf(slot->name, sizeof(slot->name), "%s", job->name);
    slot->begun = now();
    slot->deadline = slot->begun + job->timeout;
    slot->timed_out = false;
    slot->child = fork();
    if (slot->child < 0)
        fail("fork");
    if (slot->child == 0)
        become(job, slot);
}

/* Kills every process of the slot's job, whatever its session. */
static void kill_job(const struct slot *slot)
{
    if (write(slot->kill, "1", 1) != 1)
        fail("cgroup.kill");
}

static void finish(struct slot *slot, int status)
{
    kill_job(slot);
    slot->child = 0;
    dprintf(console, "%4ld s  %s\n", (long)(now() - slot->begun), slot->name);
    if (WIFEXITED(status))
        mark(slot->output, "end\t%s\texit %d", slot->name, WEXITSTATUS(status));
    else if (slot->timed_out && WTERMSIG(status) == SIGKILL)
        mark(slot->output, "end\t%s\ttimeout", slot->name);
    else
        mark(slot->output, "end\t%s\tsignal %d", slot->name, WTERMSIG(status));
}

/* Reaps the processes that have ended: jobs, and what they have left behind. */
static void reap(void)
{
    int status;
    pid_t ended;

    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < slot_count; i++) {
            if (slots[i].child == ended)
                finish(&slots[i], status);
        }
    }
}

static struct slot *free_slot(void)
{
    for (int i = 0; i < slot_count; i++) {
        if (slots[i].child == 0)
            return &slots[i];
    }
    return NULL;
}

static bool any_job_runs(void)
{
    for (int i = 0; i < slot_count; i++) {
        if (slots[i].child != 0)
            return true;
    }
    return false;
}

/* Returns when a job has ended, or perhaps earlier. */
static void wait_for_job(void)
{
    const struct timespec second = {.tv_sec = 1};
    sigset_t child_ended;

    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigtimedwait(&child_ended, NULL, &second);
    reap();
    for (int i = 0; i < slot_count; i++) {
        if (slots[i].child != 0 && now() >= slots[i].deadline) {
            slots[i].timed_out = true;
            kill_job(&slots[i]);
        }
    }
}

static void run_jobs(void)
{
    FILE *jobs = fopen("/jobs", "re");
    char *line = NULL;
    size_t size = 0;

    if (!jobs)
        fail("/jobs");
    while (getline(&line, &size, jobs) > 0) {
        struct job job;
        struct slot *slot;

        parse_job(line, &job);
        while (!(slot = free_slot()))
            wait_for_job();
        start(&job, slot);
    }
    while (any_job_runs())
        wait_for_job();
}

static int open_group_file(int slot, const char *name)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/sys/fs/cgroup/slot%d/%s", slot, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    return fd;
}

static void set_up_slot(int i)
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/ttyS%d", i + 1);
    slots[i].output = open_tty(path);
    snprintf(path, sizeof(path), "/sys/fs/cgroup/slot%d", i);
    if (mkdir(path, 0755) != 0)
        fail(path);
    slots[i].procs = open_group_file(i, "cgroup.procs");
    slots[i].kill = open_group_file(i, "cgroup.kill");
}

int main(int argc, char *argv[])
{
    sigset_t child_ended;
    long processors;

    mount_at("devtmpfs", "/dev");
    mount_at("tmpfs", "/dev/shm");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("cgroup2", "/sys/fs/cgroup");
    set_aside_huge_pages();
    switch_loopback_on();
    /* /tmp stays a plain directory: a mount would hide programs that were built there. The root is
     * a tmpfs anyway. */
    if ((mkdir("/tmp", 0777) != 0 && errno != EEXIST) || chmod("/tmp", 01777) != 0)
        fail("/tmp");

    console = open_tty("/dev/ttyS0");
    errno = EINVAL;
    if (argc < 2)
        fail("arguments");
    token = argv[argc - 1];
    processors = sysconf(_SC_NPROCESSORS_ONLN);
    while (slot_count < MAX_SLOTS && slot_count < processors)
        set_up_slot(slot_count++);
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &child_ended, NULL) != 0)
        fail("sigprocmask");
    run_jobs();
    mark(console, "done");
    power_off();
}
