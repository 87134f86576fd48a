# The suites as programs test_NAME_coverage, with gcov's counters in the library; and the jobs that
# coverage.sh runs natively and in the guest.

# -O0, so that each branch is one of the source. Threads count together.
pkeyguard_library(pkeyguard_coverage STATIC ${pkeyguard_sources}
    ${CMAKE_CURRENT_LIST_DIR}/counters.c)
target_compile_options(pkeyguard_coverage PRIVATE -O0 -fdata-sections --coverage
    -fprofile-update=atomic)
target_link_options(pkeyguard_coverage INTERFACE --coverage -Wl,--wrap=__gcov_exit
    -Wl,-T,${CMAKE_CURRENT_LIST_DIR}/counters.ld)
list(REMOVE_ITEM suites steps)
pkeyguard_build_suites(coverage pkeyguard_coverage SUITES ${suites}
    COMPILE -O1 -Wno-clobbered)
add_dependencies(test_unload_coverage plugin_shared plugin_static plugin_cannot_stay)
list(TRANSFORM suites REPLACE "(.+)" "test_\\1_coverage" OUTPUT_VARIABLE programs)
add_custom_target(coverage DEPENDS guest_init ${programs})

# The jobs are in boot.sh's format.
string(ASCII 9 tab)
macro(pkeyguard_coverage_job jobs counters_in name suite environment)
    string(APPEND ${jobs} "${name}${tab}900${tab}${environment}${tab}/bin/sh "
        "${CMAKE_CURRENT_LIST_DIR}/count.sh ${counters_in}/${name}.counters "
        "$<TARGET_FILE:test_${suite}_coverage>\n")
endmacro()
# The longest first.
list(REMOVE_ITEM suites heap)
list(PREPEND suites heap)
foreach(suite IN LISTS suites)
    pkeyguard_coverage_job(native_jobs ${PROJECT_BINARY_DIR}/native ${suite} ${suite} -)
    pkeyguard_coverage_job(guest_jobs /tmp ${suite} ${suite}
        "PKEYGUARD_TEST_EXPECT=pku CK_TIMEOUT_MULTIPLIER=5")
endforeach()
foreach(suite IN LISTS suites_in_guest-protected)
    pkeyguard_coverage_job(guest_jobs /tmp ${suite}-protected ${suite}
        "PKEYGUARD_TEST_EXPECT=pku PKEYGUARD_TEST_PROTECT=1")
endforeach()
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/native-jobs CONTENT "${native_jobs}")
set(guest ${PROJECT_BINARY_DIR}/guest/6.12)
file(MAKE_DIRECTORY ${guest})
file(CREATE_LINK ../init ${guest}/init SYMBOLIC)
file(GENERATE OUTPUT ${guest}/jobs CONTENT "${guest_jobs}")
