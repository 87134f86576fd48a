/* SPDX-License-Identifier: MIT */
/*
 * The first process of the guest that "pkeyguard guest" starts. It runs one program, tells on the
 * fourth serial line how it ended, and turns the machine off.
 *
 * guest.h describes what the two tell each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
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
#include <unistd.h>

#include "guest.h"

/* Where the program's stdout and stderr go. */
struct stream {
    int terminal;    /* a serial line */
    int read, write; /* a pipe, unless the program gets the terminal itself: then -1 */
};

static int control = -1; /* the serial line for what the program does not write */
static struct stream streams[2];
static bool one_output; /* both use the first stream */

static _Noreturn void power_off(void)
{
    for (int i = 0; i < 2; i++)
        tcdrain(streams[i].terminal);
    tcdrain(control);
    reboot(RB_POWER_OFF);
    _exit(1); /* the kernel panics, which ends the machine, too */
}

static _Noreturn void fail(const char *what)
{
    dprintf(control >= 0 ? control : STDERR_FILENO, GUEST_FAILED "%s: %s\n", what, strerror(errno));
    power_off();
}

static void mount_at(const char *type, const char *folder)
{
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        fail(folder);
    if (mount(type, folder, type, 0, NULL) != 0)
        fail(folder);
}

/* Opens a serial line that changes no byte. */
static int open_line(const char *path)
{
    int line = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;

    if (line < 0 || tcgetattr(line, &mode) != 0)
        fail(path);
    cfmakeraw(&mode);
    if (tcsetattr(line, TCSANOW, &mode) != 0)
        fail(path);
    return line;
}

static void make_folder(const char *path, mode_t mode)
{
    if ((mkdir(path, mode) != 0 && errno != EEXIST) || chmod(path, mode) != 0)
        fail(path);
}

/* Programs that talk to themselves by 127.0.0.1 need it. */
static void bring_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request) != 0)
        fail("lo");
    close(any);
}

static void set_up_machine(void)
{
    mount_at("devtmpfs", "/dev");
    control = open_line("/dev/ttyS3");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    make_folder("/dev/shm", 01777);
    /* Not a mount, which would hide files of the guest that are there. The root is in memory. */
    make_folder("/tmp", 01777);
    if (symlink("/proc/self/fd", "/dev/fd") != 0)
        fail("/dev/fd");
    bring_loopback_up();
}

/* A list of strings that each end with a zero byte, in the file `path`. NULL ends `words`. */
static struct list {
    const char *path;
    FILE *file;
    char **words;
} program = {.path = GUEST_PROGRAM}, arguments = {.path = GUEST_ARGUMENTS},
  environment = {.path = GUEST_ENVIRONMENT}, folder = {.path = GUEST_FOLDER};

static void read_list(struct list *list)
{
    char *word = NULL;
    size_t count = 0, size = 0;

    list->file = fopen(list->path, "re");
    if (list->file == NULL)
        fail(list->path);
    do {
        list->words = reallocarray(list->words, count + 1, sizeof(*list->words));
        if (list->words == NULL)
            fail(list->path);
        word = NULL;
        size = 0;
        list->words[count] = getdelim(&word, &size, '\0', list->file) > 0 ? word : NULL;
    } while (list->words[count++] != NULL);
}

static void open_stream(struct stream *stream, const char *terminal, const char *marker)
{
    int ends[2];

    *stream = (struct stream){open_line(terminal), -1, -1};
    if (access(marker, F_OK) == 0)
        return;
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("pipe");
    stream->read = ends[0];
    stream->write = ends[1];
}

static _Noreturn void become_program(void)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (null < 0 || folder.words[0] == NULL || program.words[0] == NULL ||
        chdir(folder.words[0]) != 0)
        fail(GUEST_FOLDER);
    for (int i = 0; i < 2; i++) {
        const struct stream *stream = &streams[one_output ? 0 : i];

        if (dup2(stream->write >= 0 ? stream->write : stream->terminal, STDOUT_FILENO + i) < 0)
            fail("dup2");
    }
    dup2(null, STDIN_FILENO);
    execve(program.words[0], arguments.words, environment.words);
    dprintf(control, GUEST_NOT_RUN "%s\n", strerror(errno));
    power_off();
}

/* Copies what the program has written to its line. Closes a pipe that has ended. */
static void forward(struct stream *stream)
{
    char buffer[1 << 12];
    ssize_t got = read(stream->read, buffer, sizeof(buffer));

    for (ssize_t done = 0; done < got;) {
        ssize_t written = write(stream->terminal, buffer + done, (size_t)(got - done));

        if (written < 0)
            fail("write");
        done += written;
    }
    if (got <= 0) {
        close(stream->read);
        stream->read = -1;
    }
}

/*
 * Waits for output and copies it. Returns false if all pipes have ended. @mask: the signals that
 * are blocked meanwhile; another one ends the wait.
 */
static bool forward_some(const sigset_t *mask)
{
    struct pollfd polls[2];
    bool open = false;

    for (int i = 0; i < 2; i++) {
        polls[i] = (struct pollfd){.fd = streams[i].read, .events = POLLIN};
        open |= streams[i].read >= 0;
    }
    if (!open)
        return false;
    if (ppoll(polls, 2, NULL, mask) > 0) {
        for (int i = 0; i < 2; i++) {
            if (polls[i].revents != 0)
                forward(&streams[i]);
        }
    }
    return true;
}

static void on_child(int signal)
{
    (void)signal; /* only interrupts ppoll() */
}

/* Returns the program's wait status. Reaps what it leaves behind. */
static int run_program(void)
{
    struct sigaction action = {.sa_handler = on_child};
    sigset_t child_ended, none;
    pid_t child, ended;
    int status;

    sigemptyset(&none);
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, NULL);
    sigaction(SIGCHLD, &action, NULL);
    child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        become_program();
    for (int i = 0; i < 2; i++) {
        if (streams[i].write >= 0)
            close(streams[i].write);
    }
    while ((ended = waitpid(-1, &status, forward_some(&none) ? WNOHANG : 0)) != child) {
        if (ended < 0)
            fail("waitpid");
    }
    kill(-1, SIGKILL); /* so that the pipes end */
    while (forward_some(&child_ended))
        ;
    return status;
}

int main(void)
{
    int status;

    set_up_machine();
    read_list(&program);
    read_list(&arguments);
    read_list(&environment);
    read_list(&folder);
    open_stream(&streams[0], "/dev/ttyS1", GUEST_TERMINAL "1");
    open_stream(&streams[1], "/dev/ttyS2", GUEST_TERMINAL "2");
    one_output = access(GUEST_ONE_OUTPUT, F_OK) == 0;
    dprintf(control, GUEST_BEGAN);
    status = run_program();
    if (WIFEXITED(status))
        dprintf(control, GUEST_EXITED "%d\n", WEXITSTATUS(status));
    else
        dprintf(control, GUEST_KILLED "%d\n", WTERMSIG(status));
    power_off();
}
