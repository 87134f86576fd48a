/* SPDX-License-Identifier: MIT */
/*
 * scopes.hpp - guards and views that close at the end of a block
 */
#ifndef PKEYGUARD_SCOPES_HPP
#define PKEYGUARD_SCOPES_HPP

#include <cerrno>
#include <system_error>
#include <type_traits>
#include <utility>

#include <pkeyguard/handles.hpp>

/* On a function that returns a reference: clang warns where the reference outlives the object. */
#ifdef __clang__
#define PKEYGUARD_LIFETIMEBOUND_ [[clang::lifetimebound]]
#else
#define PKEYGUARD_LIFETIMEBOUND_
#endif

#pragma GCC visibility push(default)
namespace pkeyguard
{
inline namespace PKEYGUARD_VARIANT_
{

namespace detail
{

inline int acquire_timed(pkeyguard_region *region, pkeyguard_rights rights, unsigned milliseconds,
                         pkeyguard_guard *ret_guard) noexcept
{
#ifdef PKEYGUARD_DEBUG
    return pkeyguard_acquire_timed_at(region, rights, milliseconds, ret_guard, nullptr);
#else
    return pkeyguard_acquire_timed(region, rights, milliseconds, ret_guard);
#endif
}

inline int acquire_timed(pkeyguard_key *key, pkeyguard_rights rights, unsigned milliseconds,
                         pkeyguard_guard *ret_guard) noexcept
{
#ifdef PKEYGUARD_DEBUG
    return pkeyguard_key_acquire_timed_at(key, rights, milliseconds, ret_guard, nullptr);
#else
    return pkeyguard_key_acquire_timed(key, rights, milliseconds, ret_guard);
#endif
}

} // namespace detail

/*
 * A move-only guard (guard.h). Its thread must also release it. After a move the order of release
 * is the program's to keep: see "The rules" of guard.h.
 *
 * The constructors do as pkeyguard_acquire() and pkeyguard_key_acquire(): they do not wait for a
 * virtual key. With milliseconds they do as pkeyguard_acquire_timed() and
 * pkeyguard_key_acquire_timed(): they wait so long.
 */
class [[nodiscard]] guard
{
public:
    guard() noexcept = default;

    /* Takes over what a C function acquired, as pkeyguard_acquire_timed() and _acquire_all() do. */
    explicit guard(const pkeyguard_guard &acquired) noexcept : guard_(acquired) {}

    guard(pkeyguard_region *region, pkeyguard_rights rights)
    {
        check(pkeyguard_acquire_at(region, rights, &guard_, nullptr), "cannot open a region");
    }

    guard(pkeyguard_region *region, pkeyguard_rights rights, std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(pkeyguard_acquire_at(region, rights, &guard_, nullptr));
    }

    guard(pkeyguard_key *key, pkeyguard_rights rights)
    {
        check(pkeyguard_key_acquire_at(key, rights, &guard_, nullptr), "cannot open a key");
    }

    guard(pkeyguard_key *key, pkeyguard_rights rights, std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(pkeyguard_key_acquire_at(key, rights, &guard_, nullptr));
    }

    guard(pkeyguard_region *region, pkeyguard_rights rights, unsigned milliseconds)
    {
        check(detail::acquire_timed(region, rights, milliseconds, &guard_), "cannot open a region");
    }

    guard(pkeyguard_region *region, pkeyguard_rights rights, unsigned milliseconds,
          std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(detail::acquire_timed(region, rights, milliseconds, &guard_));
    }

    guard(pkeyguard_key *key, pkeyguard_rights rights, unsigned milliseconds)
    {
        check(detail::acquire_timed(key, rights, milliseconds, &guard_), "cannot open a key");
    }

    guard(pkeyguard_key *key, pkeyguard_rights rights, unsigned milliseconds,
          std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(detail::acquire_timed(key, rights, milliseconds, &guard_));
    }

    /* A guard that narrows: pkeyguard_restrict(). */
    static guard restricted(pkeyguard_region *region, pkeyguard_rights rights)
    {
        std::error_code failure;
        guard narrowing = restricted(region, rights, failure);

        if (failure)
            detail::raise(-failure.value(), "cannot restrict a region");
        return narrowing;
    }

    static guard restricted(pkeyguard_region *region, pkeyguard_rights rights,
                            std::error_code &ret_error) noexcept
    {
        guard narrowing;

        ret_error =
            make_error_code(pkeyguard_restrict_at(region, rights, &narrowing.guard_, nullptr));
        return narrowing;
    }

    guard(guard &&other) noexcept : guard_(std::exchange(other.guard_, pkeyguard_guard{})) {}

    guard &operator=(guard &&other) noexcept
    {
        guard previous(std::exchange(guard_, std::exchange(other.guard_, pkeyguard_guard{})));

        return *this;
    }

    ~guard() { release(); }

    /* Gives back what the guard changed: pkeyguard_release(). */
    void release() noexcept { pkeyguard_release_at(&guard_, nullptr); }

private:
    pkeyguard_guard guard_{};
};

/*
 * A view of an object in a region, which is open as long as the view exists: read_scope<T> gives
 * const T &, write_scope<T> gives T &, or const T & if the view itself is const.
 *
 * The object lies at the region's start, or is given, as one from a heap. It is viewed, not
 * constructed: new memory is filled with zeros, and destroying the view destroys no object. The
 * checks are those of the scope macros (guard.h): the object lies wholly inside the region and is
 * aligned. Unlike those macros a view does not abort, and does not wait for a virtual key: with
 * more virtual keys than pkeys it can fail with EAGAIN or EBUSY. A guard with milliseconds, just
 * before the view, waits:
 *
 *     pkeyguard::guard open(session, PKEYGUARD_READ_WRITE, 1000);
 *     pkeyguard::write_scope<state> view(session);
 *
 * A view cannot be copied or moved. References and pointers that it gave must not be used after it:
 * an access through them faults. A view that is a temporary gives none.
 */
template <typename T, pkeyguard_rights rights> class [[nodiscard]] scope
{
    static_assert(rights == PKEYGUARD_READ_ONLY || rights == PKEYGUARD_READ_WRITE);

public:
    using object_type = std::conditional_t<rights == PKEYGUARD_READ_ONLY, const T, T>;

    explicit scope(pkeyguard_region *in_region) : object_(open(in_region))
    {
        if (object_ == nullptr)
            detail::raise(-errno, "cannot open a region");
    }

    scope(pkeyguard_region *in_region, std::error_code &ret_error) noexcept
        : object_(open(in_region))
    {
        ret_error = make_error_code(failure());
    }

    scope(pkeyguard_region *in_region, object_type *object) : object_(open(in_region, object))
    {
        if (object_ == nullptr)
            detail::raise(-errno, "cannot open a region");
    }

    scope(pkeyguard_region *in_region, object_type *object, std::error_code &ret_error) noexcept
        : object_(open(in_region, object))
    {
        ret_error = make_error_code(failure());
    }

    scope(const scope &) = delete;
    scope &operator=(const scope &) = delete;

    ~scope() { pkeyguard_release_at(&guard_, nullptr); }

    /* False after a failure; then the view must not be used. */
    explicit operator bool() const noexcept { return object_ != nullptr; }

    object_type &operator*() &noexcept PKEYGUARD_LIFETIMEBOUND_ { return *object_; }

    const T &operator*() const &noexcept PKEYGUARD_LIFETIMEBOUND_ { return *object_; }

    object_type *operator->() &noexcept PKEYGUARD_LIFETIMEBOUND_ { return object_; }

    const T *operator->() const &noexcept PKEYGUARD_LIFETIMEBOUND_ { return object_; }

    void operator*() && = delete;
    void operator->() && = delete;

private:
    static constexpr unsigned flags = PKEYGUARD_FLAGS_(T, rights);

    object_type *open(pkeyguard_region *in_region) noexcept
    {
        pkeyguard_guard_empty(&guard_);
        return static_cast<object_type *>(
            pkeyguard_scope_try_open(&guard_, in_region, sizeof(T), flags, nullptr));
    }

    object_type *open(pkeyguard_region *in_region, object_type *object) noexcept
    {
        pkeyguard_guard_empty(&guard_);
        return static_cast<object_type *>(
            pkeyguard_scope_try_open_at(&guard_, in_region, object, sizeof(T), flags, nullptr));
    }

    int failure() const noexcept { return object_ != nullptr ? 0 : -errno; }

    pkeyguard_guard guard_;
    object_type *object_;
};

/* The two kinds of scope. */
template <typename T> using read_scope = scope<T, PKEYGUARD_READ_ONLY>;
template <typename T> using write_scope = scope<T, PKEYGUARD_READ_WRITE>;

} // namespace PKEYGUARD_VARIANT_
} // namespace pkeyguard
#pragma GCC visibility pop

#endif
