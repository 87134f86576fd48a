#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fetch-check.sh DIR
#
# Downloads libcheck's source, from Debian's source package, to DIR/check, unless it is there.
set -eu
export LC_ALL=C

dir=$1
if [ -d "$dir/check" ]; then
    exit 0
fi
. "$(dirname "$0")/../foreign-apt.sh"

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

echo "fetching Debian's source package check"
foreign_apt "$tmp" deb-src "$(dpkg --print-architecture)"
# Debian's patches are left out: they change only documentation and packaging.
(cd "$tmp" && apt-get -qq --download-only source check && mkdir check &&
    tar -xf check_*.orig.tar.* -C check --strip-components 1)
mv "$tmp/check" "$dir/check"
