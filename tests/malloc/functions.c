/* SPDX-License-Identifier: MIT */
/* Each function of malloc(3) and its relatives, with the sizes and alignments that matter. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                \
    do {                                                                \
        if (!(condition)) {                                             \
            fprintf(stderr, "line %d: not %s\n", __LINE__, #condition); \
            exit(EXIT_FAILURE);                                         \
        }                                                               \
    } while (0)

/* Volatile, so that the compiler does not know the sizes. */
static volatile size_t huge = SIZE_MAX, large = (size_t)100 << 20;

static bool is_filled(const char *bytes, char value, size_t size)
{
    return size == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Frees the object. */
static void check_object(char *object, size_t alignment, size_t size)
{
    CHECK(object != NULL && (uintptr_t)object % alignment == 0);
    CHECK(malloc_usable_size(object) >= size);
    memset(object, 7, size);
    free(object);
}

static void check_alignments(size_t size)
{
    size_t page_size = (size_t)getpagesize();

    check_object(malloc(size), 16, size);
    check_object(valloc(size), page_size, size);
    check_object(pvalloc(size), page_size, (size + page_size - 1) / page_size * page_size);
    for (size_t alignment = sizeof(void *); alignment <= 1 << 20; alignment *= 2) {
        void *object;

        check_object(memalign(alignment, size), alignment, size);
        check_object(aligned_alloc(alignment, size), alignment, size);
        CHECK(posix_memalign(&object, alignment, size) == 0);
        check_object(object, alignment, size);
    }
}

static void check_contents(size_t size)
{
    char *object = calloc(3, size);

    CHECK(object != NULL && is_filled(object, 0, 3 * size));
    memset(object, 7, 3 * size);
    object = reallocarray(object, 5, size);
    CHECK(object != NULL && is_filled(object, 7, 3 * size));
    object = realloc(object, size);
    CHECK(object != NULL && is_filled(object, 7, size));
    free(object);
}

static void check_refusals(void)
{
    void *object = NULL;
    char *kept = malloc(100);

    memset(kept, 7, 100);
    errno = 0;
    CHECK(malloc(huge) == NULL && errno == ENOMEM);
    CHECK(calloc(huge / 2, 3) == NULL && errno == ENOMEM);
    CHECK(pvalloc(huge) == NULL && errno == ENOMEM);
    CHECK(realloc(kept, huge) == NULL && errno == ENOMEM);
    CHECK(reallocarray(kept, huge / 2, 3) == NULL && errno == ENOMEM);
    CHECK(is_filled(kept, 7, 100));
    CHECK(posix_memalign(&object, 24, 1) == EINVAL && posix_memalign(&object, 4, 1) == EINVAL);
    CHECK(posix_memalign(&object, 64, huge) == ENOMEM && object == NULL);
    errno = 1234;
    free(kept);
    free(NULL);
    CHECK(errno == 1234);
}

/* More than a heap has room for; then an object grows out of its heap. */
static void check_large(void)
{
    char *objects[3];

    for (int i = 0; i < 3; i++) {
        objects[i] = malloc(large);
        CHECK(objects[i] != NULL);
        objects[i][large - 1] = 7;
    }
    objects[0] = realloc(objects[0], 2 * large);
    CHECK(objects[0] != NULL && objects[0][large - 1] == 7);
    for (int i = 0; i < 3; i++)
        free(objects[i]);
}

static void *free_in_thread(void *object)
{
    free(object);
    return malloc(1000);
}

static void check_threads(void)
{
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        void *object;

        CHECK(pthread_create(&thread, NULL, free_in_thread, malloc(1000)) == 0);
        CHECK(pthread_join(thread, &object) == 0);
        free(object);
    }
}

static char *early;
static int forks_seen;

static void allocate_in_fork(void)
{
    char *object = malloc(100);

    CHECK(object != NULL && malloc_usable_size(object) >= 100);
    memset(object, 7, 100);
    object = realloc(object, 200);
    CHECK(object != NULL && is_filled(object, 7, 100));
    free(object);
    forks_seen++;
}

/* Runs before the constructors of shared objects, so that its fork handlers are the oldest. */
static void run_early(void)
{
    early = calloc(1, 100);
    pthread_atfork(allocate_in_fork, allocate_in_fork, allocate_in_fork);
}
__attribute__((section(".preinit_array"), used)) static void (*const run_first)(void) = run_early;

static void check_early(void)
{
    CHECK(early != NULL && is_filled(early, 0, 100) && malloc_usable_size(early) >= 100);
    early = realloc(early, 2000);
    CHECK(early != NULL && is_filled(early, 0, 100));
    free(early);
}

static void check_fork(void)
{
    pid_t child = fork();
    int status;

    CHECK(child >= 0 && forks_seen == 2);
    check_object(malloc(100), 16, 100);
    if (child == 0)
        _exit(EXIT_SUCCESS);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 127, 1024, 2048, 2049, 4096, 70000, 3 << 20};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        check_alignments(sizes[i]);
        if (sizes[i] > 0) /* glibc then frees the object */
            check_contents(sizes[i]);
    }
    check_early();
    check_refusals();
    check_large();
    check_threads();
    check_fork();
    puts("all functions work");
    return EXIT_SUCCESS;
}
