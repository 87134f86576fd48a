/* SPDX-License-Identifier: MIT */
/* guest: runs a program in an emulated machine whose processor has protection keys */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"
#include "find.h"
#include "guest_files.h"
#include "tool.h"

/* The guest's serial lines, in their order. */
enum line { CONSOLE, OUT, ERR, CONTROL, LINES };

#define GUEST_EMULATOR "qemu-system-x86_64"

enum { NO_DEADLINE = 0 };

/* What this process knows of the running guest. */
struct guest {
    pid_t emulator;
    int lines[LINES];  /* pipes to read from; -1: ended */
    FILE *kept[LINES]; /* what CONSOLE and CONTROL said, in memory; NULL for the others */
    char *text[LINES];
    size_t length[LINES];
};

/* Names the newest kernel that can be read, or complains. The caller frees it. */
static char *find_kernel(void)
{
    static const char *const patterns[] = {"/boot/vmlinuz-*", "/boot/vmlinuz",
                                           "/lib/modules/*/vmlinuz"};
    char *newest = NULL, *unreadable = NULL;
    glob_t found;

    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        glob(patterns[i], i == 0 ? 0 : GLOB_APPEND, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *path = found.gl_pathv[i];

        if (access(path, R_OK) != 0)
            unreadable = path;
        else if (newest == NULL || strverscmp(path, newest) > 0)
            newest = path;
    }
    if (newest != NULL)
        newest = strdup(newest);
    else if (unreadable != NULL)
        complain("%s cannot be read: copy it, and name the copy with --kernel", unreadable);
    else
        complain("no kernel in /boot: install one, such as Debian's linux-image-cloud-amd64, or "
                 "name one with --kernel");
    globfree(&found);
    return newest;
}

static bool add_bytes(struct archive *archive, const char *path, const void *bytes, size_t size)
{
    int error = archive_add_bytes(archive, path, bytes, size);

    if (error != 0)
        complain("cannot make the guest's files: %s", strerror(-error));
    return error == 0;
}

static bool add_list(struct archive *archive, const char *path, char *const list[])
{
    char *bytes = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&bytes, &size);
    bool added;

    for (; stream != NULL && *list != NULL; list++)
        fwrite(*list, 1, strlen(*list) + 1, stream);
    if (stream == NULL || fclose(stream) != 0) {
        complain("%s", strerror(errno));
        return false;
    }
    added = add_bytes(archive, path, bytes, size);
    free(bytes);
    return added;
}

static bool have_one_output(void)
{
    struct stat out, err;

    return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 &&
           out.st_dev == err.st_dev && out.st_ino == err.st_ino;
}

/* Adds the program with its arguments, environment and current folder. */
static bool add_program(struct archive *archive, char *program, char *const arguments[])
{
    char folder[PATH_MAX];

    if (getcwd(folder, sizeof(folder)) == NULL) {
        complain("cannot tell the current folder: %s", strerror(errno));
        return false;
    }
    return guest_files_add(archive, program) &&
           add_list(archive, GUEST_PROGRAM, (char *const[]){program, NULL}) &&
           add_list(archive, GUEST_ARGUMENTS, arguments) &&
           add_list(archive, GUEST_ENVIRONMENT, environ) &&
           add_list(archive, GUEST_FOLDER, (char *const[]){folder, NULL}) &&
           (archive_has(archive, folder) || archive_add_folder(archive, folder) == 0) &&
           (!have_one_output() || add_bytes(archive, GUEST_ONE_OUTPUT, "", 0)) &&
           (!isatty(STDOUT_FILENO) || add_bytes(archive, GUEST_TERMINAL "1", "", 0)) &&
           (!isatty(STDERR_FILENO) || add_bytes(archive, GUEST_TERMINAL "2", "", 0));
}

static bool add_init(struct archive *archive)
{
    char init[PATH_MAX];

    if (!find_companion(PKEYGUARD_GUEST_INIT, init)) {
        complain("cannot find " PKEYGUARD_GUEST_INIT " beside " PKEYGUARD_SONAME);
        return false;
    }
    /* At its own path for its libraries, and where the kernel looks for it. */
    return guest_files_add(archive, init) && archive_add_copy(archive, "/init", init) == 0;
}

static bool add_named(struct archive *archive, const struct tool_options *options)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < options->file_count; i++) {
        if (!absolute_path(options->files[i], path)) {
            complain("%s: its path is too long", options->files[i]);
            return false;
        }
        if (!guest_files_add(archive, path))
            return false;
    }
    return true;
}

