/* SPDX-License-Identifier: MIT */
#include "tls_sites.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "demonstration.h"

struct site sites[KINDS][SITES];
SSL_CTX *server_context;
SSL_CTX *client_context;

static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);

    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1)
        die("cannot create a TLS context");
    return context;
}

static X509 *create_certificate(const char *name, EVP_PKEY *key)
{
    enum { DAY = 24 * 60 * 60 };
    X509 *certificate = X509_new();
    X509_NAME *subject = certificate == NULL ? NULL : X509_get_subject_name(certificate);

    if (certificate == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(certificate), DAY) == NULL ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                   0) != 1 ||
        X509_set_issuer_name(certificate, subject) != 1 || X509_set_pubkey(certificate, key) != 1 ||
        X509_sign(certificate, key, EVP_sha256()) == 0)
        die("cannot create a certificate");
    return certificate;
}

static void create_site(struct site *site, enum kind kind, int number)
{
    snprintf(site->name, sizeof(site->name), "%s-%d.test", kind == GUARDED ? "guarded" : "plain",
             number);
    snprintf(site->page, sizeof(site->page), "the page of site %d", number);
    private_key_generate(&site->key, kind == GUARDED);
    site->certificate = create_certificate(site->name, site->key.use);
    site->context = new_context(TLS_server_method());
    if (SSL_CTX_use_certificate(site->context, site->certificate) != 1 ||
        SSL_CTX_use_PrivateKey(site->context, site->key.use) != 1 ||
        X509_STORE_add_cert(SSL_CTX_get_cert_store(client_context), site->certificate) != 1)
        die("cannot use a certificate");
}

static void destroy_site(struct site *site)
{
    SSL_CTX_free(site->context);
    X509_free(site->certificate);
    private_key_free(&site->key);
}

static struct site *find_site(const char *name)
{
    for (int i = 0; name != NULL && i < KINDS * SITES; i++) {
        struct site *site = &sites[i / SITES][i % SITES];

        if (strcmp(site->name, name) == 0)
            return site;
    }
    return NULL;
}

/* OpenSSL calls it when it has read the name that the client asks for. */
static int choose_site(SSL *ssl, int *alert, void *unused)
{
    struct site *site = find_site(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));

    (void)unused;
    if (site == NULL || SSL_set_SSL_CTX(ssl, site->context) == NULL) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    SSL_set_app_data(ssl, site);
    return SSL_TLSEXT_ERR_OK;
}

void sites_create(void)
{
    private_key_warm_up();
    client_context = new_context(TLS_client_method());
    SSL_CTX_set_verify(client_context, SSL_VERIFY_PEER, NULL);
    server_context = new_context(TLS_server_method());
    SSL_CTX_set_num_tickets(server_context, 0);
    SSL_CTX_set_tlsext_servername_callback(server_context, choose_site);
    for (int i = 0; i < KINDS * SITES; i++)
        create_site(&sites[i / SITES][i % SITES], i / SITES, i % SITES);
}

void sites_destroy(void)
{
    for (int i = 0; i < KINDS * SITES; i++)
        destroy_site(&sites[i / SITES][i % SITES]);
    SSL_CTX_free(server_context);
    SSL_CTX_free(client_context);
}
