#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check.sh MODEL WORKDIR [BREAK]
#
# Has spin search every state of MODEL.pml, virtual_keys or shard_locks. Without BREAK the search
# must be complete and find no violation. BREAK is one of the definitions that the model lists: then
# spin must find one.
set -eu
export LC_ALL=C

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: check.sh MODEL WORKDIR [BREAK]" >&2
    exit 1
fi
model=$(cd "$(dirname "$0")" && pwd)/$1.pml
work=$2/$1/${3:-none}
shift

mkdir -p "$work"
cd "$work"
spin ${2:+-D"$2"} -a "$model"
if [ -n "${2:-}" ]; then
    optimisation=-O0 table=20 # a violation is found soon
else
    optimisation=-O1 table=24
fi
clang $optimisation -w -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -DVECTORSZ=2048 -o pan pan.c
./pan -m200000 -w$table >output
cat output
if grep -q 'max search depth too small\|out of memory\|Search not completed' output && [ -z "${2:-}" ]; then
    echo "check.sh: the search is not complete" >&2
    exit 1
fi
errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' output)
if [ -z "${2:-}" ]; then
    [ "$errors" = 0 ]
else
    grep -q 'assertion violated' output && [ "$errors" -gt 0 ]
fi
