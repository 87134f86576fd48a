#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks the manual pages: there is one for each public function and macro, mandoc and groff have
# nothing to say about them or the command's, and a page shows what the header says. A comment that
# is not as the script that makes them wants it is an error.
#
# usage: manual.sh SOURCE PAGES WORK
set -eu
export LC_ALL=C

source=$1
pages=$2
work=$3
rm -rf "$work"
mkdir -p "$work/man3"

# What is exported for the code of the headers alone has no page.
functions=$(sed -n 's/^ *\(pkeyguard_[a-z_]*\);$/\1/p' "$source/src/pkeyguard.map" |
    grep -vE '^pkeyguard_(checked|kept)_')
macros=$(for header in "$source/include/pkeyguard.h" "$source"/include/pkeyguard/*.h; do
    sed '/^\/\* ---- /,$d' "$header"
done | sed -n 's/^#define \([A-Za-z_]*\).*/\1/p' | grep -vE '_$|_H$|^PKEYGUARD_INLINE$' | sort -u)
test "$(echo "$functions" | wc -l)" -ge 60
test "$(echo "$macros" | wc -l)" -ge 30
for name in $functions $macros; do
    [ -f "$pages/$name.3" ] || { echo "$name has no manual page" >&2 && exit 1; }
done
for header in analysis fault guard heap key pkru platform region thread; do
    test -f "$pages/pkeyguard_$header.h.3"
done

# Links to other pages are files with one line; mandoc would rather have symbolic links.
cd "$pages/.."
links=$(grep -l '^\.so ' man3/*)
for link in $links; do
    test -f "$(sed -n 's/^\.so //p' "$link")"
done
pages_with_text=$(grep -L '^\.so ' man3/*)
# shellcheck disable=SC2086 # a list of files
set -- $pages_with_text "$source/src/tool/pkeyguard.1"
said=$(mandoc -T lint -W warning "$@" 2>&1; groff -man -ww -z "$@" 2>&1)
[ -z "$said" ] || { echo "$said" >&2 && exit 1; }

# rendered FILE...: as on a terminal that is 80 characters wide
rendered() {
    mandoc -T ascii -O width=78 "$@" | sed "s/.$(printf '\b')//g"
}
# The first line of a page has its name twice.
# shellcheck disable=SC2086 # a list of files
too_wide=$(rendered $pages_with_text | grep -E '^.{81}' | grep -v '([3]).*([3])$' || true)
[ -z "$too_wide" ] || { echo "too wide for a terminal: $too_wide" >&2 && exit 1; }

text=$(rendered man3/pkeyguard_acquire.3)
test "$(echo "$text" | grep '^[A-Z]' | paste -sd ,)" = \
    'NAME,LIBRARY,SYNOPSIS,DESCRIPTION,RETURN VALUE,ERRORS,ATTRIBUTES,HISTORY,SEE ALSO'
test "$(echo "$text" | grep -oE '^ {5,7}-E[A-Z]+(, -E[A-Z]+)*' | paste -sd ' ' | tr -s ' ')" = \
    ' -EINVAL -ENOMEM, -EACCES -EDEADLK -EBUSY -EAGAIN -ENOSPC'
echo "$text" | grep -q '^ *pkeyguard_acquire - open a region with at least these rights$'
echo "$text" | grep -q '^ *int pkeyguard_acquire(struct pkeyguard_region \*region,$'
echo "$text" | grep -q 'pkeyguard_guard.h(3)'
grep -qF '\-EINVAL' man3/pkeyguard_acquire.3 # a minus sign, which can be searched for and copied
rendered man3/pkeyguard_region_create.3 | grep -q '^ *PKEYGUARD_REGION_END_ALIGNED$'
rendered man3/pkeyguard_region_name.3 | grep -qF ' not [ ] \ $ or `,'
rendered man3/pkeyguard_fault_decode.3 | grep -q '^ *char region_name\[64\]$'
text=$(rendered man3/pkeyguard_scoped_read.3)
echo "$text" | grep -q '^ *pkeyguard_scoped_read(T, name, region) { \.\.\. }$'
echo "$text" | grep -q '^ *The scopes$'

# refuses EXPRESSION MESSAGE: with guard.h as sed's expression changes it, the script that makes the
# pages fails with this message.
cp -R "$source/include" "$work"
cd "$source/src/reference"
refuses() {
    sed "$1" "$source/include/pkeyguard/guard.h" > "$work/include/pkeyguard/guard.h"
    if said=$(awk -v directory="$work/man3" -v date=2026-01-01 -v version=0 -f comments.awk \
        -f blocks.awk -f declarations.awk -f roff.awk -f man.awk \
        "$work/include/pkeyguard.h" "$work"/include/pkeyguard/*.h 2>&1) ||
        ! echo "$said" | grep -q "$2"; then
        echo "not refused with '$2': $said" >&2
        exit 1
    fi
}
refuses 's/ pkeyguard_acquire - / /' 'the comment of pkeyguard_acquire does not begin with'
refuses 's/^ \*    nor on a stack/ * nor on a stack/' 'this line must be indented.*nor on a stack'
refuses 's/Since 0\.2\./Soon./' 'pkeyguard_acquire_timed.* since which version'
refuses 's/See pkeyguard_restrict()/See pkeyguard_narrow()/' 'there is no pkeyguard_narrow()'
