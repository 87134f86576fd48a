#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fetch-kernel.sh DIR [VERSION [ARCHITECTURE]]
#
# Downloads Debian 12's newest cloud kernel of VERSION, 6.12 or 6.1 (6.12), for ARCHITECTURE (amd64)
# to DIR/vmlinuz, unless a kernel is there. Installs nothing.
set -eu
export LC_ALL=C

if [ $# -lt 1 ]; then
    echo "usage: fetch-kernel.sh DIR [VERSION [ARCHITECTURE]]" >&2
    exit 1
fi
dir=$1
version=${2:-6.12}
architecture=${3:-amd64}
kernel=$dir/vmlinuz
. "$(dirname "$0")/../foreign-apt.sh"

if [ -s "$kernel" ]; then
    exit 0
fi

fail() {
    echo "fetch-kernel.sh: $1; $2, or put a Linux $version for $architecture at $kernel" >&2
    exit 1
}

# Prints the name of the newest kernel's package, or nothing if the package lists do not have it.
newest_package() {
    apt-cache pkgnames "linux-image-$version." |
        grep -E -- "^linux-image-[0-9.]+(-[0-9]+|\+deb[0-9]+)-cloud-$architecture\$" | sort -V | tail -n 1
}

for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || fail "there is no $tool" "run this on Debian"
done

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

if [ "$architecture" != "$(dpkg --print-architecture)" ]; then
    foreign_apt "$tmp" deb "$architecture" ||
        fail "apt-get update for $architecture failed" "check the network"
fi

# As root, apt downloads as the user _apt, which cannot write here: the option prevents that. For
# other users it has no effect.
download() {
    package=$(newest_package)
    [ -n "$package" ] && echo "fetching Debian's package $package" &&
        error=$(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package" 2>&1)
}

# The package lists may be missing, or so old that they name a kernel which Debian no longer has.
error="apt does not know a package linux-image-$version.*-cloud-$architecture"
if ! download; then
    update=$(apt-get -qq update 2>&1) || fail "apt-get update: $update" "run it as root"
    download || fail "cannot download a kernel: $error" "check the network and apt's sources"
fi

dpkg-deb --fsys-tarfile "$tmp"/*.deb |
    tar -xO --occurrence --wildcards './boot/vmlinuz-*' >"$tmp/vmlinuz" ||
    fail "there is no kernel in $package" "run apt-get update and try again"
mv "$tmp/vmlinuz" "$kernel"
