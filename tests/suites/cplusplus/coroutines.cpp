/* SPDX-License-Identifier: MIT */
/*
 * Rights that stay with their coroutine.
 *
 * Under mprotect the rights belong to the process. There a test only checks that the coroutine can
 * reach what it has open, and that everything is closed at the end.
 */
#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "test_cplusplus.hpp"

using pkeyguard::coroutine_rights;
using pkeyguard::read_scope;
using pkeyguard::write_scope;

/* A coroutine that starts when it is resumed or awaited, and then resumes who awaited it. */
class task
{
public:
    struct promise_type {
        std::coroutine_handle<> awaiting = std::noop_coroutine();
        std::exception_ptr thrown;

        struct resume_awaiting {
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<>
            await_suspend(std::coroutine_handle<promise_type> ended) noexcept
            {
                return ended.promise().awaiting;
            }
            void await_resume() noexcept {}
        };

        task get_return_object()
        {
            return task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        resume_awaiting final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { thrown = std::current_exception(); }
    };

    explicit task(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
    task(task &&other) : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
    ~task() { destroy(); }

    void destroy()
    {
        if (coroutine_)
            std::exchange(coroutine_, nullptr).destroy();
    }

    /* Returns true until the coroutine has ended. Throws what the coroutine has thrown. */
    bool resume()
    {
        coroutine_.resume();
        if (coroutine_.promise().thrown)
            std::rethrow_exception(coroutine_.promise().thrown);
        return !coroutine_.done();
    }

    bool await_ready() { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting)
    {
        coroutine_.promise().awaiting = awaiting;
        return coroutine_;
    }
    void await_resume() {}

private:
    std::coroutine_handle<promise_type> coroutine_;
};

/* Regions with keys of their own, of the kind that the round of the test is for. */
struct vault {
    explicit vault(int round)
        : key(PKEYGUARD_NO_ACCESS, key_kinds[round]), region(key, sizeof(secret))
    {
    }

    pkeyguard::key key;
    pkeyguard::region region;
};

static void assert_open_under_pku(pkeyguard_rights rights, const vault &vault)
{
    if (pkeyguard_key_enforcement(vault.key) == PKEYGUARD_PKU)
        assert_open_for(rights, vault.region);
}

static void assert_closed(const vault &vault)
{
    assert_open_for(PKEYGUARD_NO_ACCESS, vault.region);
}

/* Runs it in a thread of its own, which began with everything closed. */
static void in_a_thread(std::function<void()> work)
{
    std::thread(std::move(work)).join();
}

/* Suspends a coroutine until someone resumes paused. */
static std::coroutine_handle<> paused;
struct pausing {
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> coroutine) { paused = coroutine; }
    void await_resume() {}
};

static task write_with_pauses(const vault &own, const vault &others, int pauses)
{
    coroutine_rights rights;
    write_scope<secret> view(own.region);

    for (int i = 0; i < pauses; i++) {
        view->number++;
        co_await rights.keep(pausing());
        assert_open_for(PKEYGUARD_READ_WRITE, own.region);
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, others);
        ck_assert_int_eq(view->number, i + 1);
    }
}

START_TEST(two_coroutines_have_their_own_scopes_open)
{
    vault first(_i), second(_i);
    task of_first = write_with_pauses(first, second, 3);
    task of_second = write_with_pauses(second, first, 3);
    bool goes_on = true;

    while (goes_on) {
        goes_on = of_first.resume();
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, first);
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, second);
        of_second.resume();
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, first);
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, second);
    }
    assert_closed(first);
    assert_closed(second);
}
END_TEST

/* What the tests above would see without keep(). */
static task pause_without_keep(const vault &vault)
{
    write_scope<secret> view(vault.region);

    co_await pausing();
}

START_TEST(without_its_rights_a_coroutine_leaks_its_scopes)
{
    vault vault(0);
    task coroutine = pause_without_keep(vault);

    ck_assert(coroutine.resume());
    assert_open_for(PKEYGUARD_READ_WRITE, vault.region);
    ck_assert(!coroutine.resume());
    assert_closed(vault);
}
END_TEST

START_TEST(resumer_keeps_its_own_scopes)
{
    vault resumers(_i), coroutines(_i);
    task coroutine = write_with_pauses(coroutines, resumers, 2);

    {
        read_scope<secret> view(resumers.region);

        ck_assert(coroutine.resume());
        assert_open_for(PKEYGUARD_READ_ONLY, resumers.region);
    }
    ck_assert(coroutine.resume());
    assert_closed(resumers);
    {
        write_scope<secret> view(resumers.region);

        ck_assert(!coroutine.resume());
        view->number = 1;
        assert_open_for(PKEYGUARD_READ_WRITE, resumers.region);
    }
    assert_closed(resumers);
    assert_closed(coroutines);
}
END_TEST

