/* SPDX-License-Identifier: MIT */
/* The pkeyguard command: options, and which subcommand. See pkeyguard.1. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include <pkeyguard.h>

#include "output.h"
#include "tool.h"

static const struct option looking[] = {
    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
static const struct option running[] = {
    {"report", no_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};

#define JSON   "  -j, --json    as one JSON document\n"
#define REPORT "  -r, --report  explain its forbidden accesses on stderr; the default\n"

static const struct command {
    const char *name, *arguments, *summary;
    int least, most; /* arguments; most -1: no bound */
    int (*run)(char *const arguments[], bool json);
    const char *letters; /* as for getopt(3): "+" leaves the options behind an argument to it */
    const struct option *options;
    const char *option_help;
} commands[] = {
    {"doctor", "", "shows what this machine gives, and what to do about what it lacks", 0, 0,
     doctor, "jh", looking, JSON},
    {"maps", " [PID]", "shows a process's mappings by protection key", 0, 1, maps, "jh", looking,
     JSON},
    {"scan", " FILE...", "shows the instructions in ELF files that could open keys", 1, -1, scan,
     "jh", looking, JSON},
    {"run", " COMMAND...", "runs a program with its forbidden accesses explained", 1, -1, run,
     "+rh", running, REPORT},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* What messages start with. */
static char title[32] = "pkeyguard";

void complain(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "%s: ", title);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
}

static int wrong_usage(void)
{
    fprintf(stderr, "Try '%s --help'.\n", title);
    return EX_USAGE;
}

static void help(void)
{
    printf("Usage: pkeyguard SUBCOMMAND [OPTION]... [ARGUMENT]...\n"
           "       pkeyguard --help | --version\n"
           "Looks at protection keys, on this machine, in processes and in programs.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %s%-*s %s\n", commands[i].name, 16 - (int)strlen(commands[i].name),
               commands[i].arguments, commands[i].summary);
    printf("\n'pkeyguard SUBCOMMAND --help' says more, and pkeyguard(1) all.\n");
}

static void command_help(const struct command *command)
{
    printf("Usage: pkeyguard %s [--%s]%s\n"
           "This %s.\n\n"
           "%s"
           "  -h, --help    this\n",
           command->name, command->options[0].name, command->arguments, command->summary,
           command->option_help);
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int run_command(const struct command *command, int argc, char *argv[])
{
    bool json = false;
    int option;

    optind = 0; /* for another argv; both glibc and musl start over at 0 */
    while ((option = getopt_long(argc, argv, command->letters, command->options, NULL)) != -1) {
        switch (option) {
        case 'j':
            json = true;
            break;
        case 'r':
            break;
        case 'h':
            command_help(command);
            return TOOL_OK;
        default:
            return wrong_usage();
        }
    }
    argc -= optind;
    argv += optind;
    if (argc < command->least) {
        complain("an argument is missing");
        return wrong_usage();
    }
    if (command->most >= 0 && argc > command->most) {
        complain("'%s' is an argument too many", argv[command->most]);
        return wrong_usage();
    }
    return command->run(argv, json);
}

static int choose(int argc, char *argv[])
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
    const struct command *command;

    switch (getopt_long(argc, argv, "+hV", options, NULL)) {
    case 'h':
        help();
        return TOOL_OK;
    case 'V':
        printf("pkeyguard %s\n", pkeyguard_version());
        return TOOL_OK;
    case -1:
        break;
    default:
        return wrong_usage();
    }
    if (optind == argc) {
        complain("a subcommand is missing");
        return wrong_usage();
    }
    command = find_command(argv[optind]);
    if (command == NULL) {
        complain("'%s' is no subcommand", argv[optind]);
        return wrong_usage();
    }
    snprintf(title, sizeof(title), "pkeyguard %s", command->name);
    argv[optind] = title;
    return run_command(command, argc - optind, argv + optind);
}

int main(int argc, char *argv[])
{
    int status;

    output_prepare();
    status = choose(argc, argv);
    if (!output_complete()) {
        complain("cannot write: %s", strerror(errno));
        return TOOL_FAILED;
    }
    return status;
}
