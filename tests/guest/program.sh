#!/bin/sh
# SPDX-License-Identifier: MIT
#
# program.sh STATUS COMMAND...
#
# COMMAND must exit with this status and say that protection keys enforce.
set -eu

expected=$1
shift
ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
test "$ended" = "$expected"
echo "$said" | grep -q 'enforced by protection keys'
