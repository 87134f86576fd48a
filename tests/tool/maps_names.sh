#!/bin/sh
# SPDX-License-Identifier: MIT
# "pkeyguard maps" shows the name of a region, or says that the kernel keeps no names.
#
# usage: maps_names.sh KEYED PKEYGUARD    KEYED: keyed.c's program
set -eu

text=$("$1" "$2" maps)
if echo "$text" | head -n 1 | grep -q '"named":true'; then
    echo "$text" | grep -q '\[anon:vault\]$'
    ! echo "$text" | grep -q 'have no names'
else
    echo "$text" | tail -n 1 | grep -q '^Regions have no names here: .*CONFIG_ANON_VMA_NAME'
fi
