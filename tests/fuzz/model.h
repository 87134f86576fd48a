/* SPDX-License-Identifier: MIT */
/*
 * model.h - what each thread may read and write, as the headers promise it
 *
 * The model calls nothing of the library. It knows keys, regions, guards, threads, and what a gate
 * or a save will bring back. The steps (run.h) tell it of each call, and observe.c compares it with
 * the CPU.
 */
#ifndef MODEL_H
#define MODEL_H

#include <pkeyguard.h>

enum { KEYS = 26, REGIONS = 30, THREADS = 4, GUARDS = 8, FRAMES = 3, NO_KEY = -1, NO_REGION = -1 };

/* Each thread has a second coroutine. What the one that does not run has open is a record, too. */
enum { PARKED = THREADS, RECORDS = 2 * THREADS };

enum kind { DEDICATED, VIRTUAL, SOFTWARE, UNENFORCED };

/* A thread's deny bits on one pkey, as in PKRU. */
enum { DENY_ALL = 1, DENY_WRITE = 2, DENY_BOTH = 3 };

struct model_key {
    struct pkeyguard_key *real; /* NULL: there is no such key */
    enum kind kind;
    bool guards_only;                           /* it was created as a virtual key */
    enum pkeyguard_rights default_rights, base; /* base: of a software key, with no guard open */
};

struct model_region {
    struct pkeyguard_region *real; /* NULL: there is no such region */
    char *address;
    size_t size;
    int key; /* NO_KEY: its private software key */
    int prot;
    bool end_aligned;
    void *adopted; /* the memory, if it was adopted */
};

struct model_guard {
    struct pkeyguard_guard real;
    int key, region; /* region: NO_REGION for a guard on a whole key */
    enum pkeyguard_rights rights;
    bool narrows;
    bool changes_nothing;
    unsigned char cleared, set; /* the deny bits that it changed */
    bool pins;                  /* it keeps a virtual key's pkey */
    unsigned level;             /* the number of frames around it */
};

/* A call gate that was entered, or rights that were saved. */
struct model_frame {
    bool is_gate;
    unsigned char denied[KEYS];
    bool knows[KEYS]; /* the keys that existed */
    bool inherited[KEYS];
    struct pkeyguard_closed gate;
    struct pkeyguard_thread_rights rights;
};

struct model_thread {
    bool lives;
    bool registered; /* false: perhaps not */
    unsigned char denied[KEYS];
    /*
     * A virtual key that the thread's creator had open. It is open, or closed since the library had
     * the thread register.
     */
    bool inherited[KEYS];
    struct model_guard guards[GUARDS]; /* in the order of their acquisition */
    unsigned guard_count;
    struct model_frame frames[FRAMES];
    unsigned frame_count;

    /* Of a coroutine that does not run. */
    bool knows[KEYS]; /* the keys that existed when it ran */
    struct pkeyguard_thread_rights rights;
};

struct model {
    bool pku;
    bool virtual_used; /* a virtual key was opened */
    struct model_key keys[KEYS];
    struct model_region regions[REGIONS];
    struct model_thread threads[RECORDS]; /* from PARKED on: the coroutines that do not run */
};

struct access_rights {
    bool read, write;
};

bool model_is_pku(enum kind kind);
enum kind model_kind(const struct model *model, int key);

/* What pkeyguard_key_rights() returns in a thread. */
enum pkeyguard_rights model_rights(const struct model *model, int thread, int key);
struct access_rights model_access(const struct model *model, int thread, int region);

/* A thread creates a key, or destroys it. The record of the key is set up already. */
void model_key_created(struct model *model, int thread, int key);
void model_key_destroyed(struct model *model, int key);

/* The thread acquires the guard, whose key, region, rights and narrows are set. */
void model_acquire(struct model *model, int thread, const struct model_guard *guard);
/* True if the rules of guard.h allow that the thread releases this guard now. */
bool model_may_release(const struct model *model, int thread, unsigned guard);
void model_release(struct model *model, int thread, unsigned guard);
/* Removes a guard from the list; what it opened stays as it is. */
void model_forget_guard(struct model *model, int thread, unsigned guard);

void model_set_rights(struct model *model, int thread, int key, enum pkeyguard_rights rights);
void model_set_rights_everywhere(struct model *model, int key, enum pkeyguard_rights rights);
void model_register(struct model *model, int thread);
void model_reset(struct model *model, int thread);

/* Gates and saves. Both push a frame. */
struct model_frame *model_push_frame(struct model *model, int thread, bool is_gate);
void model_leave_gate(struct model *model, int thread);
void model_forget_save(struct model *model, int thread);
/* Goes back to the save in the frame with this index. Gates after it are left. */
void model_restore(struct model *model, int thread, unsigned frame);

/* The thread's other coroutine runs. `from` is what the library stored of the one that stops. */
void model_switch(struct model *model, int thread, const struct pkeyguard_thread_rights *from);

void model_thread_created(struct model *model, int creator, int thread);
void model_thread_ended(struct model *model, int thread);
/* Only this thread is left, in a child of fork(3). */
void model_forked(struct model *model, int thread);

/* Any guard on this key or region, of any thread, also one that a gate has closed. */
bool model_key_guarded(const struct model *model, int key);
bool model_region_guarded(const struct model *model, int region, bool empty_too);
/* A guard keeps the virtual key's pkey; gated: or will when a gate is left. */
bool model_pinned(const struct model *model, int key, bool gated);
bool model_pinned_by(const struct model *model, int thread, int key, bool gated);
bool model_all_registered(const struct model *model);
/* There is one thread. */
bool model_is_alone(const struct model *model);

#endif
