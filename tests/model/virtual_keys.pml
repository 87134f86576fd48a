/* SPDX-License-Identifier: MIT */
/*
 * The protocol of src/key/virtual_pool.c, as a model for spin: two virtual keys share one pkey.
 *
 * Two threads open scopes. One of them creates a third thread inside a scope. The third thread may
 * register, in a signal handler or outside, or be made to register by a signal (enlistment.c), may
 * open scopes, and may end at any moment, also inside a scope. The property: in every order of events, no thread can access the pages of a key on which
 * it has no scope. A thread that is not registered is an exception: it can access the pages of the
 * scope that it was created in.
 *
 * Writes of pins pass through a store buffer, as they do on x86: other threads see a write at any
 * later time, at the latest at the next barrier. Each of these definitions breaks the protocol in
 * one place, and spin must then find a violation:
 *
 *   CENSUS_FIRST            the threads are counted before the pins are read
 *   NO_CENSUS               the threads are not counted
 *   NO_BARRIER              no membarrier between taking the binding away and reading the pins
 *   PIN_AFTER_CHECK         a guard pins after it has read the binding for the last time
 *   UNPIN_BEFORE_CLOSE      a guard unpins, then closes
 *   REGISTER_KEEPS_RIGHTS   registering a thread closes nothing
 *   REGISTER_IN_HANDLER     a thread registers in a handler whose return opens the pkey
 *   ENLIST_IN_HANDLER       a thread is made to register while such a handler runs
 *   ENLIST_KEEPS_RIGHTS     making a thread register closes nothing in it
 *   ALIVE_BEFORE_COUNT      ended threads are dropped before all threads are counted
 *   END_DROPS_EARLY         a thread that ends drops its pins while it still runs
 *   TAG_BEFORE_UNTAG        the new owner gets the pkey before the old owner's pages lose it
 *   STAYS_CLOSED            a closed pkey still counts as closed after it is bound again
 *   CLOSE_WHERE_BOUND       a guard whose key is unbound at its end closes and unpins nothing
 */
#define THREADS 3
#define NEWBORN 2
#define KEYS    2
#define NO_KEY  2
#define NOBODY  3

byte lock = NOBODY;       /* the library's lock */
bool bound[KEYS];         /* key->bound_bits: true: the pkey's bits; false: UNBOUND */
bool pkey_bits[KEYS];     /* key->pkey_bits: true: the pkey's bits; false: UNBOUND */
byte owner = NO_KEY;
bool closed = true;       /* every thread has the pkey closed and no binding names it */
bool carries[KEYS];       /* true: the key's pages carry the pkey; false: they are PROT_NONE */

bool running[THREADS];    /* the thread executes instructions */
bool dead[THREADS];       /* its robust mutex tells that it has ended */
bool counted[THREADS];    /* it is in the kernel's count */
bool registered[THREADS];
bool open[THREADS];       /* it has the pkey open in PKRU */
bool frame[THREADS];      /* it will return to a signal frame whose PKRU has the pkey open */
bool in_handler[THREADS];
byte pins[THREADS];       /* the thread's own view */
byte seen_pins[THREADS];  /* the view of other threads: the value in memory */

/* The specification's view of what a thread may access. The protocol does not read these. */
byte scope[THREADS];      /* the key on which it has a scope */
byte inherited[THREADS];  /* the key of the scope that it was created in, until it registers */

#define reaches(t, k) (running[t] && open[t] && carries[k] && scope[t] != k && inherited[t] != k)
#define reaches_any(t) (reaches(t, 0) || reaches(t, 1))

active proctype monitor()
{
end:
    atomic {
        (reaches_any(0) || reaches_any(1) || reaches_any(2));
        assert(false);
    }
}

/* A store reaches memory at any time. */
active proctype store_buffers()
{
end:
    do
    :: atomic { seen_pins[0] != pins[0] -> seen_pins[0] = pins[0] }
    :: atomic { seen_pins[1] != pins[1] -> seen_pins[1] = pins[1] }
    :: atomic { seen_pins[2] != pins[2] -> seen_pins[2] = pins[2] }
    od
}

inline membarrier() {
#ifdef NO_BARRIER
    skip
#else
    d_step {
        seen_pins[0] = pins[0];
        seen_pins[1] = pins[1];
        seen_pins[2] = pins[2];
    }
#endif
}

