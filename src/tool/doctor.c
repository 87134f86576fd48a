/* SPDX-License-Identifier: MIT */
/* doctor: shows what this machine supports and how to get what is missing */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <pkeyguard.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "complain.h"
#include "output.h"
#include "tool.h"

struct facts {
    struct utsname kernel;
    char processor[128];
    struct pkeyguard_platform platform;
    int self_test;
    rlim_t locked_memory;
    unsigned long mappings;
    double mprotect_pair_ns, scope_ns;
};

/* Linux's defaults: RLIMIT_MEMLOCK in bytes (since 5.16), and vm.max_map_count. */
enum { DEFAULT_LOCKED_MEMORY = 8 << 20, DEFAULT_MAPPINGS = 65530 };

static void read_processor(char *name, size_t size)
{
    FILE *cpuinfo = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(name, size, "unknown");
    if (cpuinfo == NULL)
        return;
    while (fgets(line, sizeof(line), cpuinfo) != NULL) {
        if (strncmp(line, "model name", strlen("model name")) == 0 && strchr(line, ':') != NULL) {
            snprintf(name, size, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                     strchr(line, ':') + 2);
            break;
        }
    }
    fclose(cpuinfo);
}

/* Returns 0 if the file cannot be read. */
static unsigned long read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long number = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

enum { ROUNDS = 100, ITERATIONS = 100 };

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

/* Nanoseconds for one write to the page with an mprotect(2) call before and after it. */
static int time_mprotect_pair(volatile char *page, size_t size, double *ret_ns)
{
    double start = now_ns();

    for (int i = 0; i < ITERATIONS; i++) {
        if (mprotect((void *)page, size, PROT_READ | PROT_WRITE) != 0)
            return -errno;
        *page = 1;
        if (mprotect((void *)page, size, PROT_NONE) != 0)
            return -errno;
    }
    *ret_ns = (now_ns() - start) / ITERATIONS;
    return 0;
}

/* Nanoseconds for one write to the region in a scope of its own. */
static double time_scope(struct pkeyguard_region *region)
{
    double start = now_ns();

    for (int i = 0; i < ITERATIONS; i++) {
        pkeyguard_scoped_write (volatile char, byte, region) {
            *byte = 1;
        }
    }
    return (now_ns() - start) / ITERATIONS;
}

/* Keeps the fastest round of each of the two. They take turns, so a slow moment slows both. */
static int compare_scope(struct pkeyguard_region *region, void *page, size_t size,
                         struct facts *facts)
{
    for (int round = 0; round < ROUNDS; round++) {
        double pair = 0, scope = time_scope(region);
        int error = time_mprotect_pair(page, size, &pair);

        if (error != 0)
            return error;
        if (round == 0 || pair < facts->mprotect_pair_ns)
            facts->mprotect_pair_ns = pair;
        if (round == 0 || scope < facts->scope_ns)
            facts->scope_ns = scope;
    }
    return 0;
}

/*
 * A region to measure the pair on. The cost of mprotect(2) depends on the neighbouring mappings, so
 * this is a region as in the benchmarks: without a key, and written to in a scope.
 */
static int create_region_for_pair(size_t size, struct pkeyguard_region **ret_region)
{
    int error = pkeyguard_region_create(NULL, size, PROT_READ | PROT_WRITE, 0, ret_region);

    if (error == 0) {
        pkeyguard_scoped_write (char, byte, *ret_region) {
            *byte = 1;
        }
    }
    return error;
}

/* Measures what most programs use: a key without flags and one page. */
static int measure_scope(struct facts *facts)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    struct pkeyguard_region *region = NULL, *for_pair = NULL;
    struct pkeyguard_key *key;
    int error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key);

    if (error != 0)
        return error;
    error = pkeyguard_region_create(key, size, PROT_READ | PROT_WRITE, 0, &region);
    if (error == 0)
        error = create_region_for_pair(size, &for_pair);
    if (error == 0)
        error = compare_scope(region, pkeyguard_region_unsafe_address(for_pair), size, facts);
    if (error == 0)
        error = pkeyguard_region_destroy(for_pair);
    if (error == 0)
        error = pkeyguard_region_destroy(region);
    return error != 0 ? error : pkeyguard_key_destroy(key);
}

static int gather_facts(struct facts *facts)
{
    struct rlimit limit;
    int error = pkeyguard_platform_probe(&facts->platform);

    if (error != 0)
        return error;
    facts->self_test = pkeyguard_platform_self_test();
    uname(&facts->kernel);
    read_processor(facts->processor, sizeof(facts->processor));
    getrlimit(RLIMIT_MEMLOCK, &limit);
    facts->locked_memory = limit.rlim_cur;
    facts->mappings = read_number("/proc/sys/vm/max_map_count");
    return measure_scope(facts);
}

static int exit_status(const struct facts *facts)
{
    if (facts->platform.pku_error != 0)
        return TOOL_NEGATIVE;
    return facts->self_test == 0 ? TOOL_OK : TOOL_FAILED;
}

