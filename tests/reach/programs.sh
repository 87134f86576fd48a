#!/bin/sh
# SPDX-License-Identifier: MIT
#
# programs.sh COMMAND...
#
# Checks the output of the programs that build.sh built. `COMMAND NAME` runs one of them on the
# other C library or CPU.
set -eux
export LC_ALL=C
tool_tests=$(dirname "$0")/../tool

"$@" vault | grep 'the secret is 123'
# 139 is 128 + SIGSEGV.
ended=0
"$@" vault-crash || ended=$?
test "$ended" = 139
sh "$tool_tests/doctor.sh" mprotect "$@" doctor
"$@" maps | grep -E ' rw-p .* \[stack\]$'
ended=0
said=$("$@" scan 2>&1) || ended=$?
test "$ended" = 2
echo "$said" | grep 'without libelf'
for option in -O0 -O2; do
    "$@" consumer$option | grep 'C, libpkeyguard .*: 123'
done