#define pin_visible(t) (registered[t] && seen_pins[t] != 0)

inline look_at_pins(ok) {
    /* One thread at a time: the scan is not atomic. */
    if
    :: pin_visible(0) -> ok = false
    :: else
    fi;
    if
    :: pin_visible(1) -> ok = false
    :: else
    fi;
    if
    :: pin_visible(2) -> ok = false
    :: else
    fi
}

inline drop_dead(t, any) {
    if
    :: registered[t] && dead[t] ->
        registered[t] = false;
        pins[t] = 0;
        seen_pins[t] = 0;
        any = true
    :: else
    fi
}

inline drop_ended(any) {
    d_step { drop_dead(0, any); drop_dead(1, any); drop_dead(2, any) }
}

inline census(ok) {
    any = false;
#ifdef NO_CENSUS
    skip;
#else
#ifdef ALIVE_BEFORE_COUNT
    drop_ended(any);
#endif
    count = counted[0] + counted[1] + counted[2];
#ifndef ALIVE_BEFORE_COUNT
    drop_ended(any);
#endif
    if
    :: any || count != registered[0] + registered[1] + registered[2] -> ok = false
    :: else
    fi
#endif
}

#ifdef ENLIST_IN_HANDLER
#define may_enlist(t) true
#else
#define may_enlist(t) (!frame[t])
#endif

/*
 * The signal's handler registers a thread that is not registered, while another thread has the
 * lock: it closes the pkey in the frame that the thread goes on with. It refuses where another
 * frame would open the pkey.
 */
inline enlist(t) {
    d_step {
        if
        :: running[t] && counted[t] && !registered[t] && may_enlist(t) ->
#ifndef ENLIST_KEEPS_RIGHTS
            open[t] = false;
#endif
            inherited[t] = NO_KEY;
            registered[t] = true
        :: else
        fi
    }
}

/* If the program allows a signal, threads that are not registered are enlisted and counted again. */
inline census_or_enlist(ok) {
    census(ok);
    if
    :: !ok ->
        enlist(0);
        enlist(1);
        enlist(2);
        ok = true;
        census(ok)
    :: skip
    fi
}

/*
 * Gives the pkey to this key, if every thread has it closed. The lock is held. Once the pkey is
 * closed the model may also stop there, as if the key got another one of several pkeys.
 */
inline bind(t, k, ok) {
    ok = true;
    if
    :: bound[k]
    :: else ->
        any = false;
        drop_ended(any);
        if
        :: !closed ->
#ifdef CENSUS_FIRST
            census(ok);
#endif
            bound[owner] = false;
            membarrier();
            look_at_pins(ok);
#ifndef CENSUS_FIRST
            if
            :: ok -> census_or_enlist(ok)
            :: else
            fi;
#endif
            if
            :: ok -> closed = true
            :: else -> bound[owner] = true
            fi
        :: else
        fi;
        if
        :: ok
        :: ok && owner != NO_KEY -> ok = false
        :: else
        fi;
        if
        :: ok ->
#ifdef TAG_BEFORE_UNTAG
            carries[k] = true;
            pkey_bits[k] = true;
            bound[k] = true;
#endif
            if
            :: owner != NO_KEY && owner != k -> pkey_bits[owner] = false; carries[owner] = false
            :: else
            fi;
            owner = k;
            carries[k] = true;
#ifndef STAYS_CLOSED
            closed = false;
#endif
            pkey_bits[k] = true;
            bound[k] = true
        :: else
        fi
    fi
}

inline become_registered(t) {
    d_step {
        if
        :: !registered[t] ->
#ifndef REGISTER_KEEPS_RIGHTS
            open[t] = false;
            if
            :: !in_handler[t] || !frame[t] -> inherited[t] = NO_KEY
            :: else
            fi;
#endif
            registered[t] = true
#ifdef REGISTER_KEEPS_RIGHTS
            ; inherited[t] = NO_KEY
#endif
        :: else
        fi
    }
}

