#!/bin/sh
# Builds and runs programs against the library in the ways that its users do.
#
# usage: run.sh install BUILD WORK          installs BUILD into a prefix under WORK and moves it
#        run.sh find_package WORK           uses the moved prefix, by CMake
#        run.sh pkg-config WORK             uses it by pkg-config
#        run.sh plain WORK                  uses it by -I and -L
#        run.sh meson WORK                  uses it by Meson
#        run.sh autotools WORK              uses it by Autoconf and Automake
#        run.sh add_subdirectory WORK       uses the source tree
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)

configure_and_build() {
    rm -rf "${work:?}/$1"
    cmake -S "$here" -B "$work/$1" "$2"
    cmake --build "$work/$1"
}

if [ "$1" = install ]; then
    rm -rf "$3"
    mkdir -p "$3"
    cmake --install "$2" --prefix "$3/first"
    mv "$3/first" "$3/moved"
    cd "$3/moved"
    # The library exports exactly the public names. No file has the path of the first prefix.
    nm -D --defined-only "$(find . -name 'libpkeyguard.so.0.2')" | sed -n 's/.* T \(.*\)@@.*/\1/p' |
        sort > ../exported
    sed -n 's/^ *\(pkeyguard_[a-z_]*\);$/\1/p' "$source/src/pkeyguard.map" | sort > ../expected
    diff ../expected ../exported
    if grep -rl -e "$3/first" .; then
        echo "run.sh: these files have the path of the first prefix" >&2
        exit 1
    fi
    bin/pkeyguard run true
    exit 0
fi

work=$2
prefix=$work/moved
libdir=
if [ -d "$prefix" ]; then
    libdir=$(dirname "$(find "$prefix" -name libpkeyguard.a)")
fi

case $1 in
find_package)
    configure_and_build find_package "-DCMAKE_PREFIX_PATH=$prefix"
    ;;
pkg-config)
    rm -rf "$work/pkg-config"
    mkdir "$work/pkg-config"
    PKG_CONFIG_PATH=$libdir/pkgconfig make -C "$work/pkg-config" -f "$here/Makefile" SOURCE="$here"
    ;;
plain)
    for option in -O2 -masm=intel; do
        ${CC:-cc} $option -I"$prefix/include" -o "$work/plain" "$here/consumer.c" -L"$libdir" -lpkeyguard
        LD_LIBRARY_PATH=$libdir "$work/plain"
    done
    ;;
meson | autotools)
    rm -rf "$work/$1"
    cp -r "$here/$1" "$work/$1"
    cp "$here/consumer.c" "$here/consumer.cpp" "$work/$1"
    cd "$work/$1"
    export PKG_CONFIG_PATH="$libdir/pkgconfig" LD_LIBRARY_PATH="$libdir"
    if [ "$1" = meson ]; then
        meson setup build
        meson test -C build
    else
        autoreconf -i
        ./configure
        make check
    fi
    ;;
add_subdirectory)
    configure_and_build add_subdirectory "-DPKEYGUARD_SOURCE=$source"
    # In a parent project the library's tests are off. Of the library only what the project's
    # programs load is installed.
    (cd "$work/add_subdirectory" && ctest -N) | grep 'Total Tests: 0'
    prefix=$work/parent
    rm -rf "$prefix"
    cmake --install "$work/add_subdirectory" --prefix "$prefix"
    find "$prefix" ! -type d -printf '%f\n' | sort > "$work/installed"
    printf '%s\n' consumer_c_pkeyguard libpkeyguard.so.0.2 libpkeyguard.so.0.2.0 |
        diff - "$work/installed"
    LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name '*.so.0.2')") "$prefix/bin/consumer_c_pkeyguard"
    ;;
*)
    echo "run.sh: unknown step $1" >&2
    exit 2
    ;;
esac