/* Makes the guest's files. Returns their descriptor, or -1 after a complaint. */
static int make_files(const struct tool_options *options, char *program, char *const arguments[],
                      size_t *ret_size)
{
    struct archive archive;
    int file = archive_begin(&archive);

    if (file == 0) {
        if (!add_init(&archive) || !add_program(&archive, program, arguments) ||
            !add_named(&archive, options) || !guest_files_add_common(&archive))
            return -1;
        file = archive_end(&archive, ret_size);
    }
    if (file < 0)
        complain("cannot make the guest's files: %s", strerror(-file));
    return file;
}

/* ---- the emulator ---- */

/*
 * Replaces this process, a child. files: the descriptor of the guest's; size: in bytes. On a busy
 * machine the emulated timer may not tick while the kernel waits to see whether it works, so it
 * must not look (no_timer_check).
 */
static _Noreturn void become_emulator(const char *kernel, int files, size_t size,
                                      const int lines[LINES])
{
    enum { MIB = 1 << 20 };
    char memory[16], initrd[32], devices[LINES][64], serials[LINES][32];
    const char *arguments[64] = {GUEST_EMULATOR,
                                 "-accel",
                                 "tcg,thread=multi",
                                 "-cpu",
                                 "max",
                                 "-smp",
                                 "2",
                                 "-m",
                                 memory,
                                 "-nodefaults",
                                 "-display",
                                 "none",
                                 "-monitor",
                                 "none",
                                 "-no-user-config",
                                 "-no-reboot",
                                 "-kernel",
                                 kernel,
                                 "-initrd",
                                 initrd,
                                 "-append",
                                 "console=ttyS0 quiet panic=-1 no_timer_check secretmem.enable=1"};
    int count = 0;

    /* The archive and what is unpacked from it are in memory together. */
    snprintf(memory, sizeof(memory), "%zu", 1024 + 2 * size / MIB);
    snprintf(initrd, sizeof(initrd), "/proc/self/fd/%d", files);
    while (arguments[count] != NULL)
        count++;
    for (int i = 0; i < LINES; i++) {
        snprintf(devices[i], sizeof(devices[i]), "file,id=line%d,path=/proc/self/fd/%d", i,
                 lines[i]);
        snprintf(serials[i], sizeof(serials[i]), "chardev:line%d", i);
        arguments[count++] = "-chardev";
        arguments[count++] = devices[i];
        arguments[count++] = "-serial";
        arguments[count++] = serials[i];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execvp(arguments[0], (char *const *)arguments);
    complain("%s: %s", arguments[0], strerror(errno));
    _exit(TOOL_NOT_FOUND);
}

/* Returns false, with errno, on failure. */
static bool start_emulator(struct guest *guest, const char *kernel, int files, size_t size)
{
    int written[LINES];

    *guest = (struct guest){0};
    for (int i = 0; i < LINES; i++) {
        int ends[2];

        if (pipe(ends) != 0)
            return false;
        fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        guest->lines[i] = ends[0];
        written[i] = ends[1];
        if (i == CONSOLE || i == CONTROL)
            guest->kept[i] = open_memstream(&guest->text[i], &guest->length[i]);
    }
    guest->emulator = fork();
    if (guest->emulator == 0)
        become_emulator(kernel, files, size, written);
    for (int i = 0; i < LINES; i++)
        close(written[i]);
    return guest->emulator > 0;
}

/* Copies what a line says to this process's stdout or stderr, or keeps it. */
static void read_line(struct guest *guest, enum line line)
{
    char buffer[1 << 12];
    ssize_t got = read(guest->lines[line], buffer, sizeof(buffer));

    if (got <= 0) {
        close(guest->lines[line]);
        guest->lines[line] = -1;
    } else if (guest->kept[line] != NULL) {
        fwrite(buffer, 1, (size_t)got, guest->kept[line]);
    } else {
        FILE *stream = line == OUT ? stdout : stderr;

        fwrite(buffer, 1, (size_t)got, stream);
        fflush(stream);
    }
}

static long long milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Serves the lines until the emulator ends. Returns false at the deadline; NO_DEADLINE: never. */
static bool serve_lines(struct guest *guest, long long deadline)
{
    for (;;) {
        struct pollfd polls[LINES];
        long long left = deadline == NO_DEADLINE ? -1 : deadline - milliseconds();
        bool open = false;

        for (int i = 0; i < LINES; i++) {
            polls[i] = (struct pollfd){.fd = guest->lines[i], .events = POLLIN};
            open |= guest->lines[i] >= 0;
        }
        if (!open)
            return true;
        if (deadline != NO_DEADLINE && left <= 0)
            return false;
        if (poll(polls, LINES, (int)left) <= 0)
            continue;
        for (int i = 0; i < LINES; i++) {
            if (polls[i].revents != 0)
                read_line(guest, (enum line)i);
        }
    }
}

/* The last lines of the kernel's messages say why a guest stopped. */
static void show_console(const struct guest *guest)
{
    enum { LAST = 2000 };
    size_t length = guest->length[CONSOLE], shown = length < LAST ? length : LAST;

    complain("the guest stopped before the program ended%s", length > 0 ? "; its console:" : "");
    fwrite(guest->text[CONSOLE] + length - shown, 1, shown, stderr);
}

static const char *after_word(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0 ? text + strlen(word) : NULL;
}

/* What follows a word of guest.h in the last control line; NULL if the line begins otherwise. */
static const char *after(const struct guest *guest, const char *word)
{
    const char *text = guest->text[CONTROL], *last = after_word(text, GUEST_BEGAN);

    return after_word(last != NULL ? last : text, word);
}

/* The exit status of this command, from what the guest's first process said. */
static int status_of(const struct guest *guest, const char *program)
{
    const char *rest;

    if ((rest = after(guest, GUEST_EXITED)) != NULL)
        return atoi(rest);
    if ((rest = after(guest, GUEST_KILLED)) != NULL)
        return TOOL_KILLED + atoi(rest);
    if ((rest = after(guest, GUEST_NOT_RUN)) != NULL) {
        complain("%s: %.*s", program, (int)strcspn(rest, "\n"), rest);
        return TOOL_NOT_RUN;
    }
    if ((rest = after(guest, GUEST_FAILED)) != NULL)
        complain("the guest failed: %.*s", (int)strcspn(rest, "\n"), rest);
    else
        show_console(guest);
    return TOOL_GUEST_FAILED;
}

/* Kills an emulator that has not ended. Returns whether the machine switched itself off. */
static bool end_emulator(struct guest *guest, bool ended)
{
    int status;

    if (!ended)
        kill(guest->emulator, SIGKILL);
    waitpid(guest->emulator, &status, 0);
    fclose(guest->kept[CONSOLE]);
    fclose(guest->kept[CONTROL]);
    return status == 0;
}

/*
 * A guest that switches itself off before the program begins is started again. QEMU before 8.1
 * (mended by its commit deba78709ae8) may run an instruction of which another processor has written
 * half, and the kernel panics. This is rare, and most likely while the kernel starts.
 */
static int run_guest(const struct tool_options *options, const char *program, const char *kernel,
                     int files, size_t size)
{
    enum { TRIES = 3 };
    long long deadline = NO_DEADLINE;
    struct guest guest;
    bool ended = false, again = true;

    if (options->seconds != 0)
        deadline = milliseconds() + options->seconds * 1000LL;
    for (int i = 0; i < TRIES && again; i++) {
        if (!start_emulator(&guest, kernel, files, size)) {
            complain("cannot start " GUEST_EMULATOR ": %s", strerror(errno));
            return TOOL_GUEST_FAILED;
        }
        ended = serve_lines(&guest, deadline);
        again = end_emulator(&guest, ended) && guest.length[CONTROL] == 0;
    }
    if (!ended)
        complain("%s did not end in %u seconds", program, options->seconds);
    return ended ? status_of(&guest, program) : TOOL_TIMED_OUT;
}

/* Says what is missing on this machine, if anything is. */
static bool can_emulate(void)
{
    char path[PATH_MAX];

#ifndef __x86_64__
    complain("only programs of x86-64 have protection keys");
    return false;
#endif
    if (find_program(GUEST_EMULATOR, path))
        return true;
    complain("there is no " GUEST_EMULATOR ": install it, on Debian with the package "
             "qemu-system-x86");
    return false;
}

int guest(char *const arguments[], const struct tool_options *options)
{
    char found[PATH_MAX], program[PATH_MAX], *kernel;
    size_t size = 0;
    int files, status;

    if (!find_program(arguments[0], found) || realpath(found, program) == NULL) {
        complain("%s: %s", arguments[0], strerror(ENOENT));
        return TOOL_NOT_FOUND;
    }
    if (access(program, X_OK) != 0) {
        complain("%s: %s", arguments[0], strerror(errno));
        return TOOL_NOT_RUN;
    }
    if (!can_emulate())
        return TOOL_GUEST_FAILED;
    kernel = options->kernel != NULL ? strdup(options->kernel) : find_kernel();
    if (kernel == NULL)
        return TOOL_GUEST_FAILED;
    if (access(kernel, R_OK) != 0) {
        complain("%s: %s", kernel, strerror(errno));
        free(kernel);
        return TOOL_GUEST_FAILED;
    }
    files = make_files(options, program, arguments, &size);
    status = files < 0 ? TOOL_GUEST_FAILED : run_guest(options, arguments[0], kernel, files, size);
    free(kernel);
    return status;
}
