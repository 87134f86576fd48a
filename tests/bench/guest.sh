#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs benchmark programs in the guest and prints their rows. Fails if a target is missed.
#
# usage: guest.sh GUEST MODE PROGRAM...
#   GUEST  a directory with vmlinuz and init, see ../guest/boot.sh
#   MODE   instructions, targets: on one processor, whose clock counts instructions; times: on two
set -eu

scripts=$(cd "$(dirname "$0")/../guest" && pwd)
guest=$1
mode=$2
shift 2
work=$guest/$mode
mkdir -p "$work"
ln -sf "$guest/vmlinuz" "$guest/init" "$work"

# Huge pages only where a program asks for them: others would count as memory of the heap.
export GUEST_OPTIONS=transparent_hugepage=madvise GUEST_FAST=0

case $mode in
instructions | targets)
    export GUEST_ICOUNT=1
    arguments=$mode
    ;;
times)
    arguments='times 100'
    ;;
esac
for program in "$@"; do
    printf '%s\t120\t-\t%s %s\n' "${program##*/}" "$program" "$arguments"
done > "$work/jobs"
sh "$scripts/boot.sh" "$work" "$work/jobs"
status=0
for program in "$@"; do
    sh "$scripts/result.sh" "$work" "${program##*/}" || status=1
done
exit "$status"
