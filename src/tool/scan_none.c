/* SPDX-License-Identifier: MIT */
/* scan, if the command is built without libelf */
#include "complain.h"
#include "tool.h"

int scan(char *const arguments[], bool json)
{
    (void)arguments, (void)json;
    complain("not available: this pkeyguard was built without libelf");
    return TOOL_FAILED;
}
