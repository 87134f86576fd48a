# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Completion of pkeyguard(1) for bash.

_pkeyguard() {
    local word=${COMP_WORDS[COMP_CWORD]} subcommand=${COMP_WORDS[1]}
    local option=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'doctor maps scan run guest --help --version' -- "$word")
        return
    fi
    case $subcommand,$option in
    guest,--kernel | guest,-k | guest,--file | guest,-f)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    esac
    case $subcommand,$word in
    maps,-*)
        mapfile -t COMPREPLY < <(compgen -W '--json --check --help' -- "$word")
        ;;
    doctor,* | scan,-*)
        mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$word")
        ;;
    maps,*)
        mapfile -t COMPREPLY < <(cd /proc && compgen -G "${word}*" | grep -x '[0-9]*')
        ;;
    run,-*)
        mapfile -t COMPREPLY < <(compgen -W '--report --help' -- "$word")
        ;;
    guest,-*)
        mapfile -t COMPREPLY < <(compgen -W '--kernel --file --timeout --help' -- "$word")
        ;;
    run,* | guest,*)
        mapfile -t COMPREPLY < <(compgen -c -f -- "$word" | sort -u)
        ;;
    scan,*)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    esac
} && complete -o filenames -F _pkeyguard pkeyguard
