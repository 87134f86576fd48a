#!/bin/sh
# SPDX-License-Identifier: MIT
# One static analysis of the library, the command and the examples, or the format of everything.
#
# usage: lint.sh clang-tidy|cppcheck|analyzer|format SOURCE
set -eu
export LC_ALL=C

check=$1
cd "$2"

# As cmake compiles them; the pkeyguard command is told the names of two files.
set -- -std=gnu11 -O2 -D_GNU_SOURCE -fexceptions -Iinclude -Isrc \
    '-DPKEYGUARD_SONAME="libpkeyguard.so.0"' '-DPKEYGUARD_REPORTER="libpkeyguard/reporter.so"'

# each COMMAND...: with every source in turn at {}, as many at once as there are processors.
each() {
    printf '%s\n' src/*.c src/*/*.c examples/*.c | xargs -P "$(nproc)" -I '{}' "$@"
}

case $check in
clang-tidy)
    each clang-tidy --quiet '{}' -- "$@"
    ;;
cppcheck)
    cppcheck --quiet -j "$(nproc)" --enable=warning,performance,portability --inconclusive \
        --std=c11 --suppressions-list=.cppcheck --suppress=missingIncludeSystem --error-exitcode=1 \
        -D__x86_64__ -D_GNU_SOURCE -Iinclude -Isrc src examples
    ;;
analyzer)
    each gcc "$@" -fanalyzer -Werror -c -o /dev/null '{}'
    ;;
format)
    find include src tests examples \( -name '*.[ch]' -o -name '*.cpp' \) \
        -exec clang-format --dry-run -Werror '{}' +
    ;;
esac
