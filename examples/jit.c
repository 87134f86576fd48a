/* SPDX-License-Identifier: MIT */
/*
 * jit - machine code that one thread writes while others run it, and none can do both
 *
 * It guards against stray writes that change compiled code, which an attacker would then have run.
 * A compiler must write to memory that can be executed. With mprotect alone either the code cannot
 * run meanwhile, or every thread can write to it (no W^X). Here the code belongs to a key that
 * every thread may read. The compiler's thread opens a write scope to compile; the code stays
 * closed to writes of the other threads, and they run it all the time, because a pkey does not stop
 * execution.
 *
 * The compiler translates formulas of x, such as (x + 1) * 2, to x86-64 code. --attack has another
 * thread write to the code at the moment when the compiler's thread has it open: SIGSEGV kills it.
 * Where there are no protection keys a scope opens the code for every thread, and the attack comes
 * between two scopes.
 */
#include <ctype.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "intruder.h"

#ifndef __x86_64__
#error "the compiler makes code for x86-64"
#endif

enum { CODE_SIZE = 1 << 16, RUNNERS = 2, ROUNDS = 50 };

typedef double formula(double x);

static double same_line(double x)
{
    return 3 * x + 0.5;
}

static double same_square(double x)
{
    return (x + 1) * (x - 1);
}

static double same_fraction(double x)
{
    return -x / (2 - (x - 7) * x) - -1;
}

/* What is compiled, and the same in C. */
static const struct source {
    const char *text;
    formula *same;
} sources[] = {
    {"3 * x + 0.5", same_line},
    {"(x + 1) * (x - 1)", same_square},
    {"-x / (2 - (x - 7) * x) - -1", same_fraction},
};
enum { SOURCES = sizeof(sources) / sizeof(*sources), FORMULAS = ROUNDS * SOURCES };

static struct pkeyguard_region *code;

/* formulas[i] is compiled from sources[i % SOURCES]. The compiler's thread sets it when the code is
 * complete, and then posts to `compiled` for each runner. */
static _Atomic(formula *) formulas[FORMULAS];
static sem_t compiled[RUNNERS];

/* ---- the compiler ---- */

struct compiler {
    const char *text;          /* what is not compiled yet */
    unsigned char *next, *end; /* where code can be put */
    char waiting[32];          /* operators that wait for their right operand, and '(' */
    size_t waiting_count;
    bool failed; /* by a mistake in the text, or without room for the code */
};

enum { NEGATION = 'n' }; /* the operator - before a value */

static void emit(struct compiler *compiler, const void *bytes, size_t length)
{
    if (length > (size_t)(compiler->end - compiler->next)) {
        compiler->failed = true;
        return;
    }
    memcpy(compiler->next, bytes, length);
    compiler->next += length;
}

#define EMIT(compiler, ...)                              \
    emit(compiler, (const unsigned char[]){__VA_ARGS__}, \
         sizeof((const unsigned char[]){__VA_ARGS__}))

/* The code of a value leaves it in xmm0. xmm2 has x. */
static void emit_number(struct compiler *compiler, double number)
{
    EMIT(compiler, 0x48, 0xb8); /* mov $number, %rax */
    emit(compiler, &number, sizeof(number));
    EMIT(compiler, 0x66, 0x48, 0x0f, 0x6e, 0xc0); /* movq %rax, %xmm0 */
}

/* Before the right operand's code. */
static void emit_push(struct compiler *compiler)
{
    EMIT(compiler, 0x48, 0x83, 0xec, 0x08);       /* sub $8, %rsp */
    EMIT(compiler, 0xf2, 0x0f, 0x11, 0x04, 0x24); /* movsd %xmm0, (%rsp) */
}

/* After the right operand's code. */
static void emit_operation(struct compiler *compiler, char operation)
{
    unsigned char opcode = operation == '+'   ? 0x58
                           : operation == '-' ? 0x5c
                           : operation == '*' ? 0x59
                                              : 0x5e;

    EMIT(compiler, 0x66, 0x0f, 0x28, 0xc8);       /* movapd %xmm0, %xmm1 */
    EMIT(compiler, 0xf2, 0x0f, 0x10, 0x04, 0x24); /* movsd (%rsp), %xmm0 */
    EMIT(compiler, 0x48, 0x83, 0xc4, 0x08);       /* add $8, %rsp */
    EMIT(compiler, 0xf2, 0x0f, opcode, 0xc1);     /* addsd, ... %xmm1, %xmm0 */
}

static int precedence(char operation)
{
    switch (operation) {
    case '(':
        return 0;
    case '+':
    case '-':
        return 1;
    case '*':
    case '/':
        return 2;
    default:
        return 3;
    }
}

static void let_wait(struct compiler *compiler, char operation)
{
    if (compiler->waiting_count == sizeof(compiler->waiting))
        compiler->failed = true;
    else
        compiler->waiting[compiler->waiting_count++] = operation;
}