#ifdef __x86_64__

/* CPUID.(EAX=7,ECX=0):ECX.PKU, which is set whether or not the kernel uses PKU (SDM vol. 2). */
static bool processor_has_pku(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & bit_PKU);
}

/* Hypervisors set CPUID.1:ECX[31]; on a real processor it is 0. */
static bool in_virtual_machine(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & 1u << 31);
}

static const char *advice_without_pku(void)
{
    if (processor_has_pku())
        return "the processor has them but the kernel does not use them: boot without nopku, with "
               "a kernel built with CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS";
    if (in_virtual_machine())
        return "the virtual machine's processor has none: pass the host's processor through "
               "(QEMU: -cpu host), or choose a machine type that has them; pkeyguard guest runs "
               "programs with emulated ones";
    return "needs another processor: an Intel server processor since Skylake, an Intel client "
           "processor since the 11th generation, or an AMD processor since Zen 3; pkeyguard guest "
           "runs programs with an emulated one";
}

#else

static const char *advice_without_pku(void)
{
    return "needs an x86-64 processor; here mprotect guards regions, for the whole process at once";
}

#endif

/* What pku_error says of this machine. */
struct pku_refusal {
    int error;
    const char *code, *reason, *remedy;
};

static struct pku_refusal describe_refusal(int pku_error)
{
    static const char allow[] = "allow pkey_alloc, pkey_free and pkey_mprotect in the sandbox's "
                                "system call filter";
    const struct pku_refusal refusals[] = {
        {-ENOTSUP, "ENOTSUP", "the processor has none, or the kernel does not use them",
         advice_without_pku()},
        {-ECANCELED, "ECANCELED", "PKEYGUARD_ENFORCEMENT=mprotect is in the environment",
         "unset PKEYGUARD_ENFORCEMENT in the environment"},
        {-ENOSYS, "ENOSYS", "the kernel does not have pkey_alloc(2), or a sandbox hides it",
         "needs a kernel built with CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS"},
        {-EPERM, "EPERM", "a sandbox refuses pkey_alloc(2) or pkey_mprotect(2)", allow},
        {-EACCES, "EACCES", "a sandbox refuses pkey_alloc(2)", allow},
        {-EINVAL, "EINVAL", "the kernel refuses pkey_alloc(2)",
         "needs a kernel built with CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS"},
    };
    enum { REFUSALS = sizeof(refusals) / sizeof(*refusals) };

    for (int i = 0; i < REFUSALS; i++) {
        if (refusals[i].error == pku_error)
            return refusals[i];
    }
    return (struct pku_refusal){pku_error, "unknown", "pkey_alloc(2) fails", allow};
}

/* Only memory of a dedicated key can be sealed. */
static bool can_seal(const struct pkeyguard_platform *platform)
{
    return platform->sealing && platform->enforcement == PKEYGUARD_PKU;
}

struct advice {
    const char *lacking, *remedy;
};
enum { MOST_ADVICE = 8 };

/* Lists what is missing. Returns the number of entries. */
static int advise(const struct facts *facts, struct advice advice[MOST_ADVICE])
{
    const struct pkeyguard_platform *platform = &facts->platform;
    int count = 0;

    if (platform->pku_error != 0)
        advice[count++] =
            (struct advice){"protection keys", describe_refusal(platform->pku_error).remedy};
    else if (facts->self_test == -EIO)
        advice[count++] = (struct advice){
            "protection keys that protect",
            "update the kernel: before 5.13 (5.10.103 of the 5.10 series) and in the first 6.12 "
            "releases they could fail; until then set PKEYGUARD_ENFORCEMENT=mprotect"};
    else if (platform->hardware_keys_free == 0)
        advice[count++] = (struct advice){"a free protection key",
                                          "a preloaded library has taken all of them: look at "
                                          "LD_PRELOAD and /etc/ld.so.preload"};
    if (!platform->secret_memory)
        advice[count++] = (struct advice){
            "secret memory",
            "needs Linux 5.14; before 6.5 boot it with secretmem.enable=1, and a sandbox must "
            "allow memfd_secret"};
    if (!can_seal(platform))
        advice[count++] = (struct advice){
            "sealing",
            "needs protection keys, and Linux 6.10 on a 64-bit processor; a sandbox must "
            "allow mseal"};
    if (!platform->guard_madvise)
        advice[count++] =
            (struct advice){"guard pages inside a mapping",
                            "need Linux 6.13; without them each region takes three mappings"};
    if (facts->locked_memory < DEFAULT_LOCKED_MEMORY)
        advice[count++] = (struct advice){
            "lockable memory", "raise RLIMIT_MEMLOCK: ulimit -l, or LimitMEMLOCK= in the service's "
                               "unit"};
    if (facts->mappings != 0 && facts->mappings < DEFAULT_MAPPINGS)
        advice[count++] = (struct advice){"mappings", "raise vm.max_map_count with sysctl(8)"};
    return count;
}

