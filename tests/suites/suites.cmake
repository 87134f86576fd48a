# Every suite, with its files in suites/NAME/ and the places where it runs.
#
# A suite is one program, test_NAME. test_NAME.c has main(); in a suite of several files the others
# have its tests, and fixture.c what they share. Every suite runs as native/NAME and, in the guest
# with PKU and Linux 6.12, as guest/NAME. It also runs in the places after IN:
#
#   asan            asan/NAME: with AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan            tsan/NAME: with ThreadSanitizer; only suites with threads
#   valgrind        valgrind/NAME; only suites that leave frames, free memory or use it uninitialized
#                   in ways that AddressSanitizer does not see
#   guest-6.1       guest-6.1/NAME: in the guest with Linux 6.1, because the kernel's version can
#                   change the results
#   guest-mprotect  guest-mprotect/NAME: in the guest, with its PKU turned off
#   guest-protected in the guest, with the library's records protected (pkeyguard_protect_records());
#                   only suites that count no pkeys and make no children without fork handlers
#   musl            musl/NAME: with another C library
#   aarch64         aarch64/NAME: on another CPU, an emulated machine; only suites that depend on the
#                   CPU, its page tables or its faults
#
# In the guests, and with musl or aarch64, it must account for at least CHECKS checks: it runs them,
# or says why not.
#
# pkeyguard_suite(NAME CHECKS COUNT [IN PLACE...] FILES FILE...) declares a suite. Afterwards
# `suites` has the names of all suites, `suites_in_PLACE` the names of those that run there,
# `NAME_files` the files of a suite and `NAME_checks` its CHECKS.
macro(pkeyguard_suite name)
    cmake_parse_arguments(suite "" CHECKS "FILES;IN" ${ARGN})
    list(APPEND suites ${name})
    foreach(place IN LISTS suite_IN)
        list(APPEND suites_in_${place} ${name})
    endforeach()
    list(TRANSFORM suite_FILES PREPEND suites/${name}/ OUTPUT_VARIABLE ${name}_files)
    set(${name}_checks ${suite_CHECKS})
endmacro()

pkeyguard_suite(pkeyguard CHECKS 4 IN asan musl aarch64
    FILES test_pkeyguard.c)
pkeyguard_suite(pkru CHECKS 4 IN asan musl aarch64
    FILES test_pkru.c)
pkeyguard_suite(platform CHECKS 14 IN asan guest-6.1 guest-mprotect musl aarch64
    FILES test_platform.c sandbox.c)
pkeyguard_suite(key CHECKS 26 IN asan guest-6.1 guest-mprotect musl aarch64
    FILES test_key.c)
pkeyguard_suite(region CHECKS 284 IN asan tsan guest-6.1 musl
    FILES test_region.c fixture.c basics.c page_rights.c guard_pages.c flags.c seals.c
        adoption.c lookup.c huge_pages.c end_aligned.c checks.c)
pkeyguard_suite(guard CHECKS 157 IN asan tsan valgrind guest-mprotect guest-protected musl aarch64
    FILES test_guard.c fixture.c guards.c scopes.c threads.c handlers.c fork.c copies.c
        nesting.c)
pkeyguard_suite(heap CHECKS 170 IN asan tsan musl
    FILES test_heap.c fixture.c access.c objects.c heaps.c failures.c metadata.c quarantine.c
        threads.c fork.c owners.c parts.c)
pkeyguard_suite(thread CHECKS 78 IN asan tsan valgrind guest-6.1 guest-protected musl aarch64
    FILES test_thread.c fixture.c jumps.c resets.c coroutines.c virtual_keys.c concurrency.c gates.c)
pkeyguard_suite(fault CHECKS 121 IN asan tsan valgrind guest-6.1 guest-protected musl aarch64
    FILES test_fault.c fixture.c decode.c format.c reporter.c granting.c tried_calls.c
        records.c)
pkeyguard_suite(pitfalls CHECKS 45 IN asan guest-6.1 musl aarch64
    FILES test_pitfalls.c kernels_key_tests.c kernels_signal_tests.c)
pkeyguard_suite(neighbour CHECKS 38 IN asan tsan guest-mprotect musl
    FILES test_neighbour.c fixture.c rights.c pkeys.c threads.c)
pkeyguard_suite(debug CHECKS 57 IN asan guest-mprotect musl aarch64
    FILES test_debug.c misuse.c allowed.c unchecked.c)
# Almost every check of it needs PKU, which there is only in guests.
pkeyguard_suite(records CHECKS 58
    FILES test_records.c fixture.c access.c forks.c failures.c)
pkeyguard_suite(failures CHECKS 458 IN asan musl
    FILES test_failures.c fail_closed.c first_use.c held_lock.c)
pkeyguard_suite(virtual CHECKS 207 IN asan tsan musl
    FILES test_virtual.c fixture.c basics.c sharing.c threads.c races.c hits.c waiting.c timed.c
        foreign_threads.c
        handlers.c fork.c failures.c)
pkeyguard_suite(virtual_stress CHECKS 2 IN asan tsan musl
    FILES test_virtual_stress.c)
