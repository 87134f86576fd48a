/* SPDX-License-Identifier: MIT */
/* run.h - one run of the fuzzer: its state, and what the generated steps share */
#ifndef RUN_H
#define RUN_H

#include <stdint.h>

#include "model.h"
#include "worker.h"

struct run {
    struct model model;
    struct worker workers[THREADS]; /* the first, the main thread, is not used */
    uint64_t random;
    bool signal;         /* the library may reach threads by a signal */
    unsigned seen, pool; /* sets of pkeys: ever seen on a key; last seen on a virtual key */
    unsigned long accesses, guards, refused, taken; /* counts; taken: pkeys that changed the key */
    int last_owner[16];
};

/* A number from 0 on. */
unsigned pick(struct run *run, unsigned count);
/* True with this probability. */
bool chance(struct run *run, unsigned percent);

/* A live thread, key or region; -1 if there is none. */
int pick_thread(struct run *run);
int pick_key(struct run *run);
int pick_region(struct run *run);
enum pkeyguard_rights pick_rights(struct run *run);

/* One call for a thread to make: those arguments that the function has, and the result. */
struct call {
    struct pkeyguard_key *key;
    struct pkeyguard_region *region;
    enum pkeyguard_rights rights;
    unsigned flags;
    size_t size;
    int prot;
    void *memory;
    struct pkeyguard_guard *guard;
    struct pkeyguard_thread_rights *saved;
    struct pkeyguard_closed *gate;
    int result;
};

/* Has a thread call work(argument), and waits for it. */
void call_on(struct run *run, int thread, void (*work)(void *argument), void *argument);

/* The results that a call may have. */
enum {
    SUCCESS = 1,
    BUSY = 2,
    AGAIN = 4,
    NO_SPACE = 8,
    INVALID = 16,
    NOT_SUPPORTED = 32,
    TIMED_OUT = 64
};

/* Adds the result to the history. Ends the process if the result is not among these. */
void expect(struct run *run, int result, unsigned results);

/* What opening a key may return in a thread. */
unsigned results_of_opening(const struct run *run, int thread, int key);

/*
 * True if a gate has closed virtual keys. They must get pkeys again when the gate is left, or the
 * library aborts.
 */
bool gate_holds_virtual_keys(const struct run *run);
/* How many pkeys the guards take, with those on these further keys. */
unsigned pkeys_taken(const struct run *run, const int *keys, unsigned count);

/* Whether every gate can still be left if guards on these keys are open. */
bool leaves_enough_pkeys(const struct run *run, const int *keys, unsigned count);

/* Looks at which keys have pkeys. */
void note_pkeys(struct run *run);

/* A step returns false if it is not possible now; then it has done nothing. */
typedef bool step(struct run *run, int thread);
step acquire_region, acquire_key, restrict_region, acquire_several, release_guard;
step change_rights, change_rights_everywhere, save_rights, restore_rights, forget_saved_rights,
    switch_coroutine, enter_gate, leave_gate, reset_thread, register_thread, try_call,
    handle_signal;
step create_key, destroy_key, create_region, destroy_region, associate_region, protect_region,
    adopt_memory, check_region, fork_child, create_thread, end_thread;

#endif