/* A value is complete: compiles the operators that waited for it, from this precedence on. */
static void compile_waiting(struct compiler *compiler, int lowest)
{
    while (compiler->waiting_count > 0) {
        char operation = compiler->waiting[compiler->waiting_count - 1];

        if (precedence(operation) < lowest)
            break;
        compiler->waiting_count--;
        if (operation == NEGATION) {
            emit_push(compiler);
            emit_number(compiler, -1);
            operation = '*';
        }
        emit_operation(compiler, operation);
    }
}

/* Compiles what may stand where a value begins. Returns true after a value. */
static bool compile_value(struct compiler *compiler)
{
    char first = *compiler->text;

    if (isdigit((unsigned char)first)) {
        char *end;

        emit_number(compiler, strtod(compiler->text, &end));
        compiler->text = end;
        return true;
    }
    compiler->text++;
    if (first == 'x')
        EMIT(compiler, 0x66, 0x0f, 0x28, 0xc2); /* movapd %xmm2, %xmm0 */
    else if (first == '(')
        let_wait(compiler, '(');
    else if (first == '-')
        let_wait(compiler, NEGATION);
    else
        compiler->failed = true;
    return first == 'x';
}

/* Compiles what may stand after a value. Returns false after an operator, which needs a value. */
static bool compile_after_value(struct compiler *compiler)
{
    char next = *compiler->text++;

    if (next == ')') {
        compile_waiting(compiler, 1);
        if (compiler->waiting_count == 0)
            compiler->failed = true;
        else
            compiler->waiting_count--;
        return true;
    }
    if (strchr("+-*/", next) == NULL) {
        compiler->failed = true;
        return true;
    }
    compile_waiting(compiler, precedence(next));
    emit_push(compiler);
    let_wait(compiler, next);
    return false;
}

/* Returns the end of the code, or NULL. */
static unsigned char *compile(const char *text, unsigned char *begin, unsigned char *end)
{
    struct compiler compiler = {.text = text, .next = begin, .end = end};
    bool after_value = false;

    EMIT(&compiler, 0x66, 0x0f, 0x28, 0xd0); /* movapd %xmm0, %xmm2 */
    for (;;) {
        while (*compiler.text == ' ')
            compiler.text++;
        if (*compiler.text == '\0' || compiler.failed)
            break;
        after_value = after_value ? compile_after_value(&compiler) : compile_value(&compiler);
    }
    compile_waiting(&compiler, 1);
    EMIT(&compiler, 0xc3); /* ret */
    return compiler.failed || !after_value || compiler.waiting_count != 0 ? NULL : compiler.next;
}

/* ---- the threads ---- */

static void check_formula(int number)
{
    formula *compiled_formula = formulas[number];

    for (int x = -3; x <= 3; x++) {
        if (compiled_formula(x) != sources[number % SOURCES].same(x))
            die("a formula has another value than in C");
    }
}

static void *run_formulas(void *argument)
{
    sem_t *ready = argument;

    for (int i = 0; i < FORMULAS; i++) {
        while (sem_wait(ready) != 0)
            ;
        check_formula(i);
    }
    return NULL;
}

static void compile_formulas(void)
{
    size_t used = 0;

    for (int i = 0; i < FORMULAS; i++) {
        pkeyguard_scoped_write (unsigned char[CODE_SIZE], bytes, code) {
            unsigned char *begin = *bytes + used;
            unsigned char *end = compile(sources[i % SOURCES].text, begin, *bytes + CODE_SIZE);

            if (end == NULL)
                die("a formula cannot be compiled");
            used = (size_t)(end - *bytes);
            formulas[i] = (formula *)(uintptr_t)begin;
        }
        for (int runner = 0; runner < RUNNERS; runner++)
            sem_post(&compiled[runner]);
    }
    printf("%d formulas, %zu bytes of code; %d threads ran them meanwhile\n", FORMULAS, used,
           RUNNERS);
}

static void run_and_compile(void)
{
    pthread_t runners[RUNNERS];

    for (int i = 0; i < RUNNERS; i++) {
        if (sem_init(&compiled[i], 0, 0) != 0 ||
            pthread_create(&runners[i], NULL, run_formulas, &compiled[i]) != 0)
            die("cannot create a thread");
    }
    compile_formulas();
    for (int i = 0; i < RUNNERS; i++)
        pthread_join(runners[i], NULL);
}

int main(int argc, char **argv)
{
    bool attacks = argc == 2 && strcmp(argv[1], "--attack") == 0;
    struct pkeyguard_key *key;

    if (argc > 1 && !attacks) {
        fprintf(stderr, "usage: jit [--attack]\n");
        return 2;
    }
    check(pkeyguard_fault_reporter_install(0), "installing the fault reporter");
    /* Read-only: under mprotect closed memory cannot be executed. The key is older than the threads
     * that run the code, so they have these rights, too. */
    check(pkeyguard_key_create(PKEYGUARD_READ_ONLY, 0, &key), "creating a key");
    check(pkeyguard_region_create(key, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, 0, &code),
          "creating memory for code");
    check(pkeyguard_region_name(code, "compiled code"), "naming the code");
    print_enforcement(key);

    run_and_compile();
    intrude(code, "the code", attacks);
    check_formula(0);
    check(pkeyguard_region_destroy(code), "destroying the code");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return EXIT_SUCCESS;
}
