/* SPDX-License-Identifier: MIT */
/*
 * lmdb_pool - a pool of records in an LMDB file that only write transactions can change
 *
 * It guards against stray writes into a mapped file. LMDB is fastest with a writable map
 * (MDB_WRITEMAP). But then any bug of the program that writes through a wrong pointer can change
 * the file, and nobody notices. Here the map is adopted by a key that every thread may read. Each
 * write transaction is in a write scope. Readers use the map at the same time, without a scope.
 * --crash has another thread write to the map while this one has it open: SIGSEGV kills it. (Where
 * there are no protection keys a scope opens the map for every thread, and the write comes outside
 * of scopes.)
 *
 * The order matters. LMDB may unmap the map only after the region is destroyed, which gives the map
 * back to LMDB: before the map grows, and before the environment is closed. The key is older than
 * the threads that read, so they have its default rights.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "intruder.h"

enum { RECORDS = 100, TRANSACTIONS = 200, READERS = 2, FIRST_MAP_SIZE = 256 << 10 };

struct record {
    long round; /* each transaction sets this one in all records */
    char filling[1000];
};

static struct pool {
    struct pkeyguard_key *key;
    MDB_env *environment;
    MDB_dbi database;
    size_t map_size;
    int growths;
    struct pkeyguard_region *map;

    /* Readers have it during a transaction. The writer takes it to grow the map, which LMDB allows
     * only while there is no transaction. */
    pthread_rwlock_t map_stays;
} pool = {.map_size = FIRST_MAP_SIZE,
          .map_stays = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};

static atomic_bool all_written;
static atomic_int reads;

static void must(int result, const char *what)
{
    if (result != MDB_SUCCESS) {
        fprintf(stderr, "%s: %s\n", what, mdb_strerror(result));
        exit(EXIT_FAILURE);
    }
}

/* ---- the map ---- */

static unsigned long inode_of_map(void)
{
    struct stat file;
    int fd;

    must(mdb_env_get_fd(pool.environment, &fd), "finding the file");
    if (fstat(fd, &file) != 0)
        die("cannot find the file");
    return file.st_ino;
}

/* LMDB does not tell where its map is, but the kernel does. */
static void *find_map(void)
{
    unsigned long wanted = inode_of_map(), begin = 0, inode;
    FILE *mappings = fopen("/proc/self/maps", "r");
    bool found = false;
    char line[1024];

    if (mappings == NULL)
        die("cannot open /proc/self/maps");
    while (!found && fgets(line, sizeof(line), mappings) != NULL)
        found = sscanf(line, "%lx-%*x %*s %*x %*s %lu", &begin, &inode) == 2 && inode == wanted;
    fclose(mappings);
    if (!found)
        die("there is no map");
    return (void *)begin;
}

static void adopt_map(void)
{
    check(pkeyguard_region_adopt(pool.key, find_map(), pool.map_size, PROT_READ | PROT_WRITE, 0,
                                 &pool.map),
          "adopting the map");
    check(pkeyguard_region_name(pool.map, "LMDB map"), "naming the map");
}

static void give_map_back(void)
{
    check(pkeyguard_region_destroy(pool.map), "giving the map back");
}

/* LMDB unmaps the map and maps it again, elsewhere. */
static void grow_map(void)
{
    pthread_rwlock_wrlock(&pool.map_stays);
    give_map_back();
    pool.map_size *= 2;
    pool.growths++;
    must(mdb_env_set_mapsize(pool.environment, pool.map_size), "growing the map");
    adopt_map();
    pthread_rwlock_unlock(&pool.map_stays);
}

/* ---- transactions ---- */

static int put_records(MDB_txn *transaction, long round)
{
    struct record record = {.round = round};
    int result = MDB_SUCCESS;

    for (int i = 0; i < RECORDS && result == MDB_SUCCESS; i++) {
        MDB_val key = {sizeof(i), &i}, value = {sizeof(record), &record};

        result = mdb_put(transaction, pool.database, &key, &value, 0);
    }
    return result;
}

/* Inside a write scope. Returns MDB_MAP_FULL, with nothing changed, if the map must grow. */
static int try_to_write_records(long round)
{
    MDB_txn *transaction;
    int result;

    must(mdb_txn_begin(pool.environment, NULL, 0, &transaction), "beginning to write");
    result = put_records(transaction, round);
    if (result == MDB_SUCCESS)
        return mdb_txn_commit(transaction);
    mdb_txn_abort(transaction);
    return result;
}

