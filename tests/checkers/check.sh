#!/bin/sh
# SPDX-License-Identifier: MIT
# A memory checker reports each mistake of mistakes.c, with the function that makes it, and nothing
# in correct.c.
#
# usage: check.sh asan|valgrind SOURCE LIBRARY WORK COMPILER
#   asan      with AddressSanitizer
#   valgrind  under valgrind's memcheck
#   SOURCE    the top of the source tree
#   LIBRARY   the shared library, or a static one that is compiled with AddressSanitizer, too
set -eu

here=$(cd "$(dirname "$0")" && pwd)
checker=$1
source=$2
library=$3
work=$4
compiler=$5
unset PKEYGUARD_MEMORY_CHECKER

# Each mistake: what is reported, and how valgrind describes the address. Of a freed object it shows
# where it was freed and allocated, of another one where it was allocated. "-": it does not say.
mistakes="\
write_past_small        write  0 bytes after a block of size 32 alloc'd
write_past_in_one_scope write  0 bytes after a block of size 32 alloc'd
write_past_odd          write  0 bytes after a block of size 13 alloc'd
write_past_large        write  0 bytes after a block of size 8,192 alloc'd
write_past_aligned      write  0 bytes after a block of size 64 alloc'd
write_past_shrunk       write  0 bytes after a block of size 60 alloc'd
read_past_in_read_scope read   0 bytes after a block of size 32 alloc'd
read_before             read   -
read_unused             read   -
read_freed              read   31 bytes inside a block of size 32 free'd
read_freed_large        read   0 bytes inside a block of size 8,192 free'd
read_moved              read   0 bytes inside a block of size 32 free'd
free_twice              free   0 bytes inside a block of size 32 free'd
resize_freed            free   0 bytes inside a block of size 32 free'd"

fail() {
    cat "$work/said"
    echo "check.sh: $1" >&2
    exit 1
}

# run STATUS PROGRAM...: runs it with the checker, which makes the status 99 if it reports anything.
run() {
    expected=$1
    shift
    status=0
    case $checker in
    asan) ASAN_OPTIONS=exitcode=99 "$@" > said 2>&1 || status=$? ;;
    valgrind)
        valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite "$@" \
            > said 2>&1 || status=$?
        ;;
    esac
    [ $status = "$expected" ] || fail "$*: status $status instead of $expected"
}

# The innermost function is the one that makes the mistake; it may call the library's.
check_asan() {
    run 99 ./mistakes "$1"
    case $2 in
    read) pattern="READ of size 1 .* #0 [^ ]* in $1 " ;;
    write) pattern="WRITE of size 1 .* #0 [^ ]* in $1 " ;;
    free) pattern="libpkeyguard: double free: .* in $1 " ;;
    esac
    tr '\n' ' ' < said | grep -q "$pattern" || fail "$1: not reported: $pattern"
    grep -q 'ERROR: AddressSanitizer: use-after-poison' said || fail "$1: another error"
}

# In `reports` each report is one line.
check_valgrind() {
    maker=" $1 (mistakes.c:"
    case $2 in
    free) pattern="Invalid free() .*$maker" ;;
    *) pattern="Invalid $2 of size 1 at [^ ]*$maker" ;;
    esac
    case $3 in
    *"free'd") pattern="$pattern.* $3 .*$maker.* Block was alloc'd .*$maker" ;;
    *"alloc'd") pattern="$pattern.* $3 .*$maker" ;;
    esac
    grep -q "$pattern" reports || fail "$1: not reported: $pattern"
}

options="-g -O1 -D_GNU_SOURCE -pthread -I$source/include"
[ "$checker" = valgrind ] || options="$options -fsanitize=address"
case $library in
*.a) options="$options,undefined" ;; # as the library
esac
rm -rf "$work"
mkdir -p "$work"
cd "$work"
for program in mistakes correct; do
    # shellcheck disable=SC2086 # a list of options
    "$compiler" $options -o $program "$here/$program.c" "$library" -Wl,-rpath,"$(dirname "$library")"
done

run 0 ./correct
[ ! -s said ] || fail "correct: a report"

# Valgrind goes on after a mistake, and is slow to start.
if [ "$checker" = valgrind ]; then
    # shellcheck disable=SC2046 # a list of names
    run 99 ./mistakes $(echo "$mistakes" | sed 's/ .*//')
    sed 's/^==[0-9]*== *//' said |
        awk 'BEGIN { RS = ""; FS = "\n"; OFS = " " } { $1 = $1; print }' > reports
    [ "$(wc -l < reports)" = "$(echo "$mistakes" | wc -l)" ] || fail "not one report a mistake"
fi
echo "$mistakes" | while read -r mistake what where; do
    "check_$checker" "$mistake" "$what" "$where" < /dev/null
done
