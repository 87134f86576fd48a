#compdef pkeyguard
# SPDX-License-Identifier: MIT
# Completion of pkeyguard(1) for zsh, installed as _pkeyguard.

local -a subcommands=(
    'doctor:show what this machine supports'
    'maps:show mappings by protection key'
    'scan:list instructions that write PKRU'
    'run:explain forbidden accesses of a program'
    'guest:run a program with emulated protection keys'
)
local curcontext=$curcontext state

_arguments -C '--help[show help]' '--version[show the version]' '1:subcommand:->subcommand' \
    '*::argument:->arguments'
case $state in
subcommand)
    _describe subcommand subcommands
    ;;
arguments)
    case $words[1] in
    doctor)
        _arguments '--json[write JSON]' '--help[show help]'
        ;;
    maps)
        _arguments '--json[write JSON]' '--check[only what differs in its region]' \
            '--help[show help]' ':process:_pids'
        ;;
    scan)
        _arguments '--json[write JSON]' '--help[show help]' '*:file:_files'
        ;;
    run)
        _arguments '--report[explain forbidden accesses]' '--help[show help]' \
            '(-):command:_command_names -e' '*::argument:_normal'
        ;;
    guest)
        _arguments '--kernel[the kernel]:kernel:_files' \
            '*--file[a file that the guest has]:file:_files' '--timeout[stop after]:seconds:' \
            '--help[show help]' '(-):command:_command_names -e' '*::argument:_normal'
        ;;
    esac
    ;;
esac
