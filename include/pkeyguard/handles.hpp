/* SPDX-License-Identifier: MIT */
/*
 * handles.hpp - keys, regions and heaps that destroy themselves
 */
#ifndef PKEYGUARD_HANDLES_HPP
#define PKEYGUARD_HANDLES_HPP

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include <sys/mman.h>

#include <pkeyguard/errors.hpp>

#pragma GCC visibility push(default)
namespace pkeyguard
{
inline namespace PKEYGUARD_VARIANT_
{

/*
 * A move-only owner of a key, region or heap.
 *
 * The destructor destroys the object. If the library refuses, as it does while a guard is open, the
 * object stays until the process ends, with its memory guarded as before. A SEALED region always
 * stays. Call destroy() to learn of errors.
 *
 * Destroy what uses the object before it: declare a key before its regions, a region before its
 * scopes.
 */
template <typename Object, int (*destroy_object)(Object *)> class handle
{
public:
    handle() noexcept = default;

    /* Takes over what a C function created, as pkeyguard_region_adopt() did. */
    explicit handle(Object *created) noexcept : object_(created) {}

    handle(handle &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}

    handle &operator=(handle &&other) noexcept
    {
        handle previous(std::exchange(object_, std::exchange(other.object_, nullptr)));

        return *this;
    }

    ~handle()
    {
        std::error_code ignored;

        destroy(ignored);
    }

    /* For the functions of C, and for what takes a pointer here. A temporary handle, which would
     * destroy the object too early, is refused. */
    operator Object *() const &noexcept { return object_; }

    operator Object *() && = delete;

    /* Destroys the object. After an error the handle still owns it, but for ESTALE, with which
     * adopted memory was given back. */
    void destroy()
    {
        std::error_code failure;

        destroy(failure);
        if (failure)
            detail::raise(-failure.value(), "cannot destroy");
    }

    void destroy(std::error_code &ret_error) noexcept
    {
        int result = destroy_object(object_);

        if (result == 0 || result == -ESTALE)
            object_ = nullptr;
        ret_error = make_error_code(result);
    }

protected:
    Object *object_ = nullptr;
};

/* Owns a key (key.h). The parameters are those of pkeyguard_key_create(). */
class key : public handle<pkeyguard_key, pkeyguard_key_destroy>
{
public:
    using handle::handle;

    explicit key(pkeyguard_rights default_rights, unsigned flags = 0)
    {
        check(pkeyguard_key_create(default_rights, flags, &object_), "cannot create a key");
    }

    key(pkeyguard_rights default_rights, unsigned flags, std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(pkeyguard_key_create(default_rights, flags, &object_));
    }
};

/* Owns a region (region.h). The parameters are those of pkeyguard_region_create(); with a key of
 * nullptr the region has a private software key. */
class region : public handle<pkeyguard_region, pkeyguard_region_destroy>
{
public:
    using handle::handle;

    region(pkeyguard_key *key, std::size_t size, int prot = PROT_READ | PROT_WRITE,
           unsigned flags = 0)
    {
        check(pkeyguard_region_create(key, size, prot, flags, &object_), "cannot create a region");
    }

    region(pkeyguard_key *key, std::size_t size, int prot, unsigned flags,
           std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(pkeyguard_region_create(key, size, prot, flags, &object_));
    }
};

/* Owns a heap (heap.h). The parameters are those of pkeyguard_heap_create(). */
class heap : public handle<pkeyguard_heap, pkeyguard_heap_destroy>
{
public:
    using handle::handle;

    heap(pkeyguard_key *key, std::size_t capacity, unsigned region_flags = 0)
    {
        check(pkeyguard_heap_create(key, capacity, region_flags, &object_), "cannot create a heap");
    }

    heap(pkeyguard_key *key, std::size_t capacity, unsigned region_flags,
         std::error_code &ret_error) noexcept
    {
        ret_error = make_error_code(pkeyguard_heap_create(key, capacity, region_flags, &object_));
    }

    /* What a guard or scope opens to reach the objects. */
    pkeyguard_region *region() const noexcept { return pkeyguard_heap_region(object_); }
};

} // namespace PKEYGUARD_VARIANT_
} // namespace pkeyguard
#pragma GCC visibility pop

#endif
