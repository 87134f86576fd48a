/* SPDX-License-Identifier: MIT */
/*
 * tls_server - a TLS 1.3 server whose private keys stay secret when it over-reads
 *
 * It guards against bugs like Heartbleed: a request says how many bytes the server is to send, and
 * from where, and the server believes it. What lies at that place goes to the client. Here that is
 * the private key. A server on 127.0.0.1 has 20 certificates whose keys are guarded (private_key.h)
 * and 20 whose keys are not. The name that a client asks for (SNI) chooses the certificate. Each
 * thread that signs warms OpenSSL up first (openssl_heap.h says why).
 *
 * Without an option it makes handshakes with keys of both kinds in turns, and compares the times.
 * --attack asks for each certificate's private key: all that are not guarded arrive, and none that
 * is guarded, because the read faults. The server survives the fault (pkeyguard_try_call()).
 * --crash has it not survive: it is killed by SIGSEGV.
 *
 * Under mprotect a scope opens the heap for the whole process. So a read by one thread while
 * another signs can succeed there. The attack does not try that. With protection keys the heap is
 * closed to every thread but the one that signs.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "openssl_heap.h"
#include "private_key.h"
#include "tls_sites.h"

enum { WORKERS = 2, CLIENTS = 2, HEAP_SIZE = 1 << 20 };

/* The load: in each round this many handshakes, and then signatures, with keys of each kind. */
enum { ROUNDS = 5, HANDSHAKES = 20, SIGNATURES = 100 };

/* What a client asks for: these bytes of the page. */
struct request {
    int64_t begin;
    uint64_t length;
};

static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};
static bool survives_faults; /* set before the workers start */
static atomic_int faults;    /* that the workers have survived */

/* A connection must not wait for acknowledgements before it sends a short message. */
static SSL *new_connection(SSL_CTX *context, int connection)
{
    static const int on = 1;
    SSL *ssl = SSL_new(context);

    if (ssl == NULL || setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        SSL_set_fd(ssl, connection) != 1)
        die("cannot use a connection");
    return ssl;
}

/* ---- the server ---- */

struct copy {
    const char *from;
    size_t length;
    char to[1024];
};

static int copy_bytes(void *argument)
{
    struct copy *copy = argument;

    memcpy(copy->to, copy->from, copy->length);
    return 0;
}

/* False if the bytes lie in guarded memory. */
static bool copy_reply(struct copy *reply)
{
    char text[PKEYGUARD_FAULT_TEXT_SIZE];
    struct pkeyguard_fault fault;
    int error, result;

    if (!survives_faults)
        return copy_bytes(reply) == 0;
    error = pkeyguard_try_call(copy_bytes, reply, &result, &fault);
    if (error == 0)
        return true;
    if (error != -EFAULT)
        check(error, "copying a reply");
    if (atomic_fetch_add(&faults, 1) == 0) {
        pkeyguard_fault_format(&fault, text, sizeof(text));
        printf("the server has survived a fault: %s\n", text);
    }
    return false;
}

/* The bug: it checks that the reply has room for the bytes, but not that the page has them. */
static void answer(SSL *ssl, const struct site *site, const struct request *request)
{
    struct copy reply = {site->page + request->begin, request->length, {0}};

    if (reply.length <= sizeof(reply.to) && copy_reply(&reply))
        SSL_write(ssl, reply.to, (int)reply.length);
}

static void serve_connection(int connection)
{
    SSL *ssl = new_connection(server_context, connection);
    struct request request;

    if (SSL_accept(ssl) == 1 && SSL_read(ssl, &request, sizeof(request)) == sizeof(request)) {
        answer(ssl, SSL_get_app_data(ssl), &request);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

static void *run_worker(void *unused)
{
    int connection;

    pthread_setname_np(pthread_self(), "worker");
    private_key_warm_up();
    while ((connection = accept(listener, NULL, NULL)) >= 0) {
        serve_connection(connection);
        close(connection);
    }
    return unused;
}

static void start_listening(void)
{
    socklen_t size = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        listen(listener, CLIENTS) != 0)
        die("cannot listen on 127.0.0.1");
}

/* ---- the clients ---- */

static SSL *connect_to(const struct site *site)
{
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL *ssl;

    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)) != 0)
        die("cannot connect");
    ssl = new_connection(client_context, connection);
    if (SSL_set_tlsext_host_name(ssl, site->name) != 1 || SSL_set1_host(ssl, site->name) != 1)
        die("cannot name the site");
    if (SSL_connect(ssl) != 1)
        die("the handshake failed");
    return ssl;
}

static void disconnect(SSL *ssl)
{
    int connection = SSL_get_fd(ssl);

    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(connection);
}

/* Returns how many bytes of the reply have arrived. */
static int ask(SSL *ssl, const struct request *request, void *reply, size_t size)
{
    int received;

    if (SSL_write(ssl, request, sizeof(*request)) != sizeof(*request))
        die("cannot send a request");
    received = SSL_read(ssl, reply, (int)size);
    return received > 0 ? received : 0;
}

static void visit(const struct site *site)
{
    const struct request whole_page = {0, sizeof(site->page)};
    char page[sizeof(site->page)];
    SSL *ssl = connect_to(site);

    if (ask(ssl, &whole_page, page, sizeof(page)) != sizeof(page) ||
        memcmp(page, site->page, sizeof(page)) != 0)
        die("the page is wrong");
    disconnect(ssl);
}

