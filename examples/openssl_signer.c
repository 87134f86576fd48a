/* SPDX-License-Identifier: MIT */
/*
 * openssl_signer - private keys that are reachable only while OpenSSL uses them
 *
 * It signs with plain keys and with keys in OpenSSL's heap (openssl_heap.h), in turns, and compares
 * the times. There is one thread; tls_server.c has several.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "openssl_heap.h"

enum { HEAP_SIZE = 4 << 20, SIGNATURE_MAX = 512, ROUNDS = 20 };

static const unsigned char message[] = "pay 100 to Alice";

static EVP_PKEY *generate(const char *algorithm)
{
    EVP_PKEY *pkey = strcmp(algorithm, "RSA-2048") == 0 ? EVP_RSA_gen(2048) : EVP_EC_gen(algorithm);

    if (pkey == NULL)
        die("cannot generate a key");
    return pkey;
}

static size_t sign(EVP_PKEY *pkey, unsigned char *signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t length = SIGNATURE_MAX;

    if (context == NULL || EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, pkey) != 1 ||
        EVP_DigestSign(context, signature, &length, message, sizeof(message)) != 1)
        die("cannot sign");
    EVP_MD_CTX_free(context);
    return length;
}

static void verify(EVP_PKEY *public_key, const unsigned char *signature, size_t length)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    if (context == NULL ||
        EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, public_key) != 1 ||
        EVP_DigestVerify(context, signature, length, message, sizeof(message)) != 1)
        die("the signature does not verify");
    EVP_MD_CTX_free(context);
}

/* Writes the public key, which may be in the heap, to memory of the caller. Returns its size. */
static size_t export_public(EVP_PKEY *pkey, unsigned char *der, size_t size)
{
    unsigned char *end = der;
    int length = i2d_PUBKEY(pkey, NULL);

    if (length <= 0 || (size_t)length > size || i2d_PUBKEY(pkey, &end) != length)
        die("cannot export the public key");
    return (size_t)length;
}

static EVP_PKEY *import_public(const unsigned char *der, size_t length)
{
    EVP_PKEY *public_key = d2i_PUBKEY(NULL, &der, (long)length);

    if (public_key == NULL)
        die("cannot import the public key");
    return public_key;
}

static size_t guarded_sign(EVP_PKEY *pkey, unsigned char *signature)
{
    size_t length = 0;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap)) {
        in_openssl_heap = true;
        length = sign(pkey, signature);
        in_openssl_heap = false;
    }
    return length;
}

static void demonstrate(const char *algorithm)
{
    unsigned char der[1024], signature[SIGNATURE_MAX];
    EVP_PKEY *plain = generate(algorithm), *guarded = NULL, *public_key;
    double plain_time = 0, guarded_time = 0;
    size_t length = export_public(plain, der, sizeof(der));

    /* OpenSSL allocates its state now, outside the heap. */
    EVP_PKEY_free(import_public(der, length));
    sign(plain, signature);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap)) {
        in_openssl_heap = true;
        guarded = generate(algorithm);
        length = export_public(guarded, der, sizeof(der));
        in_openssl_heap = false;
        if (!is_reachable(guarded))
            die("the key is not reachable inside a scope");
    }
    public_key = import_public(der, length);
    if (!pkeyguard_heap_owns(openssl_heap, guarded) ||
        pkeyguard_heap_owns(openssl_heap, public_key))
        die("the private key is outside the heap, or the public key inside");
    if (is_reachable(guarded))
        die("the key is reachable outside the scopes");

    /* The first signature also allocates what the key keeps for later ones: do not measure it. */
    guarded_sign(guarded, signature);
    for (int i = 0; i < ROUNDS; i++) {
        double start = now(), middle;

        sign(plain, signature);
        middle = now();
        length = guarded_sign(guarded, signature);
        guarded_time += now() - middle;
        plain_time += middle - start;
    }
    verify(public_key, signature, length);
    printf(
        "%s: signed and verified; not reachable outside its scopes; %.0f ns plain, %.0f ns guarded "
        "(%+.1f %%)\n",
        algorithm, plain_time / ROUNDS, guarded_time / ROUNDS,
        100 * (guarded_time / plain_time - 1));

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap))
        EVP_PKEY_free(guarded);
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(plain);
}

int main(void)
{
    struct pkeyguard_key *key;

    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating a key");
    openssl_heap_create(key, HEAP_SIZE);
    print_enforcement(key);
    demonstrate("P-256");
    demonstrate("RSA-2048");
    check(pkeyguard_heap_destroy(openssl_heap), "destroying the heap");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return EXIT_SUCCESS;
}
