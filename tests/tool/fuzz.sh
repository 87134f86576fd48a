#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs libFuzzer on scan's reader of ELF files. The corpus is /bin/true: whole, cut off, and with
# bytes changed. The seed is fixed, so each run tries the same inputs.
#
# usage: fuzz.sh SOURCE WORK CLANG [RUNS]
set -eu
export LC_ALL=C

source=$1
work=$2
clang=$3
runs=${4:-10000}
rm -rf "$work"
mkdir -p "$work/corpus"
cd "$work"

"$clang" -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -D_GNU_SOURCE \
    -I"$source/src/tool" -o fuzz "$source/tests/tool/fuzz_sites.c" "$source/src/tool/sites.c" \
    "$source/src/tool/patterns.c" "$source/src/tool/x86.c" -lelf

cp /bin/true corpus/whole
size=$(wc -c < corpus/whole)
for length in 0 4 16 63 64 120 512 4096 $((size / 2)) $((size - 1)); do
    head -c "$length" corpus/whole > "corpus/cut-$length"
done
# Sets each field of the ELF header and of the first program headers to its largest value.
for offset in $(seq 4 2 176); do
    cp corpus/whole "corpus/changed-$offset"
    printf '\377\377' | dd of="corpus/changed-$offset" bs=1 seek="$offset" conv=notrunc status=none
done
./fuzz -seed=1 -runs="$runs" -max_total_time=60 -timeout=20 -rss_limit_mb=1024 -max_len="$size" \
    -print_final_stats=1 corpus > log 2>&1 || {
    tail -n 60 log
    exit 1
}
tail -n 8 log
