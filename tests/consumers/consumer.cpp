// SPDX-License-Identifier: MIT
// A user's program in C++17. An exception closes the scope that it leaves.
#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <sys/mman.h>

#include <pkeyguard.h>

namespace
{
struct Secret {
    int number;
};

void throw_inside(pkeyguard_region *region)
{
    pkeyguard_scoped_write (Secret, secret, region) {
        secret->number = 123;
        throw std::runtime_error("out of the scope");
    }
}

// Asks the kernel: a system call on a closed region fails with EFAULT and does not fault.
bool is_open(pkeyguard_region *region)
{
    FILE *null = std::fopen("/dev/zero", "r");
    std::setvbuf(null, nullptr, _IONBF, 0);
    bool open = std::fread(pkeyguard_region_unsafe_address(region), 1, 1, null) == 1;
    std::fclose(null);
    return open;
}
} // namespace

int main()
{
    pkeyguard_key *key;
    pkeyguard_region *region;
    bool thrown = false;

    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0 ||
        pkeyguard_region_create(key, sizeof(Secret), PROT_READ | PROT_WRITE, 0, &region) != 0)
        return 1;
    try {
        throw_inside(region);
    } catch (const std::runtime_error &) {
        thrown = !is_open(region);
    }
    pkeyguard_auto_read(Secret, secret, region);
    bool too_large_refused = false;
    pkeyguard_try_scoped_read (char[5000], bytes, region) {
        return 1;
    } else {
        too_large_refused = errno == EINVAL;
    }
    unsigned bytes_seen = 0;
    pkeyguard_scoped_read_bytes (bytes, region, secret, sizeof(Secret)) {
        bytes_seen = bytes[0];
    }
    std::printf("C++, libpkeyguard %s: %d\n", pkeyguard_version(), secret->number);
    return thrown && too_large_refused && secret->number == 123 && bytes_seen == 123 ? 0 : 1;
}
