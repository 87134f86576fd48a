/* SPDX-License-Identifier: MIT */
/*
 * The protocol of src/heap/shard_lock.h, as a model for spin: one shard, the thread on its seat with
 * a signal handler, and two other threads.
 *
 * The seat's thread enters the shard again and again, as its owner when it is. The handler interrupts
 * it anywhere, and wants the shard, too. The barrier of a thread that expels the owner may fail. The
 * property: in every order of events at most one of them is inside, and none waits for ever.
 *
 * Writes of `inside` pass through a store buffer, as they do on x86: other threads see a write at any
 * later time, at the latest at the next barrier. Each of these definitions breaks the protocol in one
 * place, and spin must then find a violation:
 *
 *   NO_BARRIER          no membarrier between clearing `owned` and reading `inside`
 *   NO_WAIT             a thread that expels the owner does not wait until it is outside
 *   CHECK_FIRST         the owner reads `owned`, then sets `inside`
 *   OWNED_EARLY         `owned` is set before the holder of `others` is done with the shard
 *   HANDLER_ENTERS      a signal handler enters although the thread that it interrupted is inside
 *   FAILED_GOES_ON      a thread whose barrier failed uses the shard
 */
#define OWNER  0 /* on the shard's seat */
#define NOBODY 3
#define TURNS  2 /* each other thread, and the handler, takes the shard so often */

byte others = NOBODY; /* the holder of the spin lock */
bool owned = true;
bool inside;          /* the owner's own view */
bool seen_inside;     /* the view of other threads: the value in memory */
bool in_handler;      /* of the owner, which goes on when the handler is over */
byte users;           /* threads that change the shard */

inline use_shard()
{
    users++;
    assert(users == 1);
    users--;
}

/* The store buffer of the owner's processor. */
active proctype store_buffer()
{
end:
    do
    :: seen_inside != inside -> seen_inside = inside
    od
}

/* The seat's thread takes the spin lock, with an instruction that empties the store buffer. */
inline take_others_and_own()
{
    atomic { others == NOBODY; others = OWNER; seen_inside = inside }
    owned = false;
#ifdef OWNED_EARLY
    owned = true;
#endif
    use_shard();
    owned = true;
    others = NOBODY
}

/* `enter` is a local variable: whether the thread found that it is the owner. */
inline find_out(enter)
{
#ifdef CHECK_FIRST
    enter = owned;
    inside = true;
#else
    inside = true;
    enter = owned;
#endif
}

inline enter_or_take_others(enter)
{
    find_out(enter);
    if
    :: enter -> use_shard(); inside = false
    :: else ->
        inside = false;
        if
        :: others == OWNER -> skip /* of the thread that the handler interrupted: refused */
        :: else -> take_others_and_own()
        fi
    fi
}

active proctype owner() provided (!in_handler)
{
    bool enter;

end:
    do
    :: enter_or_take_others(enter)
    od
}

active proctype handler()
{
    bool enter;
    byte turn;

    for (turn : 1 .. TURNS) {
        in_handler = true;
        if
#ifndef HANDLER_ENTERS
        :: inside -> skip /* refused */
#endif
        :: else -> enter_or_take_others(enter)
        fi;
        in_handler = false
    }
}

inline barrier()
{
#ifndef NO_BARRIER
    seen_inside = inside;
#endif
    skip
}

inline expel_owner(expelled)
{
    owned = false;
    if
    :: barrier();
#ifndef NO_WAIT
        !seen_inside;
#endif
        expelled = true
    :: expelled = false /* the barrier fails */
    fi
}

proctype other(byte me)
{
    bool expelled;
    byte turn;

    for (turn : 1 .. TURNS) {
        atomic { others == NOBODY; others = me }
        expelled = true;
        if
        :: owned -> expel_owner(expelled)
        :: else -> skip
        fi;
#ifdef FAILED_GOES_ON
        expelled = true;
#endif
        if
        :: expelled -> use_shard()
        :: else -> owned = true
        fi;
        others = NOBODY
    }
}

init
{
    atomic { run other(1); run other(2) }
}
