/* SPDX-License-Identifier: MIT */
/*
 * The stack is unwound at every instruction of a scope, through a signal frame: in the inline code
 * and in the library's assembly, which the compiler does not describe to the unwinder.
 */
#include "stepping.h"

#include <stdint.h>
#include <unwind.h>

#include "test_steps.h"

/* What the unwinder finds of step_operation(), the function below all the stepped ones. */
struct trace {
    uintptr_t frame;
    int frames_below;
    bool is_past;
};
static struct trace expected;
static void (*stepped_operation)(void *unused);

__attribute__((noinline)) static void step_operation(void (*stop)(void))
{
    step_through(stepped_operation, NULL, stop);
    __asm__ volatile("" : : : "memory"); /* not a tail call */
}

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *argument)
{
    struct trace *trace = argument;

    if (trace->is_past)
        trace->frames_below++;
    if ((uintptr_t)_Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(context)) ==
        (uintptr_t)step_operation) {
        trace->is_past = true;
        trace->frame = _Unwind_GetCFA(context);
    }
    return _URC_NO_REASON;
}

static void unwind(void)
{
    struct trace trace = {0};

    if (!is_new_instruction())
        return;
    _Unwind_Backtrace(look_at_frame, &trace);
    if (expected.frame == 0)
        expected = trace;
    EXPECT(trace.frame != 0 && trace.frame == expected.frame);
    EXPECT(trace.frames_below > 0 && trace.frames_below == expected.frames_below);
}

START_TEST(stack_is_unwound_at_every_instruction)
{
    set_up_kind((enum kind)_i);
    for (const struct operation *operation = operations; operation < operations + OPERATIONS;
         operation++) {
        if (operation->needs_virtual && _i != VIRTUAL)
            continue;
        get_ready(operation);
        stepped_operation = operation->run;
        expected = (struct trace){0};
        step_operation(unwind);
        ck_assert_msg(not_as_expected == 0, "%s: %d", operation->name, not_as_expected);
    }
    tear_down_kind();
}
END_TEST

void add_unwinding_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "unwinding", NULL, NULL);

    if (!pku())
        tcase_add_loop_test(tests, stack_is_unwound_at_every_instruction, SOFTWARE, SOFTWARE + 1);
    add_pku_loop_test(tests, stack_is_unwound_at_every_instruction, DEDICATED, KINDS);
}
