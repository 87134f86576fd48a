/* SPDX-License-Identifier: MIT */
/* Containers of the C++ library in a heap. */
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "test_cplusplus.hpp"

using pkeyguard::heap_allocator;
using pkeyguard::heap_resource;
template <typename T> using vector_in_heap = std::vector<T, heap_allocator<T>>;

/* One heap with a key of its own. */
static pkeyguard::key key;
static pkeyguard::heap heap;

static void set_up()
{
    key = pkeyguard::key(PKEYGUARD_NO_ACCESS);
    heap = pkeyguard::heap(key, 1 << 20);
}

static void tear_down()
{
    heap.destroy();
    key.destroy();
}

static pkeyguard::guard open_heap()
{
    return pkeyguard::guard(heap.region(), PKEYGUARD_READ_WRITE);
}

static bool is_live(const void *object)
{
    return pkeyguard_heap_usable_size(heap, object) != 0;
}

static const char long_text[] = "a text that is too long to lie in the string itself";

START_TEST(pmr_containers_lie_in_the_heap)
{
    heap_resource memory(heap);
    pkeyguard::guard guard = open_heap();
    std::pmr::vector<int> numbers({1, 2, 3}, &memory);
    std::pmr::map<int, std::pmr::string> texts(&memory);
    const char *text = texts.emplace(7, long_text).first->second.c_str();

    ck_assert(pkeyguard_heap_owns(heap, numbers.data()));
    ck_assert(pkeyguard_heap_owns(heap, text));
    guard.release();
    assert_open_for(PKEYGUARD_NO_ACCESS, numbers.data(), key);
    assert_open_for(PKEYGUARD_NO_ACCESS, text, key);
    guard = open_heap();
    ck_assert_str_eq(texts[7].c_str(), long_text);
    ck_assert_int_eq(numbers.back(), 3);
}
END_TEST

START_TEST(containers_of_every_kind_take_the_allocator)
{
    heap_allocator<int> allocator(heap);
    pkeyguard::guard guard = open_heap();
    vector_in_heap<int> numbers({1, 2, 3}, allocator);
    std::list<int, heap_allocator<int>> list({4, 5}, allocator);
    std::map<int, int, std::less<>, heap_allocator<std::pair<const int, int>>> map(allocator);
    std::basic_string<char, std::char_traits<char>, heap_allocator<char>> text(long_text,
                                                                               allocator);
    auto shared = std::allocate_shared<secret>(allocator);

    map[6] = 7;
    for (const void *object :
         {static_cast<const void *>(numbers.data()), static_cast<const void *>(&list.front()),
          static_cast<const void *>(&map[6]), static_cast<const void *>(text.data()),
          static_cast<const void *>(shared.get())})
        ck_assert(pkeyguard_heap_owns(heap, object));
    guard.release();
    assert_open_for(PKEYGUARD_NO_ACCESS, shared.get(), key);
    guard = open_heap();
    ck_assert_int_eq(list.back() + map[6], 12);
}
END_TEST

START_TEST(memory_is_allocated_and_freed_while_the_heap_is_closed)
{
    heap_resource memory(heap);
    const void *of_resource, *of_allocator;

    {
        std::pmr::vector<int> numbers(&memory);
        vector_in_heap<int> others{heap_allocator<int>(heap)};

        numbers.reserve(100);
        others.reserve(100);
        of_resource = numbers.data();
        of_allocator = others.data();
        ck_assert(is_live(of_resource));
        ck_assert(is_live(of_allocator));
        assert_open_for(PKEYGUARD_NO_ACCESS, of_resource, key);
    }
    ck_assert(!is_live(of_resource));
    ck_assert(!is_live(of_allocator));
    assert_open_for(PKEYGUARD_NO_ACCESS, of_resource, key);
}
END_TEST

