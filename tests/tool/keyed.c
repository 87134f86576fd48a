/* SPDX-License-Identifier: MIT */
/*
 * Has a region named "vault" that belongs to a key. Inside a write scope it prints, in JSON, the
 * region's address, its pkey or null, and whether the kernel keeps names of mappings. Then it runs
 * the command in its arguments, with its own process number as one more argument.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pkeyguard.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static int run(char *command[])
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        execv(command[0], command);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

int main(int argc, char *argv[])
{
    struct pkeyguard_key *key;
    struct pkeyguard_region *region;
    char *command[8] = {0};
    char number[16];
    int result = 1;

    if (argc < 2 || argc > 7 || pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0 ||
        pkeyguard_region_create(key, 3 * 4096, PROT_READ | PROT_WRITE, 0, &region) != 0 ||
        pkeyguard_region_name(region, "vault") != 0)
        return 1;
    pkeyguard_scoped_write (char, vault, region) {
        bool named = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, vault, 3 * 4096, "vault") == 0;

        snprintf(number, sizeof(number), "%d", pkeyguard_key_number(key));
        printf("{\"start\":\"%p\",\"key\":%s,\"named\":%s}\n", (void *)vault,
               pkeyguard_key_number(key) < 0 ? "null" : number, named ? "true" : "false");
        fflush(stdout);
        for (int i = 1; i < argc; i++)
            command[i - 1] = argv[i];
        snprintf(number, sizeof(number), "%d", (int)getpid());
        command[argc - 1] = number;
        result = run(command);
    }
    return pkeyguard_region_destroy(region) != 0 || pkeyguard_key_destroy(key) != 0 ? 1 : result;
}