START_TEST(coroutine_goes_on_in_another_thread)
{
    vault own(_i), others(_i);
    task coroutine = write_with_pauses(own, others, 3);

    ck_assert(coroutine.resume());
    for (bool goes_on = true; goes_on;)
        in_a_thread([&] {
            goes_on = coroutine.resume();
            assert_open_under_pku(PKEYGUARD_NO_ACCESS, own);
        });
    assert_closed(own);
}
END_TEST

START_TEST(suspended_coroutine_is_destroyed_under_its_own_rights)
{
    vault own(_i), others(_i);
    task coroutine = write_with_pauses(own, others, 3);
    task elsewhere = write_with_pauses(others, own, 3);

    ck_assert(coroutine.resume());
    {
        write_scope<secret> view(own.region), other(others.region);

        coroutine.destroy();
        assert_open_for(PKEYGUARD_READ_WRITE, own.region);
        assert_open_for(PKEYGUARD_READ_WRITE, others.region);
    }
    assert_closed(own);
    assert_closed(others);

    ck_assert(elsewhere.resume());
    in_a_thread([&] { elsewhere.destroy(); });
    assert_closed(others);
}
END_TEST

static task throw_with_a_scope_open(const vault &vault)
{
    coroutine_rights rights;
    write_scope<secret> view(vault.region);

    co_await rights.keep(pausing());
    throw std::runtime_error("out of the coroutine");
}

START_TEST(exception_out_of_a_coroutine_gives_the_resumer_its_rights_back)
{
    vault own(_i), resumers(_i);
    task coroutine = throw_with_a_scope_open(own);
    read_scope<secret> view(resumers.region);
    bool thrown = false;

    ck_assert(coroutine.resume());
    try {
        coroutine.resume();
    } catch (const std::runtime_error &) {
        thrown = true;
    }
    ck_assert(thrown);
    assert_open_for(PKEYGUARD_READ_ONLY, resumers.region);
    assert_closed(own);
}
END_TEST

/* An awaitable that cannot be awaited. */
struct failing {
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<>) { throw std::runtime_error("cannot suspend"); }
    void await_resume() {}
};

static task survive_a_failure(const vault &vault, bool &survived)
{
    coroutine_rights rights;
    write_scope<secret> view(vault.region);

    try {
        co_await rights.keep(failing());
    } catch (const std::runtime_error &) {
        view->number = 1;
        survived = true;
    }
    assert_open_for(PKEYGUARD_READ_WRITE, vault.region);
}

START_TEST(coroutine_has_its_rights_after_a_failed_suspension)
{
    vault own(_i), resumers(_i);
    bool survived = false;
    task coroutine = survive_a_failure(own, survived);
    read_scope<secret> view(resumers.region);

    ck_assert(!coroutine.resume());
    ck_assert(survived);
    assert_open_for(PKEYGUARD_READ_ONLY, resumers.region);
    assert_closed(own);
}
END_TEST

/* Awaitables of every kind. They count how often the coroutine was suspended. */
struct answer {
    int value;
};
struct counting {
    int &suspended;
    bool ready, stays;

    bool await_ready() { return ready; }
    bool await_suspend(std::coroutine_handle<>)
    {
        suspended++;
        return stays;
    }
    answer await_resume() { return {42}; }
};
struct by_member {
    counting awaiter;

    counting operator co_await() { return awaiter; }
};
struct by_function {
    counting awaiter;
};
static counting operator co_await(by_function awaitable)
{
    return awaitable.awaiter;
}
struct by_reference {
    std::unique_ptr<int> owned;

    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<>) {}
    std::unique_ptr<int> &await_resume() { return owned; }
};

static task await_every_kind(const vault &vault, int &suspended, bool &ended)
{
    coroutine_rights rights;
    write_scope<secret> view(vault.region);
    counting ready{suspended, true, false}, stays{suspended, false, true};
    by_reference reference{std::make_unique<int>(7)};

    ck_assert_int_eq((co_await rights.keep(ready)).value, 42);
    ck_assert_int_eq(suspended, 0);
    ck_assert_int_eq((co_await rights.keep(counting{suspended, false, false})).value, 42);
    ck_assert_int_eq(suspended, 1);
    assert_open_for(PKEYGUARD_READ_WRITE, vault.region);
    ck_assert_int_eq((co_await rights.keep(stays)).value, 42);
    ck_assert_int_eq((co_await rights.keep(by_member{stays})).value, 42);
    ck_assert_int_eq((co_await rights.keep(by_function{stays})).value, 42);
    ck_assert_int_eq(suspended, 4);
    ck_assert_ptr_eq(&co_await rights.keep(reference), &reference.owned);
    view->number = 1;
    ended = true;
}

START_TEST(every_kind_of_awaitable_is_kept)
{
    vault own(_i);
    int suspended = 0, pauses = 0;
    bool ended = false;
    task coroutine = await_every_kind(own, suspended, ended);

    for (; coroutine.resume(); pauses++)
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, own);
    ck_assert(ended);
    ck_assert_int_eq(pauses, 4);
    assert_closed(own);
}
END_TEST

