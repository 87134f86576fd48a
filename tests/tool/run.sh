#!/bin/sh
# SPDX-License-Identifier: MIT
# "pkeyguard run" explains the fault of a program that does not use the reporter. The program ends
# as without it.
#
# usage: run.sh COMMAND...
#
# COMMAND is "pkeyguard run" with stray.c's program, or repeats its output and status.
set -eu
export LC_ALL=C

ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
test "$ended" = 139 # 128 + SIGSEGV
test "$(echo "$said" | grep -c '^libpkeyguard: ')" = 1
echo "$said" | grep -q "^libpkeyguard: write to region 'vault' + 0x10: "
! echo "$said" | grep -qx written
