#!/bin/sh
# SPDX-License-Identifier: MIT
#
# boot.sh WORKDIR JOBS [FILE...]
#
# Runs programs in an emulated machine, the guest, whose CPUs have protection keys, or in an aarch64
# guest. WORKDIR must contain vmlinuz (fetch-kernel.sh) and init (init.c, linked statically). The
# guest runs as many jobs at a time as it has processors.
#
# Each line of JOBS is a job: NAME, TIMEOUT in seconds, ENVIRONMENT and COMMAND, separated by tabs.
# ENVIRONMENT is a list of VAR=value words, or -. COMMAND is a list of words without quoting; the
# first is the absolute path of a program. The guest has the programs and every FILE, also an
# absolute path, at the same paths. It has the shared libraries that they need; an aarch64 guest has
# only those that are given as FILEs.
#
# boot.sh writes, for each job, WORKDIR/results/NAME.log: the job's stdout and stderr; and
# NAME.status: "exit N", "signal N", "timeout", or "lost" if the guest stopped during the job. It
# writes the guest's console, which tells how many seconds each job took, to WORKDIR/console.log. It
# succeeds if the guest has run all jobs, however they ended. result.sh shows the result of a job.
#
# Environment, with defaults in parentheses:
#
# GUEST_TIMEOUT  seconds for the whole boot (900)
# GUEST_MEMORY   MiB (1024)
# GUEST_CPUS     processors (2); only for x86_64
# GUEST_OPTIONS  further options of the kernel
# GUEST_FAST     0: a kernel with its defaults, for times and counts of its system calls (1)
# GUEST_CPU      x86_64 or aarch64 (x86_64); an aarch64 guest has one processor: several would
#                wait for each other whenever a fork changes page tables
# GUEST_ICOUNT   1: one processor whose clock counts instructions, one per nanosecond. A run can be
#                repeated exactly.
set -eu
export LC_ALL=C

fail() {
    echo "boot.sh: $*" >&2
    exit 1
}