/* The call throws std::bad_alloc. */
template <typename Call> static void assert_no_room(Call call)
{
    bool thrown = false;

    try {
        call();
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    ck_assert(thrown);
}

START_TEST(heap_without_room_throws_bad_alloc)
{
    heap_resource memory(heap);
    heap_allocator<int> allocator(heap);
    std::pmr::vector<char> numbers(&memory);

    assert_no_room([&] { numbers.reserve(2 << 20); });
    assert_no_room([&] { (void)allocator.allocate(1 << 20); });
    assert_no_room([&] { (void)allocator.allocate(SIZE_MAX / sizeof(int) + 2); });
    numbers.reserve(1 << 10);
    ck_assert(is_live(numbers.data()));
}
END_TEST

START_TEST(other_errors_throw_the_librarys_exception)
{
    heap_resource memory(nullptr);

    assert_throws(std::errc::invalid_argument, [&] { (void)memory.allocate(1); });
    assert_throws(std::errc::invalid_argument,
                  [] { (void)heap_allocator<int>(nullptr).allocate(1); });
}
END_TEST

START_TEST(alignment_is_what_the_type_needs)
{
    struct alignas(2 * PAGE_BYTES) wide {
        char byte;
    };
    heap_resource memory(heap);
    heap_allocator<wide> allocator(heap);

    /* Behind an object of one page, one of the two rounds would find memory that is not aligned. */
    for (int i = 0; i < 2; i++) {
        void *of_resource = memory.allocate(1, 1024);
        wide *of_allocator = allocator.allocate(1);
        void *of_one_page = memory.allocate(PAGE_BYTES);

        ck_assert_uint_eq(reinterpret_cast<uintptr_t>(of_resource) % 1024, 0);
        ck_assert_uint_eq(reinterpret_cast<uintptr_t>(of_allocator) % alignof(wide), 0);
        ck_assert_uint_eq(reinterpret_cast<uintptr_t>(of_one_page) % PAGE_BYTES, 0);
    }
}
END_TEST

static void free_twice(void *by_resource)
{
    heap_resource memory(heap);
    heap_allocator<char> allocator(heap);
    char *object = allocator.allocate(10);

    allocator.deallocate(object, 10);
    if (by_resource != nullptr)
        memory.deallocate(object, 10);
    else
        allocator.deallocate(object, 10);
}

START_TEST(double_free_aborts)
{
    std::string line = std::string("libpkeyguard: cannot free an object of a heap: ") +
                       pkeyguard_strerror(-EINVAL) + "\n";

    assert_aborts(free_twice, nullptr, line.c_str());
    assert_aborts(free_twice, &heap, line.c_str());
}
END_TEST

START_TEST(moved_container_takes_its_heap_along)
{
    pkeyguard::heap other(key, 1 << 16);
    pkeyguard::guard guard(key, PKEYGUARD_READ_WRITE);
    vector_in_heap<int> numbers({1, 2, 3}, heap_allocator<int>(heap));
    vector_in_heap<int> target{heap_allocator<int>(other)}, copy({0}, heap_allocator<int>(other));
    const int *data = numbers.data();

    copy = numbers;
    ck_assert(copy == numbers && pkeyguard_heap_owns(other, copy.data()));
    target = std::move(numbers);
    ck_assert_ptr_eq(target.data(), data);
    ck_assert(target.get_allocator() == heap_allocator<char>(heap));
    std::swap(target, copy);
    ck_assert_ptr_eq(copy.data(), data);
    ck_assert(target.get_allocator() != heap_allocator<char>(heap));
}
END_TEST

START_TEST(resource_is_equal_to_itself_alone)
{
    heap_resource memory(heap), other(heap);

    ck_assert(memory == memory);
    ck_assert(memory != other);
}
END_TEST

void add_containers(Suite *suite)
{
    TCase *tests = add_case(suite, "containers", set_up, tear_down);

    tcase_add_test(tests, pmr_containers_lie_in_the_heap);
    tcase_add_test(tests, containers_of_every_kind_take_the_allocator);
    tcase_add_test(tests, memory_is_allocated_and_freed_while_the_heap_is_closed);
    tcase_add_test(tests, heap_without_room_throws_bad_alloc);
    tcase_add_test(tests, other_errors_throw_the_librarys_exception);
    tcase_add_test(tests, alignment_is_what_the_type_needs);
    tcase_add_test(tests, double_free_aborts);
    tcase_add_test(tests, moved_container_takes_its_heap_along);
    tcase_add_test(tests, resource_is_equal_to_itself_alone);
}
