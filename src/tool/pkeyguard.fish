# SPDX-License-Identifier: MIT
# Completion of pkeyguard(1) for fish.

function __pkeyguard_needs_subcommand
    test (count (commandline -opc)) -eq 1
end

# True if this is the subcommand, and no word behind it is the program's own.
function __pkeyguard_in
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end

complete -c pkeyguard -f
complete -c pkeyguard -n __pkeyguard_needs_subcommand -l version -d 'Show the version'
complete -c pkeyguard -l help -d 'Show help'

complete -c pkeyguard -n __pkeyguard_needs_subcommand -a doctor -d 'What this machine supports'
complete -c pkeyguard -n __pkeyguard_needs_subcommand -a maps -d 'Mappings by protection key'
complete -c pkeyguard -n __pkeyguard_needs_subcommand -a scan -d 'Instructions that write PKRU'
complete -c pkeyguard -n __pkeyguard_needs_subcommand -a run -d 'Explain forbidden accesses'
complete -c pkeyguard -n __pkeyguard_needs_subcommand -a guest -d 'Run with emulated keys'

for subcommand in doctor maps scan
    complete -c pkeyguard -n "__pkeyguard_in $subcommand" -l json -d 'Write JSON'
end
complete -c pkeyguard -n '__pkeyguard_in maps' -l check -d 'Only what differs in its region'
complete -c pkeyguard -n '__pkeyguard_in maps' -a '(__fish_complete_pids)'
complete -c pkeyguard -n '__pkeyguard_in scan' -F
complete -c pkeyguard -n '__pkeyguard_in run' -l report -d 'Explain forbidden accesses'
complete -c pkeyguard -n '__pkeyguard_in guest' -l kernel -r -F -d 'The kernel'
complete -c pkeyguard -n '__pkeyguard_in guest' -l file -r -F -d 'A file that the guest has'
complete -c pkeyguard -n '__pkeyguard_in guest' -l timeout -x -d 'Seconds'
for subcommand in run guest
    complete -c pkeyguard -n "__pkeyguard_in $subcommand" -a '(__fish_complete_command)' -F
end
