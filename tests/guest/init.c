/* SPDX-License-Identifier: MIT */
/*
 * The guest's init: runs the jobs in /jobs, one after the other, and powers off. boot.sh describes
 * the format of /jobs and reads the output.
 *
 * A job's output goes to ttyS1 between two marker lines. A marker starts with a token that boot.sh
 * makes up for each boot, so that no output looks like a marker. The token is the last argument.
 * The arguments before it are options that the kernel does not know as its own, such as nokaslr.
 */
#define _GNU_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

struct job {
    char *name;
    unsigned int timeout;
    char *environment;
    char *command;
};

static int console = STDERR_FILENO;
static int output;
static const char *token;
static volatile sig_atomic_t timed_out;

static _Noreturn void power_off(void)
{
    tcdrain(output);
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

    if (fd < 0 || write(fd, "4", 1) != 1)
        fail("huge pages");
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

/* Kills every other process, whatever its session: this is process 1. */
static void kill_all(void)
{
    kill(-1, SIGKILL);
}

static void on_alarm(int number)
{
    (void)number;
    timed_out = 1;
    kill_all();
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
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        if (strchr(word, '='))
            putenv(word);
    }
}

static _Noreturn void become(struct job *job)
{
    char **words = calloc(strlen(job->command) / 2 + 2, sizeof(*words));
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    size_t count = 0;

    setsid();
    set_environment(job->environment);
    if (words && null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(output, STDERR_FILENO) >= 0) {
        for (char *word = strtok(job->command, " "); word; word = strtok(NULL, " "))
            words[count++] = word;
        execv(words[0], words);
    }
    dprintf(output, "init: cannot run %s: %s\n", job->command, strerror(errno));
    _exit(127);
}

static void run(struct job *job)
{
    pid_t child;
    int status;

    mark(output, "start\t%s", job->name);
    timed_out = 0;
    child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        become(job);

    alarm(job->timeout);
    while (waitpid(child, &status, 0) != child)
        ;
    alarm(0);
    kill_all();
    while (wait(NULL) > 0)
        ;

    if (WIFEXITED(status))
        mark(output, "end\t%s\texit %d", job->name, WEXITSTATUS(status));
    else if (timed_out && WTERMSIG(status) == SIGKILL)
        mark(output, "end\t%s\ttimeout", job->name);
    else
        mark(output, "end\t%s\tsignal %d", job->name, WTERMSIG(status));
}

int main(int argc, char *argv[])
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    FILE *jobs;
    char *line = NULL;
    size_t size = 0;

    mount_at("devtmpfs", "/dev");
    mount_at("tmpfs", "/dev/shm");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    set_aside_huge_pages();
    /* /tmp stays a plain directory: a mount would hide programs that were built there. The root is
     * a tmpfs anyway. */
    if ((mkdir("/tmp", 0777) != 0 && errno != EEXIST) || chmod("/tmp", 01777) != 0)
        fail("/tmp");

    console = open_tty("/dev/ttyS0");
    output = open_tty("/dev/ttyS1");
    errno = EINVAL;
    if (argc < 2)
        fail("arguments");
    token = argv[argc - 1];
    if (sigaction(SIGALRM, &action, NULL) != 0)
        fail("sigaction");

    jobs = fopen("/jobs", "re");
    if (!jobs)
        fail("/jobs");
    while (getline(&line, &size, jobs) > 0) {
        struct job job;

        parse_job(line, &job);
        run(&job);
    }
    mark(console, "done");
    power_off();
}
