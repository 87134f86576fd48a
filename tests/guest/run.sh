#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh JOB
#
# Runs one job of the guest alone, such as guest/region or guest-6.1/region, after tests/run.sh has
# built the tests. The output and the exit status are the job's. Unlike boot.sh's guests this one has
# no huge pages set aside, so the suite region leaves out what needs them.
set -eu

cd "$(dirname "$0")/../.."
case ${1:-} in
guest/* | guest-mprotect/* | guest-protected/*) kernel=6.12 ;;
guest-6.1/*) kernel=6.1 ;;
*)
    echo "usage: run.sh guest/SUITE | guest-6.1/SUITE | guest-mprotect/SUITE | guest-protected/SUITE" >&2
    exit 2
    ;;
esac
build=$PWD/.build/tests
sh tests/guest/fetch-kernel.sh "$build/guest/$kernel" "$kernel"
tab=$(printf '\t')
job=$(grep -h "^$1$tab" "$build"/guest/*/jobs) || {
    echo "run.sh: $build/guest has no job $1" >&2
    exit 2
}
environment=$(echo "$job" | cut -f 3)
command=$(echo "$job" | cut -f 4)
# The files that the command names.
files=$(echo "$command" | tr ' ' '\n' | sed -n 's|^\([A-Z_]*=\)\{0,1\}/|--file /|p')
# shellcheck disable=SC2046,SC2086 # lists of words
exec env -i PATH="$PATH" HOME=/tmp TMPDIR=/tmp LC_ALL=C PKEYGUARD_TEST_GUEST=1 \
    ${environment#-} "$build/pkeyguard" guest --kernel "$build/guest/$kernel/vmlinuz" \
    --timeout "$(echo "$job" | cut -f 2)" --file "$build/libpkeyguard/reporter.so" \
    --file "$build/tests/tool/stray" $(printf -- '--file %s ' "$build"/tests/plugin_*) \
    $files $command