/* Not called in handlers: what a handler opens is closed when it returns. */
inline acquire(t, k, ok) {
    ok = false;
    if
    :: registered[t] && bound[k] ->
#ifndef PIN_AFTER_CHECK
        pins[t]++;
#endif
        if
        :: bound[k] -> ok = true
        :: else
#ifndef PIN_AFTER_CHECK
            -> pins[t]--
#endif
        fi;
#ifdef PIN_AFTER_CHECK
        if
        :: ok -> pins[t]++
        :: else
        fi
#endif
    :: else
    fi;
    if
    :: !ok ->
        atomic { lock == NOBODY -> lock = t };
        become_registered(t);
        bind(t, k, ok);
        d_step {
            if
            :: ok -> pins[t]++
            :: else
            fi;
            /* A thread that sees the lock free also sees earlier writes of its last holder. */
            seen_pins[t] = pins[t];
            lock = NOBODY
        }
    :: else
    fi;
    if
    :: ok -> d_step { open[t] = true; scope[t] = k }
    :: else
    fi
}

#ifdef CLOSE_WHERE_BOUND
#define pkey_to_close(k) bound[k]
#else
#define pkey_to_close(k) pkey_bits[k]
#endif

/* The scope ends in any case, whether or not the guard closes something. */
inline release(t) {
    if
    :: pkey_to_close(scope[t]) ->
#ifdef UNPIN_BEFORE_CLOSE
        pins[t]--;
        d_step { open[t] = false; scope[t] = NO_KEY }
#else
        d_step { open[t] = false; scope[t] = NO_KEY }
        pins[t]--
#endif
    :: else -> scope[t] = NO_KEY
    fi
}

inline end_thread(t) {
#ifdef END_DROPS_EARLY
    d_step { pins[t] = 0; seen_pins[t] = 0; scope[t] = NO_KEY }
#endif
    d_step { running[t] = false; scope[t] = NO_KEY; dead[t] = true };
    counted[t] = false
}

/* A signal handler. Its thread may have a scope open. It starts with the pkey closed, may take the
 * pkey for another key, and its return restores the thread's PKRU. */
inline handler(t, k, ok) {
    d_step { in_handler[t] = true; frame[t] = open[t]; open[t] = false };
    atomic { lock == NOBODY -> lock = t };
    if
    :: registered[t] -> bind(t, k, ok)
    :: else ->
        if
#ifdef REGISTER_IN_HANDLER
        :: true ->
#else
        :: !frame[t] ->
#endif
            become_registered(t);
            bind(t, k, ok)
        :: else -> skip /* -EAGAIN */
        fi
    fi;
    d_step { seen_pins[t] = pins[t]; lock = NOBODY };
    d_step { in_handler[t] = false; open[t] = frame[t]; frame[t] = false }
}

proctype newborn(byte t)
{
    bool ok, any;
    byte count;

    if
    :: handler(t, 0, ok)
    :: handler(t, 1, ok)
    :: skip
    fi;
    if
    :: acquire(t, 0, ok);
        if
        :: ok ->
            if
            :: release(t)
            :: skip /* the thread ends inside the scope */
            fi
        :: else
        fi
    :: atomic { lock == NOBODY -> lock = t };
        become_registered(t);
        lock = NOBODY
    :: skip
    fi;
    end_thread(t)
}

proctype user(byte t; byte first; byte second; bool parent)
{
    bool ok, any;
    byte count, round;

    do
    :: round < 2 ->
        if
        :: acquire(t, first, ok)
        :: acquire(t, second, ok)
        fi;
        if
        :: ok ->
            if
            :: parent && !counted[NEWBORN] && !dead[NEWBORN] ->
                atomic {
                    running[NEWBORN] = true;
                    counted[NEWBORN] = true;
                    open[NEWBORN] = open[t];
                    inherited[NEWBORN] = scope[t];
                    run newborn(NEWBORN)
                }
            :: handler(t, 1 - scope[t], ok)
            :: skip
            fi;
            release(t)
        :: else
        fi;
        round++
    :: round == 2 -> break
    od;
    if
    :: end_thread(t)
    :: skip
    fi
}

init {
    atomic {
        scope[0] = NO_KEY;
        scope[1] = NO_KEY;
        scope[2] = NO_KEY;
        inherited[0] = NO_KEY;
        inherited[1] = NO_KEY;
        inherited[2] = NO_KEY;
        running[0] = true;
        running[1] = true;
        counted[0] = true;
        counted[1] = true;
        run user(0, 0, 0, true);
        run user(1, 1, 0, false)
    }
}
