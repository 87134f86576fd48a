/* SPDX-License-Identifier: MIT */
/*
 * sqlite_vault - an in-memory database that is reachable only while it is queried
 *
 * SQLite allocates everything from a keyed heap: pages, caches, statements and the connection. Each
 * use of SQLite is inside a scope. Outside the scopes, reading the database through a pointer
 * faults, and a system call that gets such a pointer fails with EFAULT.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include <pkeyguard.h>

#include "demonstration.h"

enum { HEAP_SIZE = 64 << 20, ROWS = 10000, QUERIES = 1000 };

static struct pkeyguard_heap *heap;

static void *allocate(int size)
{
    return pkeyguard_heap_alloc(heap, (size_t)size);
}

static void *reallocate(void *object, int size)
{
    return pkeyguard_heap_realloc(heap, object, (size_t)size);
}

static void release(void *object)
{
    check(pkeyguard_heap_free(heap, object), "freeing an object");
}

static int size_of(void *object)
{
    return object == NULL ? 0 : (int)pkeyguard_heap_usable_size(heap, object);
}

static int round_up(int size)
{
    return (size + 15) / 16 * 16;
}

static int init_nothing(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void shut_down_nothing(void *unused)
{
    (void)unused;
}

static void must(int result, const char *what)
{
    if (result != SQLITE_OK)
        die(what);
}

static void fill_database(sqlite3 **ret_database, sqlite3_stmt **ret_query)
{
    sqlite3_stmt *insert;
    char secret[32];

    must(sqlite3_open(":memory:", ret_database), "cannot open a database");
    must(sqlite3_exec(*ret_database,
                      "CREATE TABLE secrets (id INTEGER PRIMARY KEY, secret TEXT);"
                      "BEGIN",
                      NULL, NULL, NULL),
         "cannot create a table");
    must(sqlite3_prepare_v2(*ret_database, "INSERT INTO secrets VALUES (?, ?)", -1, &insert, NULL),
         "cannot prepare a statement");
    for (int i = 0; i < ROWS; i++) {
        snprintf(secret, sizeof(secret), "secret number %d", i);
        must(sqlite3_bind_int(insert, 1, i), "cannot bind a value");
        must(sqlite3_bind_text(insert, 2, secret, -1, SQLITE_TRANSIENT), "cannot bind a value");
        if (sqlite3_step(insert) != SQLITE_DONE)
            die("cannot insert a row");
        must(sqlite3_reset(insert), "cannot reset a statement");
    }
    must(sqlite3_finalize(insert), "cannot finalize a statement");
    must(sqlite3_exec(*ret_database, "COMMIT", NULL, NULL, NULL), "cannot commit the rows");
    must(sqlite3_prepare_v2(*ret_database, "SELECT secret FROM secrets WHERE id = ?", -1, ret_query,
                            NULL),
         "cannot prepare a statement");
}

/* Returns the address of the row's text. It must not be read after the scope. */
static const void *look_up(sqlite3_stmt *query, int row)
{
    const unsigned char *found;
    char expected[32];

    snprintf(expected, sizeof(expected), "secret number %d", row);
    must(sqlite3_reset(query), "cannot reset a statement");
    must(sqlite3_bind_int(query, 1, row), "cannot bind a value");
    if (sqlite3_step(query) != SQLITE_ROW)
        die("a row is missing");
    found = sqlite3_column_text(query, 0);
    if (found == NULL || strcmp((const char *)found, expected) != 0)
        die("a row is wrong");
    return found;
}

static void close_database(sqlite3 *database, sqlite3_stmt *query)
{
    must(sqlite3_finalize(query), "cannot finalize a statement");
    must(sqlite3_close(database), "cannot close the database");
}

struct times {
    double fill, query;
};

static struct times use_plain(void)
{
    sqlite3 *database;
    sqlite3_stmt *query;
    struct times times;
    double begun = now(), filled;

    fill_database(&database, &query);
    filled = now();
    for (int i = 0; i < QUERIES; i++)
        look_up(query, i * 7919 % ROWS);
    times = (struct times){filled - begun, now() - filled};
    close_database(database, query);
    return times;
}

static struct times use_guarded(void)
{
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    sqlite3 *database = NULL;
    sqlite3_stmt *query = NULL;
    const void *found = NULL;
    struct times times;
    double begun = now(), filled;

    pkeyguard_scoped_write (char, bytes, region)
        fill_database(&database, &query);
    filled = now();
    for (int i = 0; i < QUERIES; i++) {
        pkeyguard_scoped_write (char, bytes, region)
            found = look_up(query, i * 7919 % ROWS);
    }
    times = (struct times){filled - begun, now() - filled};

    if (!pkeyguard_heap_owns(heap, database) || !pkeyguard_heap_owns(heap, found))
        die("the database is not in the heap");
    if (is_reachable(found) || is_reachable(database))
        die("the database is reachable outside the scopes");
    pkeyguard_scoped_write (char, bytes, region) {
        if (!is_reachable(found))
            die("the database is not reachable inside a scope");
        close_database(database, query);
        must(sqlite3_shutdown(), "cannot shut SQLite down");
    }
    return times;
}

int main(void)
{
    static sqlite3_mem_methods methods = {allocate, release,      reallocate,        size_of,
                                          round_up, init_nothing, shut_down_nothing, NULL};
    struct times plain, guarded;
    struct pkeyguard_key *key;

    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating a key");
    check(pkeyguard_heap_create(key, HEAP_SIZE, 0, &heap), "creating a heap");
    check(pkeyguard_region_name(pkeyguard_heap_region(heap), "database"), "naming the heap");
    print_enforcement(key);
    plain = use_plain();
    must(sqlite3_shutdown(), "cannot shut SQLite down");
    must(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), "cannot make SQLite use the heap");
    guarded = use_guarded();
    printf("%d rows: %.1f ms plain, %.1f ms guarded (%+.1f %%)\n", ROWS, plain.fill / 1e6,
           guarded.fill / 1e6, 100 * (guarded.fill / plain.fill - 1));
    printf("%d queries, each in a scope: %.0f ns plain, %.0f ns guarded (%+.1f %%)\n", QUERIES,
           plain.query / QUERIES, guarded.query / QUERIES, 100 * (guarded.query / plain.query - 1));
    puts("outside the scopes the database is not reachable");
    check(pkeyguard_heap_destroy(heap), "destroying the heap");
    check(pkeyguard_key_destroy(key), "destroying the key");
    return EXIT_SUCCESS;
}