static void write_records(long round)
{
    int result = MDB_MAP_FULL;

    while (result == MDB_MAP_FULL) {
        pkeyguard_scoped_write (char, bytes, pool.map)
            result = try_to_write_records(round);
        if (result == MDB_MAP_FULL)
            grow_map();
    }
    must(result, "writing records");
}

/* A transaction sees all records of the same round. The values are read where they are in the map.
 */
static void read_records(void)
{
    MDB_txn *transaction;
    long first_round = 0;

    pthread_rwlock_rdlock(&pool.map_stays);
    must(mdb_txn_begin(pool.environment, NULL, MDB_RDONLY, &transaction), "beginning to read");
    for (int i = 0; i < RECORDS; i++) {
        MDB_val key = {sizeof(i), &i}, value;
        long round;

        must(mdb_get(transaction, pool.database, &key, &value), "reading a record");
        memcpy(&round, value.mv_data, sizeof(round)); /* at any address: LMDB does not align */
        if (i == 0)
            first_round = round;
        if (round != first_round)
            die("a reader sees half a transaction");
    }
    mdb_txn_abort(transaction);
    pthread_rwlock_unlock(&pool.map_stays);
    reads++;
}

static void *run_reader(void *argument)
{
    sem_t *has_read = argument;

    read_records();
    sem_post(has_read);
    while (!all_written)
        read_records();
    return NULL;
}

static void write_beside_readers(void)
{
    pthread_t readers[READERS];
    sem_t has_read;

    if (sem_init(&has_read, 0, 0) != 0)
        die("cannot create a semaphore");
    for (int i = 0; i < READERS; i++) {
        if (pthread_create(&readers[i], NULL, run_reader, &has_read) != 0)
            die("cannot create a thread");
    }
    for (int i = 0; i < READERS; i++) {
        while (sem_wait(&has_read) != 0)
            ;
    }
    for (int i = 1; i <= TRANSACTIONS; i++)
        write_records(i);
    all_written = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
}

/* ---- the file ---- */

/* In a file that has no name any more when it returns. */
static void open_environment(void)
{
    char directory[] = "/tmp/lmdb_pool.XXXXXX", file[64], lock[64];

    if (mkdtemp(directory) == NULL)
        die("cannot create a directory");
    snprintf(file, sizeof(file), "%s/pool", directory);
    snprintf(lock, sizeof(lock), "%s/pool-lock", directory);
    must(mdb_env_create(&pool.environment), "creating the environment");
    must(mdb_env_set_mapsize(pool.environment, pool.map_size), "setting the size of the map");
    must(mdb_env_open(pool.environment, file, MDB_NOSUBDIR | MDB_WRITEMAP | MDB_NOSYNC, 0600),
         "opening the environment");
    if (unlink(file) != 0 || unlink(lock) != 0 || rmdir(directory) != 0)
        die("cannot remove the file's name");
}

static void open_database(void)
{
    MDB_txn *transaction;

    pkeyguard_scoped_write (char, bytes, pool.map) {
        must(mdb_txn_begin(pool.environment, NULL, 0, &transaction), "beginning to write");
        must(mdb_dbi_open(transaction, NULL, MDB_INTEGERKEY, &pool.database),
             "opening the database");
        must(mdb_txn_commit(transaction), "opening the database");
    }
    write_records(0);
}

int main(int argc, char **argv)
{
    bool crashes = argc == 2 && strcmp(argv[1], "--crash") == 0;

    if (argc > 1 && !crashes) {
        fprintf(stderr, "usage: lmdb_pool [--crash]\n");
        return 2;
    }
    check(pkeyguard_fault_reporter_install(0), "installing the fault reporter");
    check(pkeyguard_key_create(PKEYGUARD_READ_ONLY, 0, &pool.key), "creating a key");
    print_enforcement(pool.key);
    open_environment();
    adopt_map();
    open_database();

    write_beside_readers();
    printf("%d write transactions beside %d reads; the map has grown %d times, from %d KiB to "
           "%zu KiB\n",
           TRANSACTIONS, reads, pool.growths, FIRST_MAP_SIZE >> 10, pool.map_size >> 10);
    intrude(pool.map, "the map", crashes);
    read_records();

    give_map_back();
    mdb_env_close(pool.environment);
    check(pkeyguard_key_destroy(pool.key), "destroying the key");
    return EXIT_SUCCESS;
}
