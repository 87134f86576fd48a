/* SPDX-License-Identifier: MIT */
/* scan, where the command was built without libelf */
#include "tool.h"

int scan(char *const arguments[], bool json)
{
    (void)arguments, (void)json;
    complain("this pkeyguard was built without libelf, which reads ELF files");
    return TOOL_FAILED;
}
