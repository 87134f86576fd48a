#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that knows nothing of reports has its fault explained, and ends as it would without.
#
# usage: run.sh COMMAND...
#
# COMMAND is "pkeyguard run" with stray.c's program, or repeats what that wrote and how it ended.
set -eu
export LC_ALL=C

ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
test "$ended" = 139 # 128 + SIGSEGV
test "$(echo "$said" | grep -c '^libpkeyguard: ')" = 1
echo "$said" | grep -q "^libpkeyguard: write to region 'vault' + 0x10: "
! echo "$said" | grep -qx written
