/* SPDX-License-Identifier: MIT */
/* The pkeyguard command: parses options and calls a subcommand. See pkeyguard.1. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <pkeyguard.h>

#include "complain.h"
#include "output.h"
#include "tool.h"

static const struct option json_options[] = {
    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
static const struct option maps_options[] = {{"json", no_argument, NULL, 'j'},
                                             {"check", no_argument, NULL, 'c'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};
static const struct option run_options[] = {
    {"report", no_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
static const struct option guest_options[] = {{"kernel", required_argument, NULL, 'k'},
                                              {"file", required_argument, NULL, 'f'},
                                              {"timeout", required_argument, NULL, 't'},
                                              {"help", no_argument, NULL, 'h'},
                                              {NULL, 0, NULL, 0}};

#define JSON_HELP   "  -j, --json    write one JSON document\n"
#define CHECK_HELP  "  -c, --check   only what differs from the key's other pages around it\n"
#define REPORT_HELP "  -r, --report  explain forbidden accesses on stderr (the default)\n"
#define GUEST_HELP                                                                       \
    "  -k, --kernel FILE      the guest's Linux; the newest in /boot otherwise\n"        \
    "  -f, --file PATH        the guest has this file or folder, too; can be repeated\n" \
    "  -t, --timeout SECONDS  stop the guest after so long\n"

static const struct command {
    const char *name, *arguments, *summary;
    int least, most; /* number of arguments; most -1: no limit */
    int (*run)(char *const arguments[], const struct tool_options *options);
    const char *letters; /* for getopt(3); "+": options after an argument are the argument's own */
    const struct option *options;
    const char *option_help;
} commands[] = {
    {"doctor", "", "shows what this machine supports and how to get what is missing", 0, 0, doctor,
     "jh", json_options, JSON_HELP},
    {"maps", " [PID]", "shows a process's mappings by protection key", 0, 1, maps, "jch",
     maps_options, JSON_HELP CHECK_HELP},
    {"scan", " FILE...", "lists the instructions in ELF files that can write PKRU", 1, -1, scan,
     "jh", json_options, JSON_HELP},
    {"run", " COMMAND...", "runs a program and explains its forbidden accesses", 1, -1, run, "+rh",
     run_options, REPORT_HELP},
    {"guest", " COMMAND...", "runs a program in an emulated machine that has protection keys", 1,
     -1, guest, "+k:f:t:h", guest_options, GUEST_HELP},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* "pkeyguard", or "pkeyguard SUBCOMMAND" once that is known. */
static char program_name[32] = "pkeyguard";

int suggest_help(void)
{
    fprintf(stderr, "Try '%s --help'.\n", program_name);
    return EX_USAGE;
}

static void print_help(void)
{
    printf("Usage: pkeyguard SUBCOMMAND [OPTION]... [ARGUMENT]...\n"
           "       pkeyguard --help | --version\n"
           "Inspects protection keys on this machine, in processes and in programs.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %s%-*s %s\n", commands[i].name, 16 - (int)strlen(commands[i].name),
               commands[i].arguments, commands[i].summary);
    printf("\nSee 'pkeyguard SUBCOMMAND --help' and pkeyguard(1).\n");
}

static void print_command_help(const struct command *command)
{
    printf("Usage: pkeyguard %s [--%s%s]%s\n"
           "This %s.\n\n"
           "%s"
           "  -h, --help    show this help\n",
           command->name, command->options[0].name,
           command->options[0].has_arg == no_argument ? "" : " FILE", command->arguments,
           command->summary, command->option_help);
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* Returns false after a complaint. */
static bool read_seconds(const char *text, unsigned *ret_seconds)
{
    enum { MOST = 1000000 };
    char *end;
    unsigned long seconds = strtoul(text, &end, 10);

    *ret_seconds = (unsigned)seconds;
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && seconds >= 1 && seconds <= MOST)
        return true;
    complain("'%s' is not a number of seconds from 1 to %d", text, MOST);
    return false;
}

enum option_result { OPTIONS_READ, OPTIONS_HELP, OPTIONS_WRONG };

/*
 * Reads the options of a subcommand. argv[0] is what getopt_long(3) begins its messages with.
 * options->files has room for argc paths.
 */
static enum option_result read_options(const struct command *command, int argc, char *argv[],
                                       struct tool_options *options)
{
    int option;

    optind = 0; /* makes getopt_long() start again on another argv, in glibc and in musl */
    while ((option = getopt_long(argc, argv, command->letters, command->options, NULL)) != -1) {
        switch (option) {
        case 'j':
            options->json = true;
            break;
        case 'c':
            options->check = true;
            break;
        case 'k':
            options->kernel = optarg;
            break;
        case 'f':
            options->files[options->file_count++] = optarg;
            break;
        case 't':
            if (!read_seconds(optarg, &options->seconds))
                return OPTIONS_WRONG;
            break;
        case 'r':
            break;
        case 'h':
            return OPTIONS_HELP;
        default:
            return OPTIONS_WRONG;
        }
    }
    return OPTIONS_READ;
}

static int run_command(const struct command *command, int argc, char *argv[])
{
    const char *files[argc];
    struct tool_options options = {.files = files};

    switch (read_options(command, argc, argv, &options)) {
    case OPTIONS_READ:
        break;
    case OPTIONS_HELP:
        print_command_help(command);
        return TOOL_OK;
    case OPTIONS_WRONG:
        return suggest_help();
    }
    argc -= optind;
    argv += optind;
    if (argc < command->least) {
        complain("missing argument");
        return suggest_help();
    }
    if (command->most >= 0 && argc > command->most) {
        complain("unexpected argument '%s'", argv[command->most]);
        return suggest_help();
    }
    return command->run(argv, &options);
}

static int run_arguments(int argc, char *argv[])
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
    const struct command *command;

    switch (getopt_long(argc, argv, "+hV", options, NULL)) {
    case 'h':
        print_help();
        return TOOL_OK;
    case 'V':
        printf("pkeyguard %s\n", pkeyguard_version());
        return TOOL_OK;
    case -1:
        break;
    default:
        return suggest_help();
    }
    if (optind == argc) {
        complain("missing subcommand");
        return suggest_help();
    }
    command = find_command(argv[optind]);
    if (command == NULL) {
        complain("unknown subcommand '%s'", argv[optind]);
        return suggest_help();
    }
    snprintf(program_name, sizeof(program_name), "pkeyguard %s", command->name);
    complain_as(program_name);
    argv[optind] = program_name;
    return run_command(command, argc - optind, argv + optind);
}

int main(int argc, char *argv[])
{
    int status;

    output_prepare();
    status = run_arguments(argc, argv);
    if (!output_complete()) {
        complain("cannot write the output: %s", strerror(errno));
        return TOOL_FAILED;
    }
    return status;
}
