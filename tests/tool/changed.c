/* SPDX-License-Identifier: MIT */
/*
 * Has regions and a heap, which belong to a key. It prints two addresses in one of the regions, in
 * JSON. Twice it runs the command in its arguments, with its own process number as one more
 * argument, and prints the command's status. In between it replaces a page of that region, and
 * changes the rights of another.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pkeyguard.h>

enum { PAGE = 4096 };

static void run(char *command[])
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        execv(command[0], command);
        _exit(127);
    }
    if (child > 0 && waitpid(child, &status, 0) == child)
        printf("%d\n", WEXITSTATUS(status));
}

static bool make_region(struct pkeyguard_key *key, unsigned flags, struct pkeyguard_region **region)
{
    return pkeyguard_region_create(key, 5 * PAGE, PROT_READ | PROT_WRITE, flags, region) == 0;
}

int main(int argc, char *argv[])
{
    struct pkeyguard_region *region, *locked;
    struct pkeyguard_key *key;
    struct pkeyguard_heap *heap;
    char *command[8] = {0}, number[16], *start;

    if (argc < 2 || argc > 7 || pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0 ||
        !make_region(key, 0, &region) || !make_region(key, PKEYGUARD_REGION_LOCKED, &locked) ||
        pkeyguard_heap_create(key, 1 << 20, PKEYGUARD_REGION_LOCKED, &heap) != 0)
        return 1;
    for (int i = 1; i < argc; i++)
        command[i - 1] = argv[i];
    snprintf(number, sizeof(number), "%d", (int)getpid());
    command[argc - 1] = number;
    start = pkeyguard_region_unsafe_address(region);
    printf("{\"replaced\":\"%p\",\"narrowed\":\"%p\"}\n", (void *)(start + PAGE),
           (void *)(start + 3 * PAGE));
    run(command);
    if (mmap(start + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) == MAP_FAILED ||
        mprotect(start + 3 * PAGE, PAGE, PROT_READ) != 0)
        return 1;
    run(command);
    return 0;
}
