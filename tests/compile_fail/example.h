/* SPDX-License-Identifier: MIT */
/* example.h - the declarations that the files with mistakes use */
#include <sys/mman.h>

#include <pkeyguard.h>

extern struct pkeyguard_region *vault, *other_vault;
extern struct pkeyguard_key *key;
extern int *secret PKEYGUARD_GUARDED_BY(vault);

struct session {
    struct pkeyguard_region *vault;
    int *secret PKEYGUARD_GUARDED_BY_MEMBER(vault);
};

void inspect(void) PKEYGUARD_NEEDS_READ(vault);
void rotate(void) PKEYGUARD_NEEDS_WRITE(vault);
void rotate_session(struct session *session) PKEYGUARD_NEEDS_WRITE(session->vault);
void use(int value);
