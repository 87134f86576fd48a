/* SPDX-License-Identifier: MIT */
/* scan, if the command is built without libelf */
#include "complain.h"
#include "tool.h"

int scan(char *const arguments[], const struct tool_options *options)
{
    (void)arguments, (void)options;
    complain("not available: this pkeyguard was built without libelf");
    return TOOL_FAILED;
}
