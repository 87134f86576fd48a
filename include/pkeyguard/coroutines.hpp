/* SPDX-License-Identifier: MIT */
/*
 * coroutines.hpp - rights that stay with their coroutine (C++20)
 */
#ifndef PKEYGUARD_COROUTINES_HPP
#define PKEYGUARD_COROUTINES_HPP

#if __cplusplus >= 202002L
#include <coroutine>
#endif

#ifdef __cpp_lib_coroutine

#include <utility>

#include <pkeyguard/errors.hpp>

#pragma GCC visibility push(default)
namespace pkeyguard
{
inline namespace PKEYGUARD_VARIANT_
{

namespace detail
{

/* What `co_await awaitable` calls await_ready(), await_suspend() and await_resume() of. */
template <typename Awaitable> decltype(auto) awaiter_of(Awaitable &&awaitable)
{
    if constexpr (requires { std::forward<Awaitable>(awaitable).operator co_await(); })
        return std::forward<Awaitable>(awaitable).operator co_await();
    else if constexpr (requires { operator co_await(std::forward<Awaitable>(awaitable)); })
        return operator co_await(std::forward<Awaitable>(awaitable));
    else
        return std::forward<Awaitable>(awaitable);
}

} // namespace detail

/*
 * Rights of a coroutine of its own.
 *
 *     task serve(pkeyguard::region &vault)
 *     {
 *         pkeyguard::coroutine_rights rights;
 *         pkeyguard::write_scope<secret> view(vault);
 *
 *         co_await rights.keep(socket.read());
 *         view->counter++;
 *     }
 *
 * Without it a co_await inside a scope leaks: whoever resumed the coroutine goes on with its scopes
 * open, and the thread that resumes it next may have them closed.
 *
 * Declare it first in the coroutine. From there on the coroutine has the default rights on every
 * key and what its own guards open, and nothing that is open in its caller. keep() makes an
 * awaitable of an awaitable: while the coroutine is suspended, its thread has the rights of the
 * code that called or resumed the coroutine; after it, the coroutine has its own again, in whatever
 * thread it is resumed. The object's end gives the resumer its rights back. A suspended coroutine
 * may be destroyed in any thread: its guards are released under its own rights.
 *
 * While the object exists every co_await needs keep(), and there must be no co_yield. The result of
 * keep() must be awaited in the same expression. The awaitable's await_ready() and await_resume()
 * run with the coroutine's rights, await_suspend() with those of its resumer: it cannot reach what
 * the coroutine has open.
 *
 * The calls of pkeyguard_thread_switch() behind it can fail only for a virtual key that was open in
 * the coroutine or its resumer. Then they print one line on stderr and abort. Under mprotect the
 * rights belong to the process: what a suspended coroutine has open stays open.
 */
class coroutine_rights
{
public:
    coroutine_rights() noexcept { enter(); }

    coroutine_rights(const coroutine_rights &) = delete;
    coroutine_rights &operator=(const coroutine_rights &) = delete;

    ~coroutine_rights() { leave(); }

    template <typename Awaitable> class kept;

    template <typename Awaitable> [[nodiscard]] kept<Awaitable> keep(Awaitable &&awaitable)
    {
        return kept<Awaitable>(*this, std::forward<Awaitable>(awaitable));
    }

private:
    /* Changes from the resumer's rights to the coroutine's. */
    void enter() noexcept { change(resumers_, own_); }

    void leave() noexcept { change(own_, resumers_); }

    static void change(pkeyguard_thread_rights &from, const pkeyguard_thread_rights &to) noexcept
    {
        int result = pkeyguard_thread_switch(&from, &to);

        if (result != 0)
            detail::die(result, "cannot change to the rights of a coroutine or its resumer");
    }

    pkeyguard_thread_rights own_{};
    pkeyguard_thread_rights resumers_{};
};

/* What keep() returns. */
template <typename Awaitable> class coroutine_rights::kept
{
public:
    kept(coroutine_rights &rights, Awaitable &&awaitable)
        : rights_(rights), awaiter_(detail::awaiter_of(std::forward<Awaitable>(awaitable)))
    {
    }

    kept(const kept &) = delete;
    kept &operator=(const kept &) = delete;

    /* The coroutine is destroyed while it is suspended, or await_suspend() has thrown. */
    ~kept()
    {
        if (suspended_)
            rights_.enter();
    }

    bool await_ready() { return static_cast<bool>(awaiter_.await_ready()); }

    /* The coroutine may be resumed in another thread before the awaiter's function returns, so
     * nothing is touched after it. */
    template <typename Promise>
    decltype(auto) await_suspend(std::coroutine_handle<Promise> coroutine)
    {
        suspended_ = true;
        rights_.leave();
        return awaiter_.await_suspend(coroutine);
    }

    decltype(auto) await_resume()
    {
        if (std::exchange(suspended_, false))
            rights_.enter();
        return awaiter_.await_resume();
    }

private:
    coroutine_rights &rights_;
    decltype(detail::awaiter_of(std::declval<Awaitable>())) awaiter_;
    bool suspended_ = false;
};

} // namespace PKEYGUARD_VARIANT_
} // namespace pkeyguard
#pragma GCC visibility pop

#endif
#endif
