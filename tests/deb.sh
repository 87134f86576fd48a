#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks the Debian packages: lintian accepts them, and they install, upgrade and purge in a tree.
#
# usage: deb.sh BUILD WORK CONSUMERS    makes them of BUILD; CONSUMERS has programs that use them
set -eu
export LC_ALL=C

build=$1
work=$2
consumers=$3
rm -rf "$work"
mkdir -p "$work"
cmake -DCMAKE_INSTALL_PREFIX=/usr "$build"
cmake --build "$build"
(cd "$build" && cpack -B "$work")
cd "$work"
rm -rf _CPack_Packages
test "$(for deb in *.deb; do dpkg-deb -f "$deb" Package; done | paste -sd ' ')" = \
    'libpkeyguard-dev libpkeyguard0.2 pkeyguard-tools'
test "$(dpkg-deb -f libpkeyguard0.2_*.deb Depends | grep -c 'libc6 (>= ')" = 1
for package in libpkeyguard-dev pkeyguard-tools; do
    dpkg-deb -f "$package"_*.deb Depends | grep -q 'libpkeyguard0.2 (= '
done
test "$(dpkg-deb -c libpkeyguard-dev_*.deb | grep -c '/usr/share/man/man3/pkeyguard_acquire\.3\.gz$')" = 1

# The history is in git, so there is no changelog. CPack's maintainer scripts call ldconfig.
# manual.sh checks the manual pages.
lintian --allow-root --fail-on error,warning -X documentation/manual \
    --suppress-tags no-changelog,maintscript-calls-ldconfig ./*.deb

# The tree has dpkg's own records only, so the packages' dependencies are not installed in it.
tree=$work/tree
mkdir -p "$tree/var/lib/dpkg/info" "$tree/var/lib/dpkg/updates" "$tree/var/lib/dpkg/triggers"
touch "$tree/var/lib/dpkg/status"
in_tree() {
    dpkg --root="$tree" --force-not-root --force-depends --force-script-chrootless \
        --log=/dev/null "$@"
}
libdir=$(dirname "$(dpkg-deb -c libpkeyguard0.2_*.deb | sed -n 's|.* \./\(usr/lib/.*so\.0\.2\) ->.*|\1|p')")
in_tree -i ./*.deb
LD_LIBRARY_PATH=$tree/$libdir "$tree/usr/bin/pkeyguard" --version
LD_LIBRARY_PATH=$tree/$libdir "$tree/usr/bin/pkeyguard" run true
gcc -I"$tree/usr/include" -o consumer "$consumers/consumer.c" -L"$tree/$libdir" -lpkeyguard
LD_LIBRARY_PATH=$tree/$libdir ./consumer
g++ -I"$tree/usr/include" -o handles "$consumers/handles.cpp" -L"$tree/$libdir" -lpkeyguard
LD_LIBRARY_PATH=$tree/$libdir ./handles

# A later version of each package replaces it.
mkdir later
for deb in *.deb; do
    dpkg-deb -R "$deb" later/files
    sed -i 's/^Version: .*/&+later/; s/(= \([^)]*\))/(= \1+later)/' later/files/DEBIAN/control
    dpkg-deb --root-owner-group -Znone -b later/files "later/$deb"
    rm -rf later/files
done
in_tree -i later/*.deb
dpkg-query --root="$tree" -W -f '${Version}\n' libpkeyguard0.2 | grep -q '+later$'

in_tree --purge pkeyguard-tools libpkeyguard-dev libpkeyguard0.2
test -z "$(find "$tree/usr" ! -type d 2> /dev/null)"
