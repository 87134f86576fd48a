# The tests of the examples: natively, where mprotect enforces (native/NAME), and in the guest, where
# protection keys do (guest/NAME, in guest/CMakeLists.txt).
set(example_tests "")
set(example_programs "")

# PROGRAM with these ARGUMENTS ends with STATUS, 139 being 128 + SIGSEGV, and prints LINES
# (program.sh), and also those of its enforcement. They have no semicolon, at which CMake would split
# them. There is no test if the program was not built. With PRELOAD it runs on the allocator of
# malloc.c, and does not print how it is enforced.
function(pkeyguard_example_test name program status)
    cmake_parse_arguments(PARSE_ARGV 3 "" PRELOAD "LINES;MPROTECT;PKU" "ARGUMENTS")
    if(TARGET ${program})
        set(command $<TARGET_FILE:${program}> ${_ARGUMENTS})
        if(_PRELOAD)
            list(PREPEND command /usr/bin/env LD_PRELOAD=$<TARGET_FILE:pkeyguard_malloc>)
        else()
            string(PREPEND _MPROTECT "enforced by mprotect&")
            string(PREPEND _PKU "enforced by protection keys&")
        endif()
        add_test(NAME native/${name} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/program.sh
            ${status} "${_LINES}&${_MPROTECT}" ${command})
        set_tests_properties(native/${name} PROPERTIES ENVIRONMENT PKEYGUARD_ENFORCEMENT=mprotect)
        set(${name}_status ${status} PARENT_SCOPE)
        set(${name}_lines "${_LINES}&${_PKU}" PARENT_SCOPE)
        list(JOIN command " " command)
        set(${name}_command ${command} PARENT_SCOPE)
        set(example_tests ${example_tests} ${name} PARENT_SCOPE)
        set(example_programs ${example_programs} ${program} PARENT_SCOPE)
    endif()
endfunction()

pkeyguard_example_test(vault vault 0 LINES "^the secret is 123$")
pkeyguard_example_test(vault-crash vault 139 ARGUMENTS --crash
    LINES "^writing to the vault inside the read scope$")

pkeyguard_example_test(tenants tenants 0
    LINES "^4000 requests served, the balances add up to 4000$")
set(fault "^libpkeyguard: (read of|write to) region 'tenant [0-9]+' [+] 0x20:")
pkeyguard_example_test(tenants-crash tenants 139 ARGUMENTS --crash
    MPROTECT "${fault} no guard has it open"
    PKU "${fault} (this thread has no access|no guard has it open)")

set(fault "write to region 'session table' [+] 0x31:")
pkeyguard_example_test(plugin_host plugin_host 0 ARGUMENTS $<TARGET_FILE:plugin>
    LINES "^1465 requests, 29 plugins are left, 0 users are administrators$"
    MPROTECT "^plugin 17: ${fault} no guard has it open"
    PKU "^plugin 17: ${fault} this thread has no access")
pkeyguard_example_test(plugin_host-crash plugin_host 139 ARGUMENTS --crash $<TARGET_FILE:plugin>
    MPROTECT "^libpkeyguard: ${fault} no guard has it open"
    PKU "^libpkeyguard: ${fault} this thread has no access")

# 134 is 128 + SIGABRT.
pkeyguard_example_test(malloc-double-free malloc_victim 134 PRELOAD ARGUMENTS --double-free
    LINES "^pkeyguard_malloc: free of 0x[0-9a-f]+: .* it was freed before$")
pkeyguard_example_test(malloc-write-after-free malloc_victim 134 PRELOAD
    ARGUMENTS --write-after-free
    LINES "^libpkeyguard: a freed object of a heap was written to$")
pkeyguard_example_test(malloc-read-after-free malloc_victim 0 PRELOAD ARGUMENTS --read-after-free
    LINES "^the freed object has: nothing$")

pkeyguard_example_test(openssl_signer openssl_signer 0
    LINES "^P-256: signed and verified&^RSA-2048: signed and verified")
pkeyguard_example_test(sqlite_vault sqlite_vault 0
    LINES "^outside the scopes the database is not reachable$")

pkeyguard_example_test(tls_server tls_server 0
    LINES "^plain keys: 100 handshakes, .* 500 signatures&^guarded keys: 100 handshakes, .* 500 signatures")
