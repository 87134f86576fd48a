#!/bin/sh
# SPDX-License-Identifier: MIT
# The library's ABI against the recorded one: functions may be added; nothing else may change while
# the soname stands. A release records its own, under its version.
#
# usage: abi.sh check|record SOURCE LIBRARY
#   LIBRARY  with debugging information
set -eu

command=$1
source=$2
library=$3
version=$(sed -n 's/^#define PKEYGUARD_VERSION_\(MAJOR\|MINOR\) *//p' "$source/include/pkeyguard.h" | paste -sd .)
recorded=$source/tests/abi/$version.abi

case $command in
record)
    abidw --no-corpus-path --no-comp-dir-path --out-file "$recorded" "$library"
    ;;
check)
    # What is not in the headers may change.
    abidiff --headers-dir1 "$source/include" --headers-dir2 "$source/include" --no-added-syms \
        "$recorded" "$library"
    ;;
esac
