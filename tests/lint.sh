#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs one static analysis of the library, the command and the examples; or checks the format of
# everything; or that the includes between the folders of src/ point down only.
#
# usage: lint.sh clang-tidy|cppcheck|analyzer|format|layers SOURCE
set -eu
export LC_ALL=C

check=$1
cd "$2"

# The options with which CMake compiles these files. The last three are names of files that the
# pkeyguard command uses.
set -- -std=gnu11 -O2 -D_GNU_SOURCE -fexceptions "-I$PWD/include" "-I$PWD/src" \
    '-DPKEYGUARD_SONAME="libpkeyguard.so.0.2"' '-DPKEYGUARD_REPORTER="libpkeyguard/reporter.so"' \
    '-DPKEYGUARD_GUEST_INIT="libpkeyguard/guest-init"'

# each COUNT COMMAND...: runs the command on every processor, with up to COUNT sources at a time.
each() {
    printf '%s\n' src/*.c src/*/*.c examples/*.c | xargs -P "$(nproc)" -n "$@"
}

case $check in
clang-tidy)
    # Without its analyzer, which takes most of the time: gcc's looks for the same.
    work=$(mktemp -d)
    trap 'rm -r "$work"' EXIT
    printf '%s\n' "$@" > "$work/compile_flags.txt"
    each 13 clang-tidy --quiet '--checks=-clang-analyzer-*' -p "$work"
    ;;
cppcheck)
    cppcheck --quiet -j "$(nproc)" --enable=warning,performance,portability --inconclusive \
        --std=c11 --suppressions-list=.cppcheck --suppress=missingIncludeSystem --error-exitcode=1 \
        -D__x86_64__ -D_GNU_SOURCE -Iinclude -Isrc src examples
    ;;
analyzer)
    each 1 gcc "$@" -fanalyzer -Werror -c -o /dev/null
    ;;
format)
    find include src tests examples \( -name '*.[ch]' -o -name '*.[ch]pp' \) \
        -exec clang-format --dry-run -Werror '{}' +
    ;;
layers)
    # From the top down. A file directly in src/ may include any folder.
    wrong=$(grep -rn '^#include "[a-z_]*/' --include='*.[ch]' src | awk -F'"' '
        BEGIN {
            floors = split("heap thread fault guard region key pkey pkru base", folder, " ")
            for (i = 1; i <= floors; i++)
                floor[folder[i]] = i
        }
        {
            split($1, path, "/")
            split($2, included, "/")
            from = path[2]
            if (from in floor && included[1] in floor && floor[included[1]] < floor[from])
                print
        }')
    [ -z "$wrong" ] || { echo "an include points up: $wrong" >&2 && exit 1; }
    ;;
esac
