/* SPDX-License-Identifier: MIT */
/*
 * tenants - 200 tenants, each with a virtual key of its own, on a CPU with 15 pkeys
 *
 * Two workers serve requests. A worker opens only the data of the tenant that the request is for.
 * With --crash a worker follows a pointer into another tenant's data and is killed by SIGSEGV.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

enum { TENANTS = 200, REQUESTS = 4000, WORKERS = 2 };

struct account {
    char owner[32];
    long balance;
    struct account *see_also; /* the bug: it points into another tenant's data */
};

static struct tenant {
    struct pkeyguard_key *key;
    struct pkeyguard_region *data;
    pthread_mutex_t lock;
} tenants[TENANTS];

static atomic_int served;
static bool crash;

static void check(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "tenants: %s: %s\n", what, pkeyguard_strerror(error));
    exit(EXIT_FAILURE);
}

static void create_tenant(int number)
{
    struct tenant *tenant = &tenants[number];
    char name[64];

    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &tenant->key),
          "creating a key");
    check(pkeyguard_region_create(tenant->key, sizeof(struct account), PROT_READ | PROT_WRITE, 0,
                                  &tenant->data),
          "creating a tenant's data");
    snprintf(name, sizeof(name), "tenant %d", number);
    check(pkeyguard_region_name(tenant->data, name), "naming a tenant's data");
    pthread_mutex_init(&tenant->lock, NULL);
    pkeyguard_scoped_write (struct account, account, tenant->data) {
        snprintf(account->owner, sizeof(account->owner), "owner %d", number);
        account->see_also =
            pkeyguard_region_unsafe_address(tenants[number > 0 ? number - 1 : 0].data);
    }
}

/* The scope waits while scopes of other threads pin every pkey. */
static void serve_request(struct tenant *tenant, long amount)
{
    pthread_mutex_lock(&tenant->lock);
    pkeyguard_scoped_write (struct account, account, tenant->data) {
        account->balance += amount;
        if (crash && served > REQUESTS / 2) {
            puts("following a pointer into another tenant's data");
            fflush(stdout);
            account->see_also->balance += amount;
            puts("the write succeeded: the tenants are not separated");
            exit(EXIT_FAILURE);
        }
    }
    pthread_mutex_unlock(&tenant->lock);
    served++;
}

static void *run_worker(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument + 1;

    /* Until a thread registers it may have a pkey open, so no pkey can move to another key. */
    check(pkeyguard_thread_register(), "registering a worker");
    for (int i = 0; i < REQUESTS / WORKERS; i++)
        serve_request(&tenants[1 + rand_r(&seed) % (TENANTS - 1)], 1);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t workers[WORKERS];
    long total = 0;

    if (argc > 2 || (argc == 2 && strcmp(argv[1], "--crash") != 0)) {
        fprintf(stderr, "usage: tenants [--crash]\n");
        return 2;
    }
    crash = argc == 2;
    check(pkeyguard_fault_reporter_install(0), "installing the fault reporter");
    for (int i = 0; i < TENANTS; i++)
        create_tenant(i);
    printf("%d tenants, enforced by %s\n", TENANTS,
           pkeyguard_key_enforcement(tenants[0].key) == PKEYGUARD_PKU ? "protection keys (PKU)"
                                                                      : "mprotect");
    fflush(stdout);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_create(&workers[i], NULL, run_worker, (void *)i);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    for (int i = 0; i < TENANTS; i++) {
        pkeyguard_scoped_read (struct account, account, tenants[i].data)
            total += account->balance;
        check(pkeyguard_region_destroy(tenants[i].data), "destroying a tenant's data");
        check(pkeyguard_key_destroy(tenants[i].key), "destroying a key");
    }
    printf("%d requests served, the balances add up to %ld\n", (int)served, total);
    return total == served ? EXIT_SUCCESS : EXIT_FAILURE;
}