if [ $# -lt 2 ]; then
    fail "usage: boot.sh WORKDIR JOBS [FILE...]"
fi
work=$1
jobs=$2
shift 2
limit=${GUEST_TIMEOUT:-900}
tab=$(printf '\t')

qemu=qemu-system-${GUEST_CPU:-x86_64}
command -v "$qemu" >/dev/null ||
    fail "there is no $qemu: install qemu-system-x86 and qemu-system-arm"
command -v cpio >/dev/null || fail "there is no cpio: install cpio"

rm -rf "$work/results" "$work/root" "$work/console.log" "$work"/output?
mkdir -p "$work/results" "$work/root"
touch "$work/output1" "$work/console.log"

# The initial file system.
programs=$(awk -F '\t' 'NF != 4 { exit 1 } { split($4, word, " "); print word[1] }' "$jobs") ||
    fail "$jobs: lines must be NAME, TIMEOUT, ENVIRONMENT and COMMAND, separated by tabs"
files=$(printf '%s\n' "$@" "$programs" | sort -u)
if echo "$files" | grep -v '^/' >&2; then
    fail "these are not absolute paths"
fi
# ldd fails for files that are no dynamic programs. That is fine.
needed=$(echo "$files" | xargs -d '\n' ldd 2>/dev/null) || :
if echo "$needed" | grep ' => not found' >&2; then
    fail "these libraries are missing"
fi
# The guest also needs libgcc_s, which pthread_cancel loads, and the loader's cache.
{
    echo "$files"
    echo "$needed" | sed -n 's|^[^/]*\(/.*\) (0x[0-9a-f]*)$|\1|p'
    PATH=$PATH:/usr/sbin:/sbin ldconfig -p | sed -n 's/.*libgcc_s\.so\.1 (libc6,x86-64) => //p'
    echo /etc/ld.so.cache
} | xargs -d '\n' realpath -s | sort -u | xargs -d '\n' cp -L --parents -t "$work/root" || fail "cannot copy all files"
cp "$work/init" "$work/root/init"
cp "$jobs" "$work/root/jobs"
(cd "$work/root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$work/initramfs"
rm -rf "$work/root"

# The boot.
token=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
options="console=ttyS0 quiet panic=-1 ${GUEST_OPTIONS:-}"
if [ "${GUEST_FAST:-1}" = 1 ]; then
    # Together these take a fifth of the time: what the kernel does for security and accounting,
    # page tables of five levels, and erms and fsrm, with which it copies bytes instead of words.
    options="$options mitigations=off lsm= init_on_alloc=0 cgroup_disable=memory"
    [ "$qemu" = qemu-system-aarch64 ] || options="$options nosmap no5lvl clearcpuid=erms,fsrm"
fi
if [ "${GUEST_ICOUNT:-0}" = 1 ]; then
    set -- -accel tcg -icount shift=0 -smp 1
    options="$options nokaslr norandmaps randomize_kstack_offset=off"
elif [ "$qemu" = qemu-system-aarch64 ]; then
    # By default the emulator computes pointer authentication as the CPU does, which takes most of
    # the time.
    set -- -accel tcg -machine virt -smp 1 -cpu max,pauth-impdef=on \
        -chardev "file,id=console,path=$work/console.log" -device pci-serial,chardev=console \
        -chardev "file,id=output,path=$work/output1" -device pci-serial,chardev=output
else
    set -- -accel tcg,thread=multi -smp "${GUEST_CPUS:-2}"
fi
if [ "$qemu" = qemu-system-x86_64 ]; then
    # On a busy machine the emulated timer may not tick while the kernel waits for it to see whether
    # it works; the kernel panics then.
    options="$options no_timer_check"
    set -- "$@" -cpu max -serial "file:$work/console.log" \
        -serial "file:$work/output1" -serial "file:$work/output2"
fi
boot() {
    ended=0
    timeout --foreground -k 5 "$limit" "$qemu" "$@" -m "${GUEST_MEMORY:-1024}" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$work/vmlinuz" -initrd "$work/initramfs" -append "$options -- $token" \
        </dev/null || ended=$?
}
boot "$@"
if [ "$ended" = 0 ] && ! cat "$work"/output? | grep -aq "^$token${tab}start"; then
    # Some QEMUs cannot always start a kernel on two processors: see run_guest() in
    # src/tool/guest.c.
    boot "$@"
fi

# The results. Each processor of the guest has an output: a job's is between its start marker and its
# end marker or the end of the file.

# save BEGIN END STATUS: writes the bytes from BEGIN up to END to the job's log.
save() {
    mkdir -p "$(dirname "$work/results/$running")"
    dd if="$output" of="$work/results/$running.log" bs=64k status=none \
        iflag=skip_bytes,count_bytes skip="$1" count="$(($2 - $1))"
    echo "$3" >"$work/results/$running.status"
}
lost=
for output in "$work"/output?; do
    grep -abo "^$token$tab.*" "$output" >"$work/markers" || :
    running=
    while IFS=: read -r offset marker; do
        job=${marker#*"$tab"*"$tab"}
        case $marker in
        "$token${tab}start$tab"*)
            running=$job
            begin=$((offset + ${#marker} + 1))
            ;;
        *)
            save "$begin" "$((offset - 1))" "${job#*"$tab"}"
            running=
            ;;
        esac
    done <"$work/markers"
    if [ -n "$running" ]; then
        save "$begin" "$(wc -c <"$output")" lost
        lost="$lost $running"
    fi
done

if ! grep -qx "$token${tab}done" "$work/console.log"; then
    case $ended in
    124 | 137) reason="did not finish in $limit seconds" ;;
    0) reason="stopped before it was done" ;;
    *) reason="was lost: QEMU's status is $ended" ;;
    esac
    echo "boot.sh: the guest $reason; running jobs:${lost:- none}; the guest's console:" >&2
    tail -n 40 "$work/console.log" >&2
    exit 1
fi
