/* SPDX-License-Identifier: MIT */
/*
 * sandboxed_signer - a signing process that may only read, write and exit
 *
 * The program makes an Ed25519 key pair, with the secret key in a region, and a child process. The
 * child installs a system call filter (seccomp) that kills it on every call but these three. Then
 * it reads messages from a pipe and answers with signatures, for each of which it opens a scope.
 *
 * Guards against: a bug in the code around the signing that reads or overwrites the secret key
 * (--attack has such a bug), in a process where an attacker cannot call the kernel to undo it.
 *
 * It rests on a promise of platform.h: a guard on a dedicated key makes no system call. Under
 * mprotect each scope makes some, so there the filter must allow mprotect(2), and an attacker has
 * it, too.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>
#include <sodium.h>

#include <pkeyguard.h>

#include "demonstration.h"

enum { MESSAGES = 1000, MESSAGE_SIZE = 32 };

struct signature {
    unsigned char bytes[crypto_sign_BYTES];
};

struct secret_key {
    unsigned char bytes[crypto_sign_SECRETKEYBYTES];
};

static struct pkeyguard_region *vault;
static unsigned char public_key[crypto_sign_PUBLICKEYBYTES];

/* The secret key is made in the vault, so no copy of it is anywhere else. */
static void make_key_pair(struct pkeyguard_key *key)
{
    check(
        pkeyguard_region_create(key, sizeof(struct secret_key), PROT_READ | PROT_WRITE, 0, &vault),
        "creating the vault");
    pkeyguard_scoped_write (struct secret_key, secret, vault) {
        crypto_sign_keypair(public_key, secret->bytes); /* NOLINT: a scope's pointer is not NULL */
    }
}

/* From here on the kernel kills the process on any call but these. */
static void enter_sandbox(bool by_mprotect)
{
    static const int always[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(exit_group)};
    /* platform.h names them: "software keys", and "all other functions". */
    static const int for_mprotect[] = {SCMP_SYS(mprotect), SCMP_SYS(rt_sigprocmask),
                                       SCMP_SYS(futex)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);

    if (filter == NULL)
        die("cannot make a filter");
    for (int i = 0; i < 3; i++) {
        if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, always[i], 0) != 0 ||
            (by_mprotect && seccomp_rule_add(filter, SCMP_ACT_ALLOW, for_mprotect[i], 0) != 0))
            die("cannot add to the filter");
    }
    if (seccomp_load(filter) != 0)
        die("cannot install the filter");
    seccomp_release(filter);
}

/* The bug of --attack: it answers with bytes from a wrong address, which is the vault's. */
static void leak(struct signature *answer)
{
    const unsigned char *stray = pkeyguard_region_unsafe_address(vault);

    if (stray != NULL)
        memcpy(answer->bytes, stray, sizeof(answer->bytes));
}

static _Noreturn void serve(int requests, int answers, bool attack)
{
    unsigned char message[MESSAGE_SIZE];
    struct signature answer;

    while (read(requests, message, sizeof(message)) == sizeof(message)) {
        if (attack) {
            leak(&answer);
        } else {
            pkeyguard_scoped_read (struct secret_key, secret, vault) {
                crypto_sign_detached(answer.bytes, NULL, message, sizeof(message), secret->bytes);
            }
        }
        if (write(answers, &answer, sizeof(answer)) != sizeof(answer))
            break;
    }
    _exit(0);
}

/* Returns how many messages were answered with a valid signature. */
static int ask(int requests, int answers)
{
    unsigned char message[MESSAGE_SIZE] = "pay 100 to Alice";
    struct signature answer;
    int valid = 0;

    for (int i = 0; i < MESSAGES; i++) {
        memcpy(message + MESSAGE_SIZE - sizeof(i), &i, sizeof(i));
        if (write(requests, message, sizeof(message)) != sizeof(message) ||
            read(answers, &answer, sizeof(answer)) != sizeof(answer))
            break;
        valid +=
            crypto_sign_verify_detached(answer.bytes, message, sizeof(message), public_key) == 0;
    }
    return valid;
}

static void report(int status)
{
    if (WIFEXITED(status))
        printf("the signer ended with status %d\n", WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGSEGV)
        printf("the signer was killed: it touched its key outside a scope\n");
    else
        printf("the signer was killed by the sandbox: signal %d\n", WTERMSIG(status));
}

int main(int argc, char *argv[])
{
    bool attack = argc == 2 && strcmp(argv[1], "--attack") == 0, by_mprotect;
    int requests[2], answers[2], status;
    struct pkeyguard_key *key;
    pid_t signer;

    if (sodium_init() < 0 || pipe(requests) != 0 || pipe(answers) != 0)
        die("cannot start");
    signal(SIGPIPE, SIG_IGN);
    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating a key");
    by_mprotect = pkeyguard_key_enforcement(key) != PKEYGUARD_PKU;
    printf("enforced by %s; the signer may read, write and exit%s\n",
           by_mprotect ? "mprotect" : "protection keys",
           by_mprotect ? ", and change page rights" : "");
    fflush(stdout);
    make_key_pair(key);
    signer = fork();
    if (signer < 0)
        die("cannot fork");
    if (signer == 0) {
        close(requests[1]);
        close(answers[0]);
        enter_sandbox(by_mprotect);
        serve(requests[0], answers[1], attack);
    }
    close(requests[0]);
    close(answers[1]);
    printf("%d of %d messages were signed\n", ask(requests[1], answers[0]), MESSAGES);
    close(requests[1]);
    waitpid(signer, &status, 0);
    report(status);
    check(pkeyguard_region_destroy(vault), "destroying the vault");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
