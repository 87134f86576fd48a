/* SPDX-License-Identifier: MIT */
/* A binding of another language: it has no header, so it calls the exported symbols of the inline
 * functions. */
struct guard {
    _Alignas(8) char bytes[64];
};

int pkeyguard_key_create(int rights, unsigned flags, void **ret_key);
int pkeyguard_region_create(void *key, unsigned long size, int prot, unsigned flags, void **ret);
int pkeyguard_acquire(void *region, int rights, struct guard *ret_guard);
int pkeyguard_key_acquire(void *key, int rights, struct guard *ret_guard);
void pkeyguard_release(struct guard *guard);
void *pkeyguard_region_unsafe_address(void *region);

int main(void)
{
    struct guard guard, key_guard;
    void *key, *region;
    int seen;

    if (pkeyguard_key_create(1, 0, &key) != 0 ||
        pkeyguard_region_create(key, sizeof(int), 3, 0, &region) != 0 ||
        pkeyguard_acquire(region, 3, &guard) != 0 || pkeyguard_key_acquire(key, 2, &key_guard) != 0)
        return 1;
    *(int *)pkeyguard_region_unsafe_address(region) = 123;
    seen = *(int *)pkeyguard_region_unsafe_address(region);
    pkeyguard_release(&key_guard);
    pkeyguard_release(&guard);
    return seen == 123 ? 0 : 1;
}
