/* SPDX-License-Identifier: MIT */
/*
 * pkeyguard.hpp - the library in C++17 and later: handles, scopes, allocators, errors, coroutines
 *
 *     #include <cstdio>
 *     #include <pkeyguard.hpp>
 *
 *     struct secret {
 *         int counter;
 *     };
 *
 *     int main()
 *     {
 *         pkeyguard::key key(PKEYGUARD_NO_ACCESS);
 *         pkeyguard::region vault(key, sizeof(secret));
 *         {
 *             pkeyguard::write_scope<secret> view(vault);
 *             view->counter = 123;
 *         }
 *         pkeyguard::read_scope<secret> view(vault);
 *         std::printf("%d\n", view->counter);          view->counter++ does not compile
 *     }
 *
 * This header adds nothing to what the C headers promise, and takes nothing away: their comments
 * on rights, enforcement, threads, signals and fork hold here, too. The macros and functions of C
 * work in C++ beside it: a handle converts to the pointer that they take. check() turns their
 * results into exceptions, make_error_code() into a std::error_code.
 *
 * Errors. A constructor or function that can fail has two forms, as in std::filesystem. One throws
 * pkeyguard::error. The other has a std::error_code & as its last parameter, throws nothing, and
 * sets it to the error or clears it; a constructor then leaves an empty object. The errors are
 * those that the C function's comment lists, as positive errno values in category(). They compare
 * equal to std::errc values. With -fno-exceptions the throwing forms print one line on stderr and
 * abort.
 *
 * Empty and moved-from objects own nothing, and their destructors do nothing.
 *
 * Debugging. Compile all files of a program with PKEYGUARD_DEBUG or all without it: functions of
 * this header that several files use are in the program once. Its guards do not know the file and
 * line where they were opened.
 *
 * Thread safety, async-signal safety: as the C function that is called, but throwing is not
 * async-signal-safe. Since 0.2.
 */
#ifndef PKEYGUARD_HPP
#define PKEYGUARD_HPP

#if __cplusplus < 201703L
#error "pkeyguard.hpp needs C++17 or later"
#endif

#include <pkeyguard.h>
#include <pkeyguard/containers.hpp>
#include <pkeyguard/coroutines.hpp>
#include <pkeyguard/errors.hpp>
#include <pkeyguard/handles.hpp>
#include <pkeyguard/scopes.hpp>

#endif
