#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check.sh WORKDIR CLANG FILE [PAGE] [SOURCE BREAK]
#
# Proves what tests/proofs/FILE.c says, with pages of PAGE bytes. With SOURCE, a file of the
# library, and BREAK, a sed command, the proof is of the library with that change, and must fail.
set -eu

if [ $# -lt 3 ] || [ $# -gt 6 ]; then
    echo "usage: check.sh WORKDIR CLANG FILE [PAGE] [SOURCE BREAK]" >&2
    exit 2
fi
proofs=$(cd "$(dirname "$0")" && pwd)
root=${proofs%/tests/proofs}
work=$1
clang=$2
file=$3
page=${4:-4096}
break=${6:-}

rm -rf "$work"
mkdir -p "$work"
if [ -n "$break" ]; then
    cp -R "$root/include" "$root/src" "$work"
    sed -i "$break" "$work/$5"
    if cmp -s "$root/$5" "$work/$5"; then
        echo "check.sh: $5 has nothing for $break" >&2
        exit 1
    fi
    root=$work
fi
"$clang" -std=gnu11 -D_GNU_SOURCE -DPAGE="$page" -O2 -fno-vectorize -fno-slp-vectorize \
    -mllvm -inline-threshold=100000 -I"$root/include" -I"$root/src" -I"$proofs" -S -emit-llvm \
    -o "$work/$file.ll" "$proofs/$file.c"
ended=0
python3 "$proofs/prove.py" "$work/$file.ll" || ended=$?
if [ -z "$break" ]; then
    exit "$ended"
fi
[ "$ended" = 3 ]
