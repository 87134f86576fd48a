#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints what the benchmark programs count in the guest, and fails where a target is missed.
#
# usage: instructions.sh GUEST PROGRAM...
#   GUEST  a directory that has vmlinuz and init, see ../guest/boot.sh
set -eu

scripts=$(cd "$(dirname "$0")/../guest" && pwd)
guest=$1
shift
work=$guest/icount
mkdir -p "$work"
ln -sf "$guest/vmlinuz" "$guest/init" "$work"

for program in "$@"; do
    printf '%s\t120\t-\t%s instructions\n' "${program##*/}" "$program"
done > "$work/jobs"
GUEST_ICOUNT=1 sh "$scripts/boot.sh" "$work" "$work/jobs"
status=0
for program in "$@"; do
    sh "$scripts/result.sh" "$work" "${program##*/}" || status=1
done
exit "$status"