static task await_a_coroutine(const vault &own, const vault &childs, int &steps)
{
    coroutine_rights rights;
    write_scope<secret> view(own.region);

    co_await rights.keep(write_with_pauses(childs, own, 2));
    assert_open_for(PKEYGUARD_READ_WRITE, own.region);
    assert_open_under_pku(PKEYGUARD_NO_ACCESS, childs);
    view->number = ++steps;
}

/* By symmetric transfer: the child is resumed by who resumed its parent, and resumes the parent. */
START_TEST(coroutine_that_awaits_another_has_rights_of_its_own)
{
    vault own(_i), childs(_i), resumers(_i);
    int steps = 0;
    task coroutine = await_a_coroutine(own, childs, steps);
    read_scope<secret> view(resumers.region);

    coroutine.resume();
    for (int pauses = 0; pauses < 2; pauses++) {
        ck_assert_int_eq(steps, 0);
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, own);
        assert_open_under_pku(PKEYGUARD_NO_ACCESS, childs);
        assert_open_for(PKEYGUARD_READ_ONLY, resumers.region);
        paused.resume();
    }
    ck_assert_int_eq(steps, 1);
    assert_open_for(PKEYGUARD_READ_ONLY, resumers.region);
    assert_closed(own);
    assert_closed(childs);
}
END_TEST

/* Another thread resumes the coroutine, which ends there, before await_suspend() returns. */
struct resumed_elsewhere {
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> coroutine)
    {
        in_a_thread([coroutine] { coroutine.resume(); });
    }
    void await_resume() {}
};

static task end_elsewhere(const vault &own, const vault &resumers)
{
    coroutine_rights rights;
    write_scope<secret> view(own.region);

    co_await rights.keep(resumed_elsewhere());
    assert_open_for(PKEYGUARD_READ_WRITE, own.region);
    assert_open_under_pku(PKEYGUARD_NO_ACCESS, resumers);
}

START_TEST(coroutine_may_be_resumed_while_it_is_being_suspended)
{
    vault own(_i), resumers(_i);
    task coroutine = end_elsewhere(own, resumers);
    write_scope<secret> view(resumers.region);

    ck_assert(!coroutine.resume());
    assert_open_for(PKEYGUARD_READ_WRITE, resumers.region);
    assert_closed(own);
}
END_TEST

/* Opens new virtual keys until no pkey is left. */
static void pin_every_pkey(std::vector<pkeyguard::key> &keys, std::vector<pkeyguard::guard> &guards)
{
    std::error_code error;

    while (!error) {
        keys.emplace_back(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        guards.emplace_back(keys.back(), PKEYGUARD_READ_WRITE, error);
    }
    ck_assert(error == std::errc::device_or_resource_busy);
}

static void resume_paused(void *unused)
{
    (void)unused;
    paused.resume();
}

START_TEST(suspended_coroutine_pins_no_pkey)
{
    constexpr int of_virtual_keys = 2;
    vault own(of_virtual_keys), others(of_virtual_keys);
    std::vector<pkeyguard::key> keys;
    std::vector<pkeyguard::guard> guards;
    std::string line = "libpkeyguard: cannot change to the rights of a coroutine or its resumer: ";
    task coroutine = write_with_pauses(own, others, 2);

    ck_assert(coroutine.resume());
    pin_every_pkey(keys, guards);
    ck_assert_int_eq(pkeyguard_key_number(own.key), -1);
    line += pkeyguard_strerror(-EBUSY);
    assert_aborts(resume_paused, nullptr, (line + "\n").c_str());
    guards.front().release();
    ck_assert(coroutine.resume());
    assert_closed(own);
    ck_assert(!coroutine.resume());
    assert_closed(own);
}
END_TEST

void add_coroutines(Suite *suite)
{
    TCase *tests = add_case(suite, "coroutines", nullptr, nullptr);

    tcase_add_loop_test(tests, two_coroutines_have_their_own_scopes_open, 0, count_of_key_kinds);
    add_pku_test(tests, without_its_rights_a_coroutine_leaks_its_scopes);
    tcase_add_loop_test(tests, resumer_keeps_its_own_scopes, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, coroutine_goes_on_in_another_thread, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, suspended_coroutine_is_destroyed_under_its_own_rights, 0,
                        count_of_key_kinds);
    tcase_add_loop_test(tests, exception_out_of_a_coroutine_gives_the_resumer_its_rights_back, 0,
                        count_of_key_kinds);
    tcase_add_loop_test(tests, coroutine_has_its_rights_after_a_failed_suspension, 0,
                        count_of_key_kinds);
    tcase_add_loop_test(tests, every_kind_of_awaitable_is_kept, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, coroutine_that_awaits_another_has_rights_of_its_own, 0,
                        count_of_key_kinds);
    tcase_add_loop_test(tests, coroutine_may_be_resumed_while_it_is_being_suspended, 0,
                        count_of_key_kinds);
    add_pku_test(tests, suspended_coroutine_pins_no_pkey);
}