static const char *enforcement_name(enum pkeyguard_enforcement enforcement)
{
    return enforcement == PKEYGUARD_PKU ? "pku" : "mprotect";
}

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static void print_facts(const struct facts *facts, const struct advice advice[], int count)
{
    const struct pkeyguard_platform *platform = &facts->platform;
    bool unlimited = facts->locked_memory == RLIM_INFINITY;

    printf("libpkeyguard          %s\n", pkeyguard_version());
    printf("processor             %s\n", facts->processor);
    printf("kernel                %s %s %s\n", facts->kernel.sysname, facts->kernel.release,
           facts->kernel.machine);
    if (platform->pku_error != 0) {
        struct pku_refusal refusal = describe_refusal(platform->pku_error);

        printf("protection keys       no: %s (%s)\n", refusal.reason, refusal.code);
    } else {
        printf("protection keys       yes\n");
        printf("  free                %u\n", platform->hardware_keys_free);
        printf("  self-test           %s\n",
               facts->self_test == 0 ? "passed" : pkeyguard_strerror(facts->self_test));
    }
    printf("secret memory         %s\n", yes_no(platform->secret_memory));
    printf("sealing               %s\n", yes_no(can_seal(platform)));
    printf("MADV_GUARD_INSTALL    %s\n", yes_no(platform->guard_madvise));
    if (unlimited)
        printf("lockable memory       unlimited\n");
    else
        printf("lockable memory       %ju KiB\n", (uintmax_t)facts->locked_memory / 1024);
    if (facts->mappings != 0)
        printf("mappings              %lu at most, so about %lu regions with guard pages\n",
               facts->mappings, facts->mappings / (platform->guard_madvise ? 1 : 3));
    printf("scope by %-12s %.1f ns, %.3g times an mprotect pair (%.1f ns)\n",
           enforcement_name(platform->enforcement), facts->scope_ns,
           facts->scope_ns / facts->mprotect_pair_ns, facts->mprotect_pair_ns);
    for (int i = 0; i < count; i++)
        printf("%s%s: %s\n", i == 0 ? "\nLacking:\n" : "", advice[i].lacking, advice[i].remedy);
}

static void print_advice_json(struct json *json, const struct advice advice[], int count)
{
    json_begin(json, "lacking", '[');
    for (int i = 0; i < count; i++) {
        json_begin(json, NULL, '{');
        json_string(json, "what", advice[i].lacking);
        json_string(json, "remedy", advice[i].remedy);
        json_end(json, '}');
    }
    json_end(json, ']');
}

static void print_facts_json(const struct facts *facts, const struct advice advice[], int count)
{
    const struct pkeyguard_platform *platform = &facts->platform;
    bool tested = platform->pku_error == 0;
    struct pku_refusal refusal = describe_refusal(platform->pku_error);
    struct json json = {0};

    json_begin(&json, NULL, '{');
    json_string(&json, "version", pkeyguard_version());
    json_string(&json, "processor", facts->processor);
    json_string(&json, "kernel", facts->kernel.release);
    json_string(&json, "machine", facts->kernel.machine);
    json_string(&json, "enforcement", enforcement_name(platform->enforcement));
    json_string(&json, "pku_error", tested ? NULL : refusal.reason);
    json_string(&json, "pku_error_code", tested ? NULL : refusal.code);
    json_number(&json, "hardware_keys_free", "%u", platform->hardware_keys_free);
    json_string(
        &json, "self_test",
        !tested ? NULL : (facts->self_test == 0 ? "passed" : pkeyguard_strerror(facts->self_test)));
    json_bool(&json, "secret_memory", platform->secret_memory);
    json_bool(&json, "sealing", can_seal(platform));
    json_bool(&json, "guard_madvise", platform->guard_madvise);
    if (facts->locked_memory == RLIM_INFINITY)
        json_string(&json, "lockable_bytes", NULL);
    else
        json_number(&json, "lockable_bytes", "%ju", (uintmax_t)facts->locked_memory);
    json_number(&json, "max_map_count", "%lu", facts->mappings);
    json_number(&json, "mprotect_pair_ns", "%.1f", facts->mprotect_pair_ns);
    json_number(&json, "scope_ns", "%.1f", facts->scope_ns);
    print_advice_json(&json, advice, count);
    json_end(&json, '}');
    putchar('\n');
}

int doctor(char *const arguments[], const struct tool_options *options)
{
    struct facts facts = {0};
    struct advice advice[MOST_ADVICE];
    int error = gather_facts(&facts);
    int count;

    (void)arguments;
    if (error != 0) {
        complain("cannot examine this machine: %s", pkeyguard_strerror(error));
        return TOOL_FAILED;
    }
    count = advise(&facts, advice);
    if (options->json)
        print_facts_json(&facts, advice, count);
    else
        print_facts(&facts, advice, count);
    return exit_status(&facts);
}
