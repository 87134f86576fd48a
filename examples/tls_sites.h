/* SPDX-License-Identifier: MIT */
/* tls_sites.h - sites with a certificate each, between which a TLS server chooses by name (SNI) */
#ifndef TLS_SITES_H
#define TLS_SITES_H

#include <openssl/types.h>

#include "private_key.h"

enum { SITES = 20 };

enum kind { PLAIN, GUARDED, KINDS }; /* whether a site's private key is guarded */

struct site {
    char name[32];
    char page[64]; /* what the site serves */
    struct private_key key;
    X509 *certificate;
    SSL_CTX *context;
};

/* sites_create() sets these before other threads use them. */
extern struct site sites[KINDS][SITES];
extern SSL_CTX *server_context; /* a connection's site becomes its application data */
extern SSL_CTX *client_context; /* trusts all the certificates */

/* After openssl_heap_create(). It warms OpenSSL up for the calling thread. */
void sites_create(void);
void sites_destroy(void);

#endif
