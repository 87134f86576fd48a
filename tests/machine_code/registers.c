/* SPDX-License-Identifier: MIT */
/*
 * The calls of the inline guards (arch/calls.h) leave the caller's registers and its red zone
 * alone: sums of many values that are live across a scope are the same as without one. registers.sh
 * compiles the program in many ways.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <pkeyguard.h>

enum { WHOLE = 14, FLOATS = 17, ZONE = 12, PAGE_RW = 3, PAGE = 4096 };

static struct pkeyguard_key *key;
static struct pkeyguard_region *region;
static long wholes[WHOLE];
static double floats[FLOATS];

/* Makes the compiler take these values for unknown, so that it keeps each in a register. */
#define HIDE_4(constraint, a, b, c, d) \
    __asm__ volatile(""                \
                     : "+" constraint(a), "+" constraint(b), "+" constraint(c), "+" constraint(d))

/*
 * A leaf function: it has no call, so compilers put `zone` into the red zone. More values are live
 * across the scope than there are registers. `flag` is in the flags, if the compiler likes.
 */
#define DEFINE_SUM(name, use)                                                                      \
    __attribute__((noinline)) static double name(long n)                                           \
    {                                                                                              \
        const long *w = wholes;                                                                    \
        const double *f = floats;                                                                  \
        long a = w[0] + n, b = w[1] * n, c = w[2] - n, d = w[3] ^ n, e = w[4] + n, g = w[5] * n;   \
        long h = w[6] - n, i = w[7] ^ n, j = w[8] + n, k = w[9] * n, l = w[10] - n, m = w[11];     \
        double p = f[0] * n, q = f[1] + n, r = f[2] - n, s = f[3] * n, t = f[4], u = f[5];         \
        double v = f[6] * n, x = f[7] + n, y = f[8] - n, z = f[9] * n, aa = f[10], bb = f[11];     \
        double cc = f[12] * n, dd = f[13] + n, ee = f[14] - n, ff = f[15] * n;                     \
        long double la = f[16] * n, lb = f[3] + n;                                                 \
        bool flag = w[12] < n;                                                                     \
        volatile long zone[ZONE];                                                                  \
                                                                                                   \
        for (int at = 0; at < ZONE; at++)                                                          \
            zone[at] = n * at;                                                                     \
        HIDE_4("r", a, b, c, d);                                                                   \
        HIDE_4("r", e, g, h, i);                                                                   \
        HIDE_4("r", j, k, l, m);                                                                   \
        HIDE_4("x", p, q, r, s);                                                                   \
        HIDE_4("x", t, u, v, x);                                                                   \
        HIDE_4("x", y, z, aa, bb);                                                                 \
        HIDE_4("x", cc, dd, ee, ff);                                                               \
        use;                                                                                       \
        for (int at = 0; at < ZONE; at++)                                                          \
            a += zone[at] * (at + 1);                                                              \
        if (flag)                                                                                  \
            p += 1;                                                                                \
        return a + 2.0 * b + 3.0 * c + 4.0 * d + 5.0 * e + 6.0 * g + 7.0 * h + 8.0 * i + 9.0 * j + \
               10.0 * k + 11.0 * l + 12.0 * m + p + 2 * q + 3 * r + 4 * s + 5 * t + 6 * u +        \
               7 * v + 8 * x + 9 * y + 10 * z + 11 * aa + 12 * bb + 13 * cc + 14 * dd + 15 * ee +  \
               16 * ff + (double)(la + 2 * lb);                                                    \
    }

DEFINE_SUM(without_scope, (void)0)
DEFINE_SUM(in_write_scope, pkeyguard_scoped_write (volatile long, object, region) *object = n)
DEFINE_SUM(in_read_scope, pkeyguard_scoped_read (volatile long, object, region)(void) * object)
DEFINE_SUM(in_nested_scopes,
           pkeyguard_scoped_read (volatile long, outer, region)
               pkeyguard_scoped_write (volatile long, object, region) *object = *outer)
DEFINE_SUM(in_scope_twice,
           pkeyguard_scoped_write (volatile long, outer, region)
               pkeyguard_scoped_write (volatile long, object, region) *object = *outer)
DEFINE_SUM(in_scope_at, pkeyguard_scoped_write_at (volatile long, object, region,
                                                   (long *)pkeyguard_region_unsafe_address(region) +
                                                       3) *object = n)
DEFINE_SUM(in_key_scope, pkeyguard_scoped_key_write (guard, key) a += 0)
DEFINE_SUM(in_restrict_scope, pkeyguard_scoped_restrict (guard, region, PKEYGUARD_NO_ACCESS) a += 0)
DEFINE_SUM(in_auto_form, pkeyguard_auto_write(volatile long, object, region); *object = n)
DEFINE_SUM(in_failing_scope,
           pkeyguard_try_scoped_write (char[1 << 20], object, region) (*object)[0] = 1;
           else a += errno == EINVAL ? 0 : 1)

static const struct {
    const char *name;
    double (*function)(long n);
} sums[] = {
#define SUM(name)   \
    {               \
#name, name \
    }
    SUM(in_write_scope),    SUM(in_read_scope), SUM(in_nested_scopes),
    SUM(in_scope_twice),    SUM(in_scope_at),   SUM(in_key_scope),
    SUM(in_restrict_scope), SUM(in_auto_form),  SUM(in_failing_scope),
};

static int check(unsigned flags)
{
    int failed = 0;

    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, flags, &key) != 0 ||
        pkeyguard_region_create(key, PAGE, PAGE_RW, 0, &region) != 0)
        return 1;
    for (long n = 1; n < 50; n++) {
        for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++) {
            if (sums[i].function(n) != without_scope(n)) {
                fprintf(stderr, "registers: %s differs, key flags %u\n", sums[i].name, flags);
                failed = 1;
            }
        }
    }
    if (pkeyguard_region_destroy(region) != 0 || pkeyguard_key_destroy(key) != 0)
        return 1;
    return failed;
}

int main(void)
{
    int failed;

    for (int i = 0; i < WHOLE; i++)
        wholes[i] = 1000 + 7 * i;
    for (int i = 0; i < FLOATS; i++)
        floats[i] = 3.5 * i + 1;
    failed = check(PKEYGUARD_KEY_SOFTWARE) | check(PKEYGUARD_KEY_VIRTUAL) |
             check(PKEYGUARD_KEY_OPTIONAL);
    return failed;
}
