/* SPDX-License-Identifier: MIT */
/*
 * errors.hpp - the library's errors as std::error_code and exceptions
 */
#ifndef PKEYGUARD_ERRORS_HPP
#define PKEYGUARD_ERRORS_HPP

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include <pkeyguard.h>

/* A file that is compiled with -fno-exceptions has functions and classes of its own. Else the
 * linker would take either those that abort or those that throw, for all files. */
#ifdef __cpp_exceptions
#define PKEYGUARD_VARIANT_ throwing
#else
#define PKEYGUARD_VARIANT_ aborting
#endif

#pragma GCC visibility push(default)
namespace pkeyguard
{

/*
 * The category of the library's errors, "pkeyguard". message() is pkeyguard_strerror()'s text. A
 * value is an errno, and its default condition is the same value in std::generic_category().
 */
class error_category final : public std::error_category
{
public:
    const char *name() const noexcept override { return "pkeyguard"; }

    std::string message(int value) const override { return pkeyguard_strerror(-value); }

    std::error_condition default_error_condition(int value) const noexcept override
    {
        return {value, std::generic_category()};
    }
};

/* The one object of that class. It is never destroyed, because other destructors may use it. */
inline const std::error_category &category() noexcept
{
    static const error_category &instance = *new error_category;

    return instance;
}

/* The error of a C function's result: 0 or -errno. */
inline std::error_code make_error_code(int result) noexcept
{
    return result == 0 ? std::error_code() : std::error_code(-result, category());
}

/* What this library throws, but for std::bad_alloc (containers.hpp). */
class error : public std::system_error
{
public:
    error(int result, const char *what) : std::system_error(make_error_code(result), what) {}
};

inline namespace PKEYGUARD_VARIANT_
{

namespace detail
{

/* Prints "libpkeyguard: WHAT: TEXT" on stderr and aborts. */
[[noreturn]] inline void die(int result, const char *what) noexcept
{
    std::fprintf(stderr, "libpkeyguard: %s: %s\n", what, pkeyguard_strerror(result));
    std::abort();
}

/* Throws an error; with -fno-exceptions it prints the error and aborts. */
[[noreturn]] inline void raise(int result, const char *what)
{
#ifdef __cpp_exceptions
    throw error(result, what);
#else
    die(result, what);
#endif
}

} // namespace detail

/* Throws the error of a C function's result, if it is not 0. */
inline void check(int result, const char *what = "call of the library")
{
    if (result != 0)
        detail::raise(result, what);
}

} // namespace PKEYGUARD_VARIANT_
} // namespace pkeyguard
#pragma GCC visibility pop

#endif