pkeyguard_example_test(tls_server-attack tls_server 0 ARGUMENTS --attack
    LINES "^20 of 20 replies have the private key of an unguarded&^0 of 20 replies have the private key of a guarded")
set(fault "^libpkeyguard: read of region 'private keys' [+] 0x[0-9a-f]+:")
pkeyguard_example_test(tls_server-crash tls_server 139 ARGUMENTS --crash
    LINES "^libpkeyguard: .* in thread [0-9]+ 'worker'"
    MPROTECT "${fault} no guard has it open. open a read scope"
    PKU "${fault} this thread has no access. open a read scope")

pkeyguard_example_test(jit jit 0
    LINES "^150 formulas, [0-9]+ bytes of code. 2 threads ran them meanwhile&^the other thread's write to the code failed$"
    MPROTECT "^another thread writes to the code while none has it open$"
    PKU "^another thread writes to the code while this one has it open$")
set(fault "^libpkeyguard: write to region 'compiled code' [+] 0x0:")
pkeyguard_example_test(jit-attack jit 139 ARGUMENTS --attack
    LINES "^libpkeyguard: .* in thread [0-9]+ 'intruder'"
    MPROTECT "${fault} no guard has it open for writing. open a write scope"
    PKU "${fault} this thread has it read-only. open a write scope")

pkeyguard_example_test(lmdb_pool lmdb_pool 0
    LINES "^200 write transactions beside [1-9][0-9]* reads. the map has grown [1-9][0-9]* times, from 256 KiB to [0-9]+ KiB$&^the other thread's write to the map failed$"
    MPROTECT "^another thread writes to the map while none has it open$"
    PKU "^another thread writes to the map while this one has it open$")
set(fault "^libpkeyguard: write to region 'LMDB map' [+] 0x0:")
pkeyguard_example_test(lmdb_pool-crash lmdb_pool 139 ARGUMENTS --crash
    LINES "^libpkeyguard: .* in thread [0-9]+ 'intruder'"
    MPROTECT "${fault} no guard has it open for writing. open a write scope"
    PKU "${fault} this thread has it read-only. open a write scope")

pkeyguard_example_test(sandboxed_signer sandboxed_signer 0
    LINES "^1000 of 1000 messages were signed$"
    MPROTECT "read, write and exit, and change page rights$" PKU "read, write and exit$")
pkeyguard_example_test(sandboxed_signer-attack sandboxed_signer 139 ARGUMENTS --attack
    LINES "^0 of 1000 messages were signed$&^the signer was killed: it touched its key outside a scope$")

# Programs on the allocator of malloc.c, most of them the distribution's.
set(malloc_tests ${CMAKE_CURRENT_SOURCE_DIR}/malloc)
function(pkeyguard_malloc_test name)
    add_test(NAME native/malloc-${name} COMMAND sh ${malloc_tests}/same.sh
        $<TARGET_FILE:pkeyguard_malloc> ${ARGN})
endfunction()
if(TARGET pkeyguard_malloc)
    if(EXISTS /usr/bin/python3)
        pkeyguard_malloc_test(python3 /usr/bin/python3 -B ${malloc_tests}/program.py)
    endif()
    if(EXISTS /usr/bin/sqlite3)
        set(sqlite3_command
            /usr/bin/sqlite3 -batch -init ${malloc_tests}/database.sql :memory: .quit)
        pkeyguard_malloc_test(sqlite3 ${sqlite3_command})
    endif()
    if(EXISTS /usr/bin/git)
        pkeyguard_malloc_test(git sh ${malloc_tests}/repository.sh)
    endif()
    add_executable(malloc_functions malloc/functions.c)
    target_compile_definitions(malloc_functions PRIVATE _GNU_SOURCE)
    target_link_libraries(malloc_functions PRIVATE pkeyguard_warnings)
    # Else clang leaves out calls of malloc whose memory is not used.
    target_compile_options(malloc_functions PRIVATE -fno-builtin)
    target_link_options(malloc_functions PRIVATE -pthread)
    pkeyguard_malloc_test(functions $<TARGET_FILE:malloc_functions>)
    set(example_files $<TARGET_FILE:plugin> $<TARGET_FILE:pkeyguard_malloc>
        $<TARGET_FILE:malloc_victim> ${malloc_tests}/database.sql)
endif()
