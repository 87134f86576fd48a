# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Completion of pkeyguard(1) for bash.

_pkeyguard() {
    local word=${COMP_WORDS[COMP_CWORD]} subcommand=${COMP_WORDS[1]}

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'doctor maps scan run --help --version' -- "$word")
        return
    fi
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
    run,*)
        mapfile -t COMPREPLY < <(compgen -c -f -- "$word" | sort -u)
        ;;
    scan,*)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    esac
} && complete -o filenames -F _pkeyguard pkeyguard
