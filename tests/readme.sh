#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles the first C example of the README, without a warning, and checks what it prints.
#
# usage: readme.sh README INCLUDE LIBRARY WORK
set -eu

mkdir -p "$4"
awk '/^```/ { if (inside) exit; inside = /^```c$/; next } inside' "$1" > "$4/readme.c"
${CC:-cc} -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$2" -o "$4/readme" "$4/readme.c" "$3"
test "$("$4/readme")" = 123