/* Asks for the bytes where the private key lies, as if an earlier bug had told their address. */
static bool steal_key(const struct site *site)
{
    const struct request beyond_page = {
        (int64_t)((uintptr_t)site->key.address - (uintptr_t)site->page), PRIVATE_KEY_SIZE};
    unsigned char reply[PRIVATE_KEY_SIZE];
    SSL *ssl = connect_to(site);
    bool stolen = ask(ssl, &beyond_page, reply, sizeof(reply)) == sizeof(reply) &&
                  private_key_is(reply, X509_get0_pubkey(SSL_get0_peer_certificate(ssl)));

    disconnect(ssl);
    return stolen;
}

/* ---- the load ---- */

struct load {
    const struct site *sites;
    atomic_int begun; /* handshakes, or signatures */
};

static void *run_client(void *argument)
{
    struct load *load = argument;
    int number;

    while ((number = atomic_fetch_add(&load->begun, 1)) < HANDSHAKES)
        visit(&load->sites[number % SITES]);
    return NULL;
}

static void *run_signer(void *argument)
{
    struct load *load = argument;
    int number;

    private_key_warm_up();
    while ((number = atomic_fetch_add(&load->begun, 1)) < SIGNATURES)
        private_key_sign(&load->sites[number % SITES].key);
    return NULL;
}

static void start_threads(int count, void *(*run)(void *), void *argument, pthread_t *ret_threads)
{
    for (int i = 0; i < count; i++) {
        if (pthread_create(&ret_threads[i], NULL, run, argument) != 0)
            die("cannot create a thread");
    }
}

static void join_threads(int count, const pthread_t *threads)
{
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* Returns how long the clients or signers took, in nanoseconds. */
static double time_load(void *(*run)(void *), enum kind kind)
{
    struct load load = {.sites = sites[kind]};
    pthread_t threads[CLIENTS];
    double begun = now();

    start_threads(CLIENTS, run, &load, threads);
    join_threads(CLIENTS, threads);
    return now() - begun;
}

static void keep_lower(double *lowest, double time)
{
    if (*lowest == 0 || time < *lowest)
        *lowest = time;
}

/* The lowest time of the rounds counts: the others have waited for other programs, too. */
static void compare_times(void)
{
    static const char *const names[KINDS] = {"plain keys", "guarded keys"};
    double handshakes[KINDS] = {0}, signatures[KINDS] = {0};

    for (int i = 0; i < ROUNDS * KINDS; i++) {
        enum kind kind = i % KINDS;

        keep_lower(&handshakes[kind], time_load(run_client, kind));
        keep_lower(&signatures[kind], time_load(run_signer, kind));
    }
    for (enum kind kind = 0; kind < KINDS; kind++)
        printf("%s: %d handshakes, %.0f a second; %d signatures, %.0f a second\n", names[kind],
               ROUNDS * HANDSHAKES, 1e9 * HANDSHAKES / handshakes[kind], ROUNDS * SIGNATURES,
               1e9 * SIGNATURES / signatures[kind]);
    printf("a guarded key adds %+.1f %% to a handshake, %+.1f %% to a signature\n",
           100 * (handshakes[GUARDED] / handshakes[PLAIN] - 1),
           100 * (signatures[GUARDED] / signatures[PLAIN] - 1));
}

/* ---- the attack ---- */

/* Returns how many private keys it has got. */
static int attack(enum kind kind)
{
    int stolen = 0;

    for (int i = 0; i < SITES; i++)
        stolen += steal_key(&sites[kind][i]);
    printf("%d of %d replies have the private key of a%s site\n", stolen, SITES,
           kind == GUARDED ? " guarded" : "n unguarded");
    return stolen;
}

static int attack_all(void)
{
    int plain = attack(PLAIN), guarded = attack(GUARDED);

    return plain == SITES && guarded == 0 && faults == SITES ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void crash(void)
{
    fflush(stdout);
    steal_key(&sites[GUARDED][0]);
    die("the read succeeded: the private key is not guarded");
}

int main(int argc, char **argv)
{
    const char *option = argc == 2 ? argv[1] : "";
    bool attacks = strcmp(option, "--attack") == 0, crashes = strcmp(option, "--crash") == 0;
    struct pkeyguard_key *key;
    pthread_t workers[WORKERS];
    int status = EXIT_SUCCESS;

    if (argc > 1 && !attacks && !crashes) {
        fprintf(stderr, "usage: tls_server [--attack | --crash]\n");
        return 2;
    }
    survives_faults = !crashes;
    signal(SIGPIPE, SIG_IGN);
    check(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER),
          "installing the fault reporter");
    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating a key");
    openssl_heap_create(key, HEAP_SIZE);
    print_enforcement(key);
    sites_create();
    start_listening();
    start_threads(WORKERS, run_worker, NULL, workers);

    if (attacks)
        status = attack_all();
    else if (crashes)
        crash();
    else
        compare_times();

    shutdown(listener, SHUT_RDWR); /* ends the workers' accept() */
    join_threads(WORKERS, workers);
    close(listener);
    sites_destroy();
    check(pkeyguard_heap_destroy(openssl_heap), "destroying the heap");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return status;
}