# Most checks of it need PKU, too.
pkeyguard_suite(revocation CHECKS 64 IN guest-6.1 guest-mprotect
    FILES test_revocation.c fixture.c resets.c signal_choice.c signals.c races.c everywhere.c)
# Not with musl or aarch64, where there is no C++ library. Compiled as C++20, for coroutines. clang
# builds asan/cplusplus, see CMakeLists.txt.
pkeyguard_suite(cplusplus CHECKS 83
    FILES test_cplusplus.cpp errors.cpp handles.cpp guards.cpp scopes.cpp containers.cpp
        coroutines.cpp no_exceptions.cpp)
set_source_files_properties(suites/cplusplus/no_exceptions.cpp PROPERTIES
    COMPILE_OPTIONS -fno-exceptions)
# Not with sanitizers, which the plugins would have to be compiled with, and not with musl, whose
# dlclose(3) unloads nothing.
pkeyguard_suite(unload CHECKS 7
    FILES test_unload.c)
# Not with sanitizers or valgrind, whose threads and forks are not the kernel's alone.
pkeyguard_suite(processes CHECKS 73
    FILES test_processes.c fixture.c locks.c memory.c first_calls.c)
# Not with sanitizers or valgrind: they have code of their own between the instructions.
pkeyguard_suite(steps CHECKS 23
    FILES test_steps.c stepping.c operations.c eviction.c nesting.c unwinding.c)
# Not with sanitizers or valgrind, which replace malloc, as jemalloc does.
pkeyguard_suite(jemalloc CHECKS 4
    FILES test_jemalloc.c)
pkeyguard_suite(malloc CHECKS 6
    FILES test_malloc.c)

# Calls of these functions go through support/failing.c.
set(wrapped calloc mmap mremap munmap mprotect madvise mlock ftruncate syscall
    pkeyguard_pkru_supported thread_records_unpinned os_milliseconds)
list(TRANSFORM wrapped PREPEND -Wl,--wrap=)

# Adds the test VARIANT/NAME. The tool that it runs under may be empty.
function(pkeyguard_suite_test variant suite tool)
    add_test(NAME ${variant}/${suite} COMMAND test_${suite}_${variant})
    if(tool)
        set_tests_properties(${variant}/${suite} PROPERTIES ENVIRONMENT PKEYGUARD_TEST_TOOL=${tool})
    endif()
endfunction()

# pkeyguard_build_suites(VARIANT LIBRARY SUITES NAME... [COMPILE OPTION...] [OPTIONS OPTION...]
#                        [TOOL NAME])
#
# Builds suites with one build of the library, as programs test_NAME_VARIANT, and adds their tests
# VARIANT/NAME. COMPILE are options for compiling, OPTIONS for compiling and linking. TOOL is the tool
# that the suites run under. Uses `libcheck`, the target of libcheck, and `NAME_libraries` and
# `NAME_definitions`, which a suite may have.
function(pkeyguard_build_suites variant library)
    cmake_parse_arguments(PARSE_ARGV 2 build "" "TOOL" "SUITES;COMPILE;OPTIONS")
    add_library(support_${variant} OBJECT support/children.c support/failing.c support/heap_model.c
        support/one_region.c support/support.c support/worker.c)
    target_include_directories(support_${variant} PUBLIC support)
    target_compile_definitions(support_${variant} PUBLIC _GNU_SOURCE)
    target_compile_options(support_${variant} PUBLIC ${build_OPTIONS} ${build_COMPILE})
    target_link_libraries(support_${variant} PUBLIC ${library} pkeyguard_warnings ${libcheck})
    target_link_options(support_${variant} PUBLIC ${wrapped} ${build_OPTIONS})
    foreach(suite IN LISTS build_SUITES)
        set(target test_${suite}_${variant})
        add_executable(${target} ${${suite}_files})
        target_compile_definitions(${target} PRIVATE ${${suite}_definitions})
        target_link_libraries(${target} PRIVATE support_${variant} ${${suite}_libraries})
        pkeyguard_suite_test(${variant} ${suite} "${build_TOOL}")
    endforeach()
endfunction()

# pkeyguard_link_suites(VARIANT LIBRARY SUITES NAME... [OPTIONS OPTION...] [TOOL NAME])
#
# The same, but the programs consist of what was compiled for the variant native.
function(pkeyguard_link_suites variant library)
    cmake_parse_arguments(PARSE_ARGV 2 link "" "TOOL" "SUITES;OPTIONS")
    foreach(suite IN LISTS link_SUITES)
        set(target test_${suite}_${variant})
        add_executable(${target} $<TARGET_OBJECTS:test_${suite}_native>
            $<TARGET_OBJECTS:support_native>)
        set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C)
        target_link_libraries(${target} PRIVATE ${library} ${libcheck} ${${suite}_libraries})
        target_link_options(${target} PRIVATE ${wrapped} ${link_OPTIONS})
        pkeyguard_suite_test(${variant} ${suite} "${link_TOOL}")
    endforeach()
endfunction()
