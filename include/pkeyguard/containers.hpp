/* SPDX-License-Identifier: MIT */
/*
 * containers.hpp - memory of a heap for the containers of the C++ library
 */
#ifndef PKEYGUARD_CONTAINERS_HPP
#define PKEYGUARD_CONTAINERS_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <type_traits>

#include <pkeyguard/handles.hpp>

#pragma GCC visibility push(default)
namespace pkeyguard
{
inline namespace PKEYGUARD_VARIANT_
{

namespace detail
{

[[noreturn]] inline void raise_no_room()
{
#ifdef __cpp_exceptions
    throw std::bad_alloc();
#else
    die(-ENOMEM, "cannot allocate from a heap");
#endif
}

inline void *allocate_from(pkeyguard_heap *heap, std::size_t size, std::size_t alignment)
{
    void *object = pkeyguard_heap_aligned_alloc(heap, alignment, size);

    if (object == nullptr && errno == ENOMEM)
        raise_no_room();
    if (object == nullptr)
        raise(-errno, "cannot allocate from a heap");
    return object;
}

inline void free_in(pkeyguard_heap *heap, void *object) noexcept
{
    int result = pkeyguard_heap_free(heap, object);

    if (result == -EINVAL)
        die(result, "cannot free an object of a heap");
}

} // namespace detail

/*
 * Memory of a heap for the containers of std::pmr. The heap must exist as long as the memory is
 * used; the handle that owns it may be moved.
 *
 *     pkeyguard::heap_resource memory(heap);
 *     std::pmr::vector<int> numbers(&memory);
 *
 * Allocating and freeing work inside and outside scopes (heap.h). Everything else that reads or
 * writes elements needs a guard on the heap: so does the destructor of a container, unless its
 * elements lie in one piece and have nothing to destroy, as those of a vector of numbers. The
 * container itself, with its size and pointers, lies where it was declared, and a short string lies
 * in the std::string.
 *
 * allocate() throws std::bad_alloc if the heap has no room, and pkeyguard::error for the other
 * errors of pkeyguard_heap_alloc(). deallocate() prints one line on stderr and aborts if the memory
 * is no live object of the heap. If it cannot open the heap, the memory stays allocated until the
 * heap is destroyed. Resources are equal only to themselves.
 */
class heap_resource : public std::pmr::memory_resource
{
public:
    explicit heap_resource(pkeyguard_heap *heap) noexcept : heap_(heap) {}

private:
    void *do_allocate(std::size_t size, std::size_t alignment) override
    {
        return detail::allocate_from(heap_, size, alignment);
    }

    void do_deallocate(void *object, std::size_t, std::size_t) override
    {
        detail::free_in(heap_, object);
    }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
    {
        return this == &other;
    }

    pkeyguard_heap *heap_;
};

/*
 * The same as an allocator, for every container that takes one, and std::allocate_shared(). Here,
 * too, the destructor of a container needs a guard. As a member it is destroyed when the body of
 * its owner's destructor, with the guards there, has ended, so empty it in that body:
 *
 *     ~store()
 *     {
 *         pkeyguard::guard open(heap_region, PKEYGUARD_READ_WRITE);
 *         names.clear();
 *     }
 *
 * What the allocator allocates lies wholly in the heap: a std::shared_ptr of it can be copied only
 * while the heap is open. Allocators of one heap are equal. A container that is moved or swapped
 * takes its heap along; one that is assigned to by copying keeps its own.
 */
template <typename T> class heap_allocator
{
public:
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    explicit heap_allocator(pkeyguard_heap *in_heap) noexcept : heap_(in_heap) {}

    template <typename U>
    heap_allocator(const heap_allocator<U> &other) noexcept : heap_(other.get())
    {
    }

    pkeyguard_heap *get() const noexcept { return heap_; }

    T *allocate(std::size_t count)
    {
        if (count > PTRDIFF_MAX / sizeof(T))
            detail::raise_no_room();
        return static_cast<T *>(detail::allocate_from(heap_, count * sizeof(T), alignof(T)));
    }

    void deallocate(T *object, std::size_t) noexcept { detail::free_in(heap_, object); }

    template <typename U> bool operator==(const heap_allocator<U> &other) const noexcept
    {
        return heap_ == other.get();
    }

    template <typename U> bool operator!=(const heap_allocator<U> &other) const noexcept
    {
        return heap_ != other.get();
    }

private:
    pkeyguard_heap *heap_;
};

} // namespace PKEYGUARD_VARIANT_
} // namespace pkeyguard
#pragma GCC visibility pop

#endif
