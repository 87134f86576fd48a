/* SPDX-License-Identifier: MIT */
/*
 * What guarded keys cost a TLS server: the sites of examples/tls_server.c, of which 20 have guarded
 * keys and 20 have not. The client and the server are in one thread and exchange messages in
 * memory, so the kernel's network is not measured.
 */
#include "bench.h"

#include <stddef.h>

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <pkeyguard.h>

#include "../../examples/openssl_heap.h"
#include "../../examples/private_key.h"
#include "../../examples/tls_sites.h"

enum { HEAP_SIZE = 1 << 20 };

/* Handshakes that are not measured: for a second after its boot the guest's kernel has work to do,
 * which would count. */
enum { WARM_UP = 200 };

/* Each side takes what the other has sent, and answers, until both have finished. */
static void shake_hands(const struct site *site)
{
    SSL *client = SSL_new(client_context), *server = SSL_new(server_context);
    BIO *client_end, *server_end;
    int client_done, server_done;

    bench_require(client != NULL && server != NULL, "SSL_new");
    bench_require(BIO_new_bio_pair(&client_end, 0, &server_end, 0) == 1, "BIO_new_bio_pair");
    SSL_set_bio(client, client_end, client_end);
    SSL_set_bio(server, server_end, server_end);
    bench_require(SSL_set_tlsext_host_name(client, site->name) == 1 &&
                      SSL_set1_host(client, site->name) == 1,
                  "naming the site");
    do {
        client_done = SSL_connect(client);
        server_done = SSL_accept(server);
    } while ((client_done != 1 && SSL_get_error(client, client_done) == SSL_ERROR_WANT_READ) ||
             (server_done != 1 && SSL_get_error(server, server_done) == SSL_ERROR_WANT_READ));
    bench_require(client_done == 1 && server_done == 1, "the handshake");
    SSL_free(client);
    SSL_free(server);
}

static void shake_hands_of_kind(enum kind kind, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        shake_hands(&sites[kind][i % SITES]);
}

static void sign_with_kind(enum kind kind, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        private_key_sign(&sites[kind][i % SITES].key);
}

static void plain_handshakes(unsigned count)
{
    shake_hands_of_kind(PLAIN, count);
}

static void guarded_handshakes(unsigned count)
{
    shake_hands_of_kind(GUARDED, count);
}

static void plain_signatures(unsigned count)
{
    sign_with_kind(PLAIN, count);
}

static void guarded_signatures(unsigned count)
{
    sign_with_kind(GUARDED, count);
}

static void nothing(unsigned count)
{
    (void)count;
}

/* OpenSSL keeps the heap until the process ends, so the groups of a run share it. */
static void set_up(unsigned key_flags)
{
    struct pkeyguard_key *key;

    if (openssl_heap != NULL)
        return;
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, key_flags, &key) == 0,
                  "pkeyguard_key_create");
    openssl_heap_create(key, HEAP_SIZE);
    sites_create();
    plain_handshakes(WARM_UP);
}

static void set_up_dedicated_key(void)
{
    set_up(0);
}

static void set_up_software_key(void)
{
    set_up(PKEYGUARD_KEY_SOFTWARE);
}

static void tear_down_nothing(void)
{
}

static const struct bench_row handshake_counts[] = {
    {"keys not guarded", plain_handshakes, .other = true},
    {"keys guarded", guarded_handshakes, .writes = 2},
    {0},
};

static const struct bench_row signature_counts[] = {
    {"keys not guarded", plain_signatures, .other = true},
    {"keys guarded", guarded_signatures, .writes = 2},
    {0},
};

static const struct bench_row handshake_times[] = {
    {"keys guarded, mprotect enforcement", guarded_handshakes, .at_most = 0},
    {0},
};

static const struct bench_row signature_times[] = {
    {"keys guarded, mprotect enforcement", guarded_signatures, .at_most = 0},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "P-256 signature by OpenSSL, 20 keys",
     .unit = MEAN_INSTRUCTIONS,
     .set_up = set_up_dedicated_key,
     .tear_down = tear_down_nothing,
     .baseline = nothing,
     .operations = 400,
     .rows = signature_counts},
    {.name = "TLS 1.3 handshake by OpenSSL, both sides, 20 keys",
     .unit = MEAN_INSTRUCTIONS,
     .set_up = set_up_dedicated_key,
     .tear_down = tear_down_nothing,
     .baseline = nothing,
     .operations = 40,
     .rows = handshake_counts},
    {.name = "P-256 signature by OpenSSL, 20 keys, time",
     .unit = TIME_RATIO,
     .baseline_name = "keys not guarded",
     .set_up = set_up_software_key,
     .tear_down = tear_down_nothing,
     .baseline = plain_signatures,
     .rows = signature_times},
    {.name = "TLS 1.3 handshake by OpenSSL, both sides, 20 keys, time",
     .unit = TIME_RATIO,
     .baseline_name = "keys not guarded",
     .set_up = set_up_software_key,
     .tear_down = tear_down_nothing,
     .baseline = plain_handshakes,
     .rows = handshake_times},
    {0},
};
