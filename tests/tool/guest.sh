#!/bin/sh
# SPDX-License-Identifier: MIT
# "pkeyguard guest" runs a program with its arguments, environment and folder, passes its output and
# status on, and ends a guest that takes too long.
#
# usage: guest.sh PKEYGUARD KERNEL WORK
set -eu
export LC_ALL=C

pkeyguard=$1
kernel=$2
work=$3
rm -rf "$work"
mkdir -p "$work/folder"
cd "$work"

# run WANTED OPTION...: the status of the guest. Its output is in the files out and err.
run() {
    wanted=$1
    shift
    ended=0
    "$pkeyguard" guest --kernel "$kernel" "$@" > out 2> err || ended=$?
    cat out err
    test "$ended" = "$wanted" || {
        echo "pkeyguard guest $*: status $ended, not $wanted" >&2
        exit 1
    }
}

echo data > folder/data
cat > script << 'END'
#!/bin/sh
printf 'arguments <%s> <%s>\n' "$@"
echo "variable $VARIABLE, folder $(pwd)"
cat folder/data
echo error >&2
test ! -t 1
grep -qw ospke /proc/cpuinfo && echo keys
printf '\000\377no newline'
exit 77
END
chmod +x script
# The first guest stops before the program begins, so there is another.
mkdir bin
cat > bin/qemu-system-x86_64 << END
#!/bin/sh
mkdir "$work/stopped" 2> /dev/null || exec $(command -v qemu-system-x86_64) "\$@"
END
chmod +x bin/qemu-system-x86_64
VARIABLE='two words' PATH=$work/bin:$PATH run 77 --file "$(command -v cat)" \
    --file "$(command -v grep)" --file folder ./script 'a b' ''
test -d stopped
printf 'arguments <a b> <>\nvariable two words, folder %s\ndata\nkeys\n\000\377no newline' \
    "$work" > expected
cmp expected out
echo error > expected
cmp expected err

# The order of stdout and stderr stays if both are one file. SIGTERM's status is 128 + 15.
ended=0
# shellcheck disable=SC2016 # the other shell's variable
"$pkeyguard" guest --kernel "$kernel" sh -c \
    'for i in 1 2 3 4 5 6 7 8; do echo out $i; echo error $i >&2; done; kill $$' > both 2>&1 ||
    ended=$?
for i in 1 2 3 4 5 6 7 8; do echo "out $i"; echo "error $i"; done > expected
cmp expected both
test "$ended" = 143

run 124 --timeout 1 sleep 1000
grep -qx 'pkeyguard guest: sleep did not end in 1 seconds' err

run 125 --kernel ./script true
grep -q '^pkeyguard guest: the guest stopped before the program ended' err
