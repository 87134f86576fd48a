#!/bin/sh
# SPDX-License-Identifier: MIT
# Compares the library's ABI with the recorded one. While the soname is the same, functions may be
# added, and nothing else may change. Each release records its ABI under its version.
#
# usage: abi.sh check|record SOURCE LIBRARY
#   LIBRARY  must have debugging information
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
    # Types that are not in the headers may change.
    abidiff --headers-dir1 "$source/include" --headers-dir2 "$source/include" --no-added-syms \
        "$recorded" "$library"
    ;;
esac
