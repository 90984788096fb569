#include "stored/db_state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char *const table_names[DB_NUM] = {
	[DB_META] = "meta",
	[DB_SETTINGS] = "settings",
	[DB_OBJECTS] = "objects",
	[DB_TAGS] = "tags",
	[DB_RECORDS] = "records",
	[DB_NAMES] = "names",
	[DB_DIRS] = "dirs",
	[DB_TARGETS] = "targets",
	[DB_COUNTS] = "counts",
	[DB_STAMPS] = "stamps",
	[DB_DEAD] = "dead",
	[DB_LABELS] = "labels",
	[DB_FALLEN] = "fallen",
	[DB_GC] = "gc",
	[DB_HIST] = "history",
	[DB_HNAMES] = "history-names",
	[DB_HDIRS] = "history-dirs",
	[DB_HTARGETS] = "history-targets",
	[DB_HFALLEN] = "history-fallen",
	[DB_TIMES] = "times",
	[DB_SNAPSHOTS] = "snapshots",
	[DB_PULLS] = "pulls",
};

int db_error(int code)
{
	if (code == 0)
		return 0;
	if (code > 0)
		return -code;
	switch (code) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_MAP_RESIZED:
	case MDB_TXN_FULL:
		return -EOVERFLOW;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_READERS_FULL:
		return -EBUSY;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN;
	case MDB_PANIC:
	case MDB_BAD_TXN:
		return -EIO;
	default:
		return -EINVAL;
	}
}

/* As large as the address space allows: the file is sparse and grows with what is in it. */
static uint64_t map_limit(uint64_t want)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		while (want > limit.rlim_cur / 4 && want > (16u << 20))
			want /= 2;
	return want;
}

static int db_tables(struct db *db)
{
	MDB_txn *txn;
	int i, r;

	r = mdb_txn_begin(db->env, NULL, 0, &txn);
	if (r != 0)
		return db_error(r);
	for (i = 0; i < DB_NUM; i++) {
		r = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &db->dbi[i]);
		if (r != 0) {
			mdb_txn_abort(txn);
			return db_error(r);
		}
	}
	return db_error(mdb_txn_commit(txn));
}

/* Pages that the file does not have end the process when they are read. */
static int db_check_size(struct db *db)
{
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	int fd, r;

	r = mdb_env_info(db->env, &info);
	if (r == 0)
		r = mdb_env_stat(db->env, &stat);
	if (r == 0)
		r = mdb_env_get_fd(db->env, &fd);
	if (r != 0)
		return db_error(r);
	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size / stat.ms_psize <= info.me_last_pgno ? -EUCLEAN : 0;
}

int db_open(struct db **ret, const char *path, uint64_t map_size)
{
	struct db *db = calloc(1, sizeof(*db));
	int dead, r;

	if (!db)
		return -ENOMEM;
	r = db_error(mdb_env_create(&db->env));
	if (r < 0) {
		free(db);
		return r;
	}
	db->write.db = db;
	db->map_size = map_limit(map_size);
	pthread_mutex_init(&db->copying, NULL);
	mdb_env_set_maxdbs(db->env, DB_NUM);
	do {
		r = mdb_env_set_mapsize(db->env, db->map_size);
		if (r == 0)
			r = mdb_env_open(db->env, path, MDB_NOSUBDIR | MDB_NOTLS, 0600);
		if (r != ENOMEM || db->map_size <= (64u << 20))
			break;
		/* Less address space than hoped. A failed open leaves an env that must go. */
		mdb_env_close(db->env);
		db->map_size /= 4;
		r = mdb_env_create(&db->env);
		if (r != 0) {
			free(db);
			return db_error(r);
		}
		mdb_env_set_maxdbs(db->env, DB_NUM);
		r = ENOMEM;
	} while (r == ENOMEM);
	r = db_error(r);
	/* Slots of readers that were killed would pin their pages for ever. */
	if (r == 0)
		r = db_error(mdb_reader_check(db->env, &dead));
	if (r == 0)
		r = db_check_size(db);
	if (r == 0)
		r = db_tables(db);
	if (r < 0) {
		mdb_env_close(db->env);
		free(db);
		return r;
	}
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	db_abort(db);
	mdb_env_close(db->env);
	free(db);
}
