#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks what "pkeyguard maps --check --json" finds before and after a region's pages were changed.
# It knows regions by their pkeys.
#
# usage: maps_check.sh pku|mprotect COMMAND...
#
# COMMAND is changed.c's program, which runs "pkeyguard maps --check --json", or prints what that
# wrote.
set -eu

enforcement=$1
shift
documents=$("$@")

if [ "$enforcement" = pku ]; then
    # shellcheck disable=SC2016 # jq's variables
    expected='$after == [[$pages.replaced, 0, "rw-p"], [$pages.narrowed, 1, "r--p"]] and $status == 1'
else
    # shellcheck disable=SC2016
    expected='$after == [] and $status == 0'
fi
# shellcheck disable=SC2016
if ! echo "$documents" | jq -se '. as [$pages, $before, $status_before, $found, $status] |
        ($found | map([.start, (if .key == 0 then 0 else 1 end), .rights])) as $after |
        $before == [] and $status_before == 0 and '"$expected" > /dev/null; then
    echo "$documents"
    exit 1
fi
