/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL has two ways to sign by a function of the program: a method of EC_KEY, as here, and a
 * provider. OpenSSL 3 calls the method deprecated, but a provider takes much more code.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "private_key.h"

#include <stddef.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "openssl_heap.h"

static EC_KEY *new_key(void)
{
    EC_KEY *key = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);

    if (key == NULL)
        die("cannot create a key");
    return key;
}

static EC_KEY *generate(void)
{
    EC_KEY *key = new_key();

    if (EC_KEY_generate_key(key) != 1)
        die("cannot generate a key");
    return key;
}

void private_key_warm_up(void)
{
    static const unsigned char digest[32];
    unsigned char signature[80];
    unsigned length;
    EC_KEY *plain = generate();

    if (ECDSA_sign(0, digest, sizeof(digest), signature, &length, plain) != 1)
        die("cannot sign");
    EC_KEY_free(plain);
}

/* Where a stand-in has the pointer to its key. The first private_key_generate() sets it. */
static int key_index(void)
{
    static int index = -1;

    if (index < 0)
        index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return index;
}

static int sign_guarded(int type, const unsigned char *digest, int digest_length,
                        unsigned char *signature, unsigned *ret_length, EC_KEY *key)
{
    int succeeded = 0;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap)) {
        in_openssl_heap = true;
        succeeded = ECDSA_sign(type, digest, digest_length, signature, ret_length, key);
        in_openssl_heap = false;
    }
    return succeeded;
}

/* The stand-ins' method of signing. */
static int sign_for(int type, const unsigned char *digest, int digest_length,
                    unsigned char *signature, unsigned *ret_length, const BIGNUM *inverse,
                    const BIGNUM *r, EC_KEY *stand_in)
{
    struct private_key *key = EC_KEY_get_ex_data(stand_in, key_index());

    (void)inverse, (void)r;
    return (key->guarded ? sign_guarded : ECDSA_sign)(type, digest, digest_length, signature,
                                                      ret_length, key->key);
}

static const EC_KEY_METHOD *stand_in_method(void)
{
    static EC_KEY_METHOD *method;

    if (method == NULL) {
        method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
        if (method == NULL)
            die("cannot create a method");
        EC_KEY_METHOD_set_sign(method, sign_for, NULL, NULL);
    }
    return method;
}

/* A BIGNUM begins with a pointer to its words, of which the lowest is the first. */
static const void *words_of(const EC_KEY *key)
{
    return *(const void *const *)EC_KEY_get0_private_key(key);
}

/* It reads the key, and allocates nothing in the heap. */
static void create_stand_in(struct private_key *key)
{
    EC_KEY *stand_in = new_key();

    if (EC_KEY_set_public_key(stand_in, EC_KEY_get0_public_key(key->key)) != 1 ||
        EC_KEY_set_method(stand_in, stand_in_method()) != 1 ||
        EC_KEY_set_ex_data(stand_in, key_index(), key) != 1)
        die("cannot create a stand-in");
    key->use = EVP_PKEY_new();
    if (key->use == NULL || EVP_PKEY_assign_EC_KEY(key->use, stand_in) != 1)
        die("cannot use a stand-in");
}

void private_key_generate(struct private_key *ret_key, bool guarded)
{
    ret_key->guarded = guarded;
    if (!guarded) {
        ret_key->key = generate();
        ret_key->address = words_of(ret_key->key);
        create_stand_in(ret_key);
        return;
    }
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap)) {
        in_openssl_heap = true;
        ret_key->key = generate();
        in_openssl_heap = false;
        ret_key->address = words_of(ret_key->key);
        create_stand_in(ret_key);
    }
    if (!pkeyguard_heap_owns(openssl_heap, ret_key->address))
        die("the private key is outside the heap");
}

void private_key_free(struct private_key *key)
{
    EVP_PKEY_free(key->use);
    if (!key->guarded) {
        EC_KEY_free(key->key);
        return;
    }
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(openssl_heap))
        EC_KEY_free(key->key);
}

void private_key_sign(const struct private_key *key)
{
    static const unsigned char message[] = "a message";
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char signature[80];
    size_t length = sizeof(signature);

    if (context == NULL || EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key->use) != 1 ||
        EVP_DigestSign(context, signature, &length, message, sizeof(message)) != 1)
        die("cannot sign");
    EVP_MD_CTX_free(context);
}

bool private_key_is(const unsigned char bytes[PRIVATE_KEY_SIZE], const EVP_PKEY *public_key)
{
    const EC_KEY *key = EVP_PKEY_get0_EC_KEY(public_key);
    const EC_GROUP *group = EC_KEY_get0_group(key);
    BIGNUM *number = BN_lebin2bn(bytes, PRIVATE_KEY_SIZE, NULL);
    EC_POINT *point = EC_POINT_new(group);
    bool same;

    if (number == NULL || point == NULL ||
        EC_POINT_mul(group, point, number, NULL, NULL, NULL) != 1)
        die("cannot compute a public key");
    same = EC_POINT_cmp(group, point, EC_KEY_get0_public_key(key), NULL) == 0;
    EC_POINT_free(point);
    BN_clear_free(number);
    return same;
}
