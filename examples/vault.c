/* SPDX-License-Identifier: MIT */
/*
 * vault - a number that is reachable only inside a scope
 *
 * With --crash it also writes inside a read scope, through a cast that removes const, and is killed
 * by SIGSEGV.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

static void check(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "vault: %s: %s\n", what, pkeyguard_strerror(error));
    exit(EXIT_FAILURE);
}

static const char *enforcement_name(const struct pkeyguard_key *key)
{
    switch (pkeyguard_key_enforcement(key)) {
    case PKEYGUARD_PKU:
        return "protection keys (PKU)";
    case PKEYGUARD_MPROTECT:
        return "mprotect";
    default:
        return "nothing";
    }
}

int main(int argc, char **argv)
{
    struct pkeyguard_region *vault;
    struct pkeyguard_key *key;

    if (argc > 2 || (argc == 2 && strcmp(argv[1], "--crash") != 0)) {
        fprintf(stderr, "usage: vault [--crash]\n");
        return 2;
    }
    check(pkeyguard_region_create(NULL, sizeof(int), PROT_READ | PROT_WRITE, 0, &vault),
          "creating the vault");
    check(pkeyguard_region_name(vault, "vault"), "naming the vault");
    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating a key");
    check(pkeyguard_region_associate(vault, key), "associating the vault with the key");
    printf("enforced by %s", enforcement_name(key));
    if (pkeyguard_key_number(key) > 0)
        printf(", pkey %d", pkeyguard_key_number(key));
    puts("");

    pkeyguard_scoped_write (int, secret, vault) {
        *secret = 123;
    }
    pkeyguard_scoped_read (int, secret, vault) {
        printf("the secret is %d\n", *secret);
        if (argc == 2) {
            puts("writing to the vault inside the read scope");
            fflush(stdout);
            *(int *)secret = 456;
            puts("the write succeeded: the vault is not guarded");
            return EXIT_FAILURE;
        }
    }
    check(pkeyguard_region_destroy(vault), "destroying the vault");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return EXIT_SUCCESS;
}
