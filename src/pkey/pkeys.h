/* SPDX-License-Identifier: MIT */
/*
 * pkeys.h - this library's pkeys in PKRU, for code that has no lock to take
 *
 * Which pkeys have a key is one word, together with a count of the changes to it, so that signal
 * handlers and threads see a consistent whole and can tell later what has changed since.
 */
#ifndef PKEYS_H
#define PKEYS_H

#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/key.h>
#include <pkeyguard/pkru.h>

enum { PKEYS = 16 };

#define PKEY_AD(pkey)   (1u << (2 * (pkey)))
#define PKEY_WD(pkey)   (2u << (2 * (pkey)))
#define PKEY_BITS(pkey) (PKEY_AD(pkey) | PKEY_WD(pkey))
#define EVERY_AD        0x55555555u

/* The first of the pkeys that have bits here; the loop goes through all of them. */
static inline int pkeys_first(uint32_t bits)
{
    return __builtin_ctz(bits) / 2;
}
#define for_each_pkey_left(left, bits) \
    for (uint32_t left = (bits); left != 0; left &= ~PKEY_BITS(pkeys_first(left)))

/* The deny bits that stand for rights, and back. Access-disable alone is no access, too. */
uint32_t pkeys_deny(int pkey, enum pkeyguard_rights rights);
enum pkeyguard_rights pkeys_rights(int pkey, uint32_t pkru);

/* A pkey gets a key, or loses it. Under the library's lock. */
void pkeys_bind(int pkey, enum pkeyguard_rights default_rights);
void pkeys_unbind(int pkey);

/*
 * The pkeys that had a key and have none, by their bits in PKRU: some thread may have them open
 * still. And the number, as pkeys_bound() counts, at which one of them, or the last, lost its key.
 */
uint32_t pkeys_idle(void);
uint64_t pkeys_idle_since(int pkey);
uint64_t pkeys_last_idle_since(void);

/* It goes to a new owner. Under the library's lock. */
void pkeys_reuse(int pkey);

/* The pkeys that have a key now; bits of PKRU: theirs, and of those the ones that have kept it. */
uint64_t pkeys_bound(void);
uint64_t pkeys_change_number(uint64_t bound);
uint32_t pkeys_mask(uint64_t bound);
uint32_t pkeys_kept(uint64_t bound);

/* What the keys' defaults deny; every other pkey's bits are set. */
uint32_t pkeys_defaults(void);

/*
 * Around what finds out about rights and then changes them, in the calling thread: who closes an
 * idle pkey from outside must not come in between. They nest.
 */
extern __thread uint32_t pkeys_changes_begun __attribute__((tls_model("initial-exec")));
static inline void pkeys_begin_change(void)
{
    pkeyguard_count_up(&pkeys_changes_begun);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
static inline void pkeys_end_change(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    pkeyguard_count_down(&pkeys_changes_begun);
}

/* Changes only these bits of the calling thread's PKRU, as it is now. */
void pkeys_change(uint32_t clear, uint32_t set);

/* Whether pkeys_change() was ever told all these bits by this thread, which else was born with
 * them. */
bool pkeys_chosen(uint32_t bits);

#endif
