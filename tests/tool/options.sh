#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks options and errors of all subcommands, their text output, the completion and the man page.
#
# usage: options.sh PKEYGUARD SOURCE
set -eu
export LC_ALL=C

pkeyguard=$1
source=$2

# status WANTED ARGUMENT...: pkeyguard exits with this status. If it is not 0 there is a message on
# stderr.
status() {
    wanted=$1
    shift
    ended=0
    said=$("$pkeyguard" "$@" 2>&1 > /dev/null) || ended=$?
    if [ "$ended" != "$wanted" ] || { [ "$wanted" != 0 ] && [ -z "$said" ]; }; then
        echo "pkeyguard $*: status $ended, not $wanted; stderr: $said" >&2
        exit 1
    fi
}

status 0 --help
status 0 --version
status 64
status 64 --nonsense
status 64 nonsense
status 64 doctor --nonsense
status 64 doctor argument
status 64 maps 1 2
status 64 doctor --check
status 0 maps --check
status 64 scan
status 64 maps abc
status 64 maps 0
status 64 maps ../self
status 2 maps 4194305 # larger than any process number
status 2 scan /nowhere
status 64 run
status 64 run --nonsense true
status 127 run nowhere
status 126 run /etc/passwd
status 0 run true
status 0 run --report true
status 64 guest
status 64 guest --timeout 0 true
status 64 guest --timeout soon true
status 64 guest --nonsense true
status 64 guest --kernel
status 127 guest nowhere
status 126 guest /etc/passwd
status 125 guest --kernel /nowhere true
status 125 guest --kernel /etc/passwd --file /nowhere true
PATH=/nowhere status 125 guest --kernel /etc/passwd /bin/true
echo "$said" | grep -q 'there is no qemu-system-x86_64: install it'

version=$(sed -n 's/^#define PKEYGUARD_VERSION_[A-Z]* *//p' "$source/include/pkeyguard.h" | paste -sd .)
test "$("$pkeyguard" --version)" = "pkeyguard $version"
for subcommand in doctor maps scan run guest; do
    "$pkeyguard" --help | grep -q "^  $subcommand "
    status 0 $subcommand --help
    "$pkeyguard" $subcommand --help | grep -q "^Usage: pkeyguard $subcommand "
    grep -q "^\.B pkeyguard $subcommand$" "$source/src/tool/pkeyguard.1"
done
test -z "$(groff -man -ww -z "$source/src/tool/pkeyguard.1" 2>&1)"

ended=0
said=$("$pkeyguard" maps 2>&1 > /dev/full) || ended=$?
test "$ended" = 2
echo "$said" | grep -q 'cannot write'

# run changes nothing about the program but LD_PRELOAD.
test "$("$pkeyguard" run printf '<%s>' a --help '')" = '<a><--help><>'
ended=0
# shellcheck disable=SC2016 # the other shell's variable
LD_PRELOAD=libc.so.6 "$pkeyguard" run sh -c 'case $LD_PRELOAD in
    /*/libpkeyguard/reporter.so:libc.so.6) exit 77 ;; esac' || ended=$?
test "$ended" = 77

# The text for people: what is missing is listed among the facts and again with its remedy.
text=$(PKEYGUARD_ENFORCEMENT=mprotect "$pkeyguard" doctor) || test $? = 1
echo "$text" | grep -q '^protection keys  *no: PKEYGUARD_ENFORCEMENT=mprotect .*(ECANCELED)$'
echo "$text" | grep -q '^sealing  *no$'
echo "$text" | grep -q '^sealing: .*protection keys'
echo "$text" | grep -q '^protection keys: unset PKEYGUARD_ENFORCEMENT'
echo "$text" | grep -q '^scope by mprotect '
text=$("$pkeyguard" maps)
echo "$text" | head -n 1 | grep -q '^KEY START'
echo "$text" | grep -qE "^ *[-0-9]+ [0-9a-f]{16} [0-9a-f]{16} rw-p  .* \[stack\]$"

# complete_words WANTED WORD...: the last word is completed to WANTED.
complete_words() {
    wanted=$1
    shift
    found=$(cd "$source" && bash -c '
        . src/tool/pkeyguard.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _pkeyguard
        echo "${COMPREPLY[*]}"' bash "$@")
    if [ "$found" != "$wanted" ]; then
        echo "'$*' is completed to '$found', not '$wanted'" >&2
        exit 1
    fi
}
complete_words 'doctor maps scan run guest --help --version' pkeyguard ''
complete_words doctor pkeyguard d
complete_words --json pkeyguard scan --j
complete_words LICENSE pkeyguard scan LIC
complete_words $$ pkeyguard maps $$
complete_words printenv pkeyguard run printen
complete_words --kernel pkeyguard guest --k
complete_words LICENSE pkeyguard guest --file LIC
complete_words printenv pkeyguard guest --timeout 5 printen

# The other shells offer the same subcommands and options as the help shows.
fish_offers() {
    # shellcheck disable=SC2016 # fish's variables
    fish -c 'source "$argv[1]"; complete -C "$argv[2]"' "$source/src/tool/pkeyguard.fish" "$1" |
        cut -f 1
}
zsh -n "$source/src/tool/pkeyguard.zsh"
for subcommand in doctor maps scan run guest; do
    fish_offers 'pkeyguard ' | grep -qx "$subcommand"
    grep -q "^    '$subcommand:" "$source/src/tool/pkeyguard.zsh"
    options=$("$pkeyguard" $subcommand --help | sed -n 's/^  -., \(--[a-z]*\).*/\1/p')
    test -n "$options"
    for option in $options; do
        fish_offers "pkeyguard $subcommand --" | grep -qx -- "$option"
        sed -n "/^    $subcommand)/,/;;/p" "$source/src/tool/pkeyguard.zsh" | grep -q -- "$option\["
    done
done
