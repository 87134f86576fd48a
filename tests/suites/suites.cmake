# Every suite, with its files in suites/NAME/ and the places where it runs.
#
# A suite is one program, test_NAME: test_NAME.c has main() and the other files have its tests.
# It runs as native/NAME and, in the guest with PKU, as guest/NAME, and also in the places after IN:
#
#   sanitizers      asan/NAME and tsan/NAME
#   valgrind        valgrind/NAME
#   guest-mprotect  guest-mprotect/NAME: in the guest, with its PKU turned off
#   reach           musl/NAME and aarch64/NAME, where it must account for at least CHECKS checks
#
# pkeyguard_suite(NAME FILES FILE... [CHECKS COUNT] [IN PLACE...]) declares one. Afterwards `suites`
# has the names of all, `suites_in_PLACE` of those that run there, and `NAME_files` and `NAME_checks`
# what was said of each.
macro(pkeyguard_suite name)
    cmake_parse_arguments(suite "" CHECKS "FILES;IN" ${ARGN})
    list(APPEND suites ${name})
    foreach(place IN LISTS suite_IN)
        list(APPEND suites_in_${place} ${name})
    endforeach()
    list(TRANSFORM suite_FILES PREPEND suites/${name}/ OUTPUT_VARIABLE ${name}_files)
    set(${name}_checks ${suite_CHECKS})
endmacro()

pkeyguard_suite(pkeyguard FILES test_pkeyguard.c
    CHECKS 3 IN sanitizers valgrind reach)
pkeyguard_suite(pkru FILES test_pkru.c
    CHECKS 4 IN sanitizers valgrind reach)
pkeyguard_suite(platform FILES test_platform.c
    CHECKS 13 IN sanitizers valgrind guest-mprotect reach)
pkeyguard_suite(key FILES test_key.c
    CHECKS 22 IN sanitizers valgrind guest-mprotect reach)
pkeyguard_suite(region FILES test_region.c
    CHECKS 124 IN sanitizers valgrind guest-mprotect reach)
pkeyguard_suite(guard FILES test_guard.c
    CHECKS 102 IN sanitizers valgrind guest-mprotect reach)
pkeyguard_suite(heap FILES test_heap.c
    CHECKS 96 IN sanitizers valgrind reach)
pkeyguard_suite(thread FILES test_thread.c
    CHECKS 41 IN sanitizers valgrind reach)
pkeyguard_suite(fault FILES test_fault.c
    CHECKS 49 IN sanitizers valgrind reach)
pkeyguard_suite(pitfalls FILES test_pitfalls.c
    CHECKS 14 IN sanitizers valgrind reach)
pkeyguard_suite(debug FILES test_debug.c
    CHECKS 4 IN sanitizers valgrind reach)
# Not under valgrind: it takes long there, and the sanitizers have seen the same.
pkeyguard_suite(failures FILES test_failures.c
    CHECKS 48 IN sanitizers reach)
pkeyguard_suite(virtual FILES test_virtual.c
    CHECKS 173 IN sanitizers valgrind reach)
pkeyguard_suite(virtual_stress FILES test_virtual_stress.c
    CHECKS 2 IN sanitizers valgrind reach)
pkeyguard_suite(revocation FILES test_revocation.c
    CHECKS 43 IN sanitizers valgrind guest-mprotect reach)
# Neither with sanitizers nor valgrind: they replace malloc, as jemalloc does.
pkeyguard_suite(jemalloc FILES test_jemalloc.c)

# The functions that support/failing.c stands in for.
set(wrapped calloc mmap mremap munmap mprotect madvise mlock ftruncate fopen syscall
    pkeyguard_pkru_supported thread_records_any_pins)
list(TRANSFORM wrapped PREPEND -Wl,--wrap=)

# pkeyguard_build_suites(VARIANT LIBRARY SUITES NAME... [OPTIONS OPTION...])
#
# Builds suites against one build of the library, as programs test_NAME_VARIANT, and adds their tests
# VARIANT/NAME. The options are for compiling and linking. Uses `libcheck`, the target of libcheck, and
# `NAME_libraries` and `NAME_definitions`, which a suite may have.
function(pkeyguard_build_suites variant library)
    cmake_parse_arguments(PARSE_ARGV 2 build "" "" "SUITES;OPTIONS")
    add_library(support_${variant} OBJECT support/failing.c support/heap_model.c
        support/one_region.c support/support.c support/worker.c)
    target_include_directories(support_${variant} PUBLIC support)
    target_compile_definitions(support_${variant} PUBLIC _GNU_SOURCE)
    target_compile_options(support_${variant} PUBLIC ${build_OPTIONS})
    target_link_libraries(support_${variant} PUBLIC ${library} pkeyguard_warnings ${libcheck})
    target_link_options(support_${variant} PUBLIC ${wrapped} ${build_OPTIONS})
    foreach(suite IN LISTS build_SUITES)
        set(target test_${suite}_${variant})
        add_executable(${target} ${${suite}_files})
        target_compile_definitions(${target} PRIVATE ${${suite}_definitions})
        target_link_libraries(${target} PRIVATE support_${variant} ${${suite}_libraries})
        add_test(NAME ${variant}/${suite} COMMAND ${target})
        if(build_OPTIONS)
            set_tests_properties(${variant}/${suite} PROPERTIES
                ENVIRONMENT PKEYGUARD_TEST_TOOL=${variant})
        endif()
    endforeach()
endfunction()
