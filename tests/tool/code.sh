#!/bin/sh
# SPDX-License-Identifier: MIT
# The line about a fault names the thread, and the code as addr2line takes it. Of a long path it has
# the end.
#
# usage: code.sh PKEYGUARD PROGRAM WORK
#
# PROGRAM is of stray.c, with debugging information.
set -eu
export LC_ALL=C

pkeyguard=$1
program=$2
work=$3

# Prints the path and the offset at the end of the line about the program's fault.
code_of() {
    "$pkeyguard" run "$1" 2>&1 > /dev/null |
        sed -nE "s/^libpkeyguard: .*\) in thread [1-9][0-9]* 'stray' at (.*) \+ (0x[0-9a-f]+)$/\1 \2/p"
}

code=$(code_of "$program")
echo "$code"
test "${code% *}" = "$program"
addr2line -f -e "${code% *}" "${code#* }" > "$work/line"
cat "$work/line"
head -n 1 "$work/line" | grep -qx main
line=$(grep -n 'unsafe_address(region))\[16\] = 1' "$(dirname "$0")/stray.c" | cut -d : -f 1)
grep -q "stray.c:$line\b" "$work/line"

long=$work/$(printf '%0100d/%0100d' 1 2)
mkdir -p "$long"
cp "$program" "$long/stray"
code=$(code_of "$long/stray")
test "${code% *}" = "$(echo "$long/stray" | tail -c 128)"
