#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks README.md: its first C block compiles as it stands, without a warning, and prints 123 and how
# the key is enforced, here and in a guest with protection keys; and each number in its cost table is
# in tests/bench/RESULTS.md.
#
# usage: readme.sh README INCLUDE LIBRARY WORK PKEYGUARD KERNEL
set -eu

mkdir -p "$4"
awk '/^```/ { if (inside) exit; inside = /^```c$/; next } inside' "$1" > "$4/readme.c"
${CC:-cc} -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$2" -o "$4/readme" "$4/readme.c" "$3"
printf 'enforced by mprotect\n123\n' > "$4/expected"
PKEYGUARD_ENFORCEMENT=mprotect "$4/readme" | cmp - "$4/expected"
printf 'enforced by protection keys\n123\n' > "$4/expected"
"$5" guest --kernel "$6" "$4/readme" | cmp - "$4/expected"

awk '/^## / { inside = /What it costs/ } inside && /^\|/' "$1" > "$4/costs"
test "$(wc -l < "$4/costs")" = 8 # six rows and the table's head
results=$(dirname "$1")/tests/bench/RESULTS.md
grep -oE '[0-9]+([.][0-9]+)?' "$4/costs" | sort -u > "$4/numbers"
while read -r number; do
    pattern=$(echo "$number" | sed 's/[.]/[.]/')
    if ! grep -qE "(^|[^0-9.])$pattern([^0-9.]|\$)" "$results"; then
        echo "README.md: $number is not in $results" >&2
        exit 1
    fi
done < "$4/numbers"
