// SPDX-License-Identifier: MIT
// A user's program in C++17 with the library's classes.
#include <cstdio>
#include <vector>

#include <pkeyguard.hpp>

namespace
{
struct Secret {
    int number;
};
} // namespace

int main()
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS);
    pkeyguard::region region(key, sizeof(Secret));
    pkeyguard::heap heap(key, 1 << 16);
    pkeyguard::heap_resource memory(heap);
    std::pmr::vector<int> numbers(&memory);

    {
        pkeyguard::write_scope<Secret> secret(region);
        pkeyguard::guard guard(heap.region(), PKEYGUARD_READ_WRITE);

        secret->number = 123;
        numbers.push_back(secret->number);
    }
    bool too_large_refused = false;
    try {
        pkeyguard::read_scope<char[5000]> bytes(region);
    } catch (const pkeyguard::error &error) {
        too_large_refused = error.code() == std::errc::invalid_argument;
    }
    pkeyguard::guard guard(heap.region(), PKEYGUARD_READ_ONLY);
    std::printf("C++ classes, libpkeyguard %s: %d\n", pkeyguard_version(), numbers[0]);
    return too_large_refused && numbers[0] == 123 ? 0 : 1;
}
