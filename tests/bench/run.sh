#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the packages that are missing, builds the benchmarks and runs them. Stdout is the content
# of RESULTS.md. Fails if an instruction count or a memory size misses its target.
set -eu

cd "$(dirname "$0")/../.."
. tests/packages.sh
guest=$PWD/.build/bench/guest

{
    need_packages gcc clang libc6-dev make cmake pkg-config check libpcl1-dev libsodium-dev \
        libjemalloc-dev libssl-dev qemu-system-x86 cpio
    echo "== building into .build/bench"
    cmake -S . -B .build/bench -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O2 \
        -DPKEYGUARD_NATIVE_TESTS_ONLY=ON
    cmake --build .build/bench --target benches --parallel "$(nproc)"
    sh tests/guest/fetch-kernel.sh "$guest"
    cc -O2 -static -o "$guest/init" tests/guest/init.c
    echo "== measuring"
} >&2

built=$PWD/.build/bench/tests/bench
programs=$(ls "$built"/bench_*)
status=0
if grep -qw ospke /proc/cpuinfo; then pku="with PKU"; else pku="without PKU"; fi

cat << END
# What libpkeyguard costs

\`sh tests/bench/run.sh\` prints this file. To measure again:

    sh tests/bench/run.sh > tests/bench/RESULTS.md

A row in bold type begins a group and gives its unit. "× X (n)" means that the costs are multiples
of X, which itself costs n. A target is the most that the operation may cost. "Wiped" means that the
object is overwritten before it is freed, as the heap does.

- machine: $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -n 1), $pku, Linux $(uname -r)
- emulator: QEMU $(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p'), Linux 6.12
- compiler: gcc $(cc -dumpfullversion) -O2
- compared with: glibc $(ldd --version | sed -n '1s/.* //p'), libsodium $(pkg-config --modversion libsodium), jemalloc $(pkg-config --modversion jemalloc | sed 's/_.*//'),
  OpenSSL $(pkg-config --modversion libcrypto)

## Instructions and memory

Instructions are those that one operation executes, the kernel's included. Where the unit is
instructions, those of the access inside the scope are subtracted. The emulator counts them
(-icount), so a second run gives the same numbers; only those of libsodium and the means of many
uses differ, by up to 2 %. Instructions are not time: \`WRPKRU\` counts as one but takes longer than
most, and each round of a \`rep\` instruction counts as one. The cost of \`mprotect\` also depends on
which mappings are next to the pages. The column \`WRPKRU\` says how many of the instructions are that
one.

A use of a virtual key is a hit if the key has a pkey already. Where hits and misses are mixed, the
cost is the mean of 2,000 uses, with the timer's interrupts.

The costs of a signature and a TLS handshake are means of 400 and of 40, because OpenSSL draws random
numbers. Client and server are in one thread and exchange messages in memory. A key that is not
guarded takes the same way through OpenSSL, but lies in malloc's memory.

Memory is anonymous memory, with the allocator's own records.

| operation | cost | \`WRPKRU\` | target |
|---|---:|---:|---:|
END
# shellcheck disable=SC2086 # a list of paths without blanks
sh tests/bench/guest.sh "$guest" instructions $programs || status=1

cat << END

## Time

Each cost is the median of 2,000 ratios between batches that took turns. These targets are not
checked: times vary from machine to machine. A heap without the words "mprotect enforcement" has a key that PKU enforces; on a machine
without PKU nothing enforces it, and only the heap's own work is measured.

| operation | cost | target |
|---|---:|---:|
END
for program in $programs; do
    case $program in
    *_scaling) ;;
    *) "$program" times ;;
    esac
done

cat << END

## Time on two emulated CPUs

Here each CPU is a thread of QEMU, which needs a real CPU for itself. Each cost is the ratio of the
lowest of 100 times. These targets are not checked either.

| operation | cost | target |
|---|---:|---:|
END
sh tests/bench/guest.sh "$guest" times "$built/bench_scaling" || status=1
exit "$status"
