#include "keyd/keyfile.h"

#include "worker/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CURRENT	    "keyring"
#define CURRENT_TMP "keyring.tmp"
#define OLD	    "keyring.old"
#define OLD_TMP	    "keyring.old.tmp"
#define DAMAGED	    "keyring.damaged"
#define UNLOCK	    "unlock"
#define UNLOCK_TMP  "unlock.tmp"

#define UNLOCK_SIZE 40

static const uint8_t unlock_header[8] = { 'B', 'Z', 'U', '1', 1 };

/* Secrets on their way between file and ring. Locked memory, wiped by sodium_free. */
struct scratch {
	uint8_t unlock[UNLOCK_SIZE];
	uint8_t file_key[SEALED_KEY_SIZE];
	uint8_t packed[KEYRING_PACKED_SIZE];
};

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A whole and durable file under a temporary name, or none. */
static int write_tmp(int dir, const char *name, const uint8_t *data, size_t len)
{
	int fd, r;

	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, name, 0);
	return r;
}

static int sync_dir(int dir)
{
	return fsync(dir) < 0 ? -errno : 0;
}

/* Reads a file of exactly len bytes; -EBADMSG when it is another length or no plain file. */
static int read_exactly(int dir, const char *name, uint8_t *data, size_t len, mode_t *ret_mode)
{
	/* Non-blocking, so that a FIFO in its place cannot hold us. */
	_cleanup_(closep) int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	size_t done = 0;

	if (fd < 0)
		return errno == ELOOP ? -EBADMSG : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != (off_t)len)
		return -EBADMSG;
	while (done < len) {
		ssize_t n = read(fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		done += (size_t)n;
	}
	if (ret_mode)
		*ret_mode = st.st_mode;
	return 0;
}

static int write_unlock(int dir, struct scratch *s)
{
	int r;

	memcpy(s->unlock, unlock_header, sizeof(unlock_header));
	randombytes_buf(s->unlock + sizeof(unlock_header), SEALED_KEY_SIZE);
	r = write_tmp(dir, UNLOCK_TMP, s->unlock, UNLOCK_SIZE);
	if (r < 0)
		return r;
	if (renameat(dir, UNLOCK_TMP, dir, UNLOCK) < 0) {
		r = -errno;
		unlinkat(dir, UNLOCK_TMP, 0);
		return r;
	}
	/* A keyring whose unlock key was lost with the power is lost too: first this, then that. */
	return sync_dir(dir);
}

static int read_unlock(int dir, struct scratch *s)
{
	mode_t mode;
	int r = read_exactly(dir, UNLOCK, s->unlock, UNLOCK_SIZE, &mode);

	if (r == -ENOENT || r == -EBADMSG)
		return -ENOKEY;
	if (r < 0)
		return r;
	if (mode & 077)
		return -EPERM;
	if (memcmp(s->unlock, unlock_header, 4) != 0)
		return -ENOKEY;
	if (memcmp(s->unlock, unlock_header, sizeof(unlock_header)) != 0)
		return -EPROTONOSUPPORT;
	return 0;
}

/*
 * Makes keyring.old another name of keyring. There is a keyring.old at every instant. Where both
 * are one file already (a crash between the two renames of keyfile_replace) rename does nothing and
 * leaves its source, hence the unlink.
 */
static int keep_old(int dir)
{
	int r = 0;

	if (unlinkat(dir, OLD_TMP, 0) < 0 && errno != ENOENT)
		return -errno;
	if (linkat(dir, CURRENT, dir, OLD_TMP, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (renameat(dir, OLD_TMP, dir, OLD) < 0)
		r = -errno;
	unlinkat(dir, OLD_TMP, 0);
	return r;
}

/* The keyring that could not be read must not become keyring.old, the only good one. */
static int keep_damaged(int dir)
{
	if (renameat(dir, CURRENT, dir, DAMAGED) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int seal(struct keyfile *file, struct keyring *ring, uint8_t out[SEALED_SIZE])
{
	struct scratch *s = sodium_malloc(sizeof(*s));
	uint8_t nonce[24];

	if (!s)
		return -ENOMEM;
	randombytes_buf(nonce, sizeof(nonce));
	keyring_get_file_key(ring, s->file_key);
	keyring_pack(ring, s->packed);
	sealed_write(&file->slots, file->generation + 1, s->file_key, nonce, s->packed, out);
	sodium_free(s);
	return 0;
}

int keyfile_replace(struct keyfile *file, struct keyring *ring)
{
	uint8_t sealed[SEALED_SIZE];
	int r;

	if (file->is_uncertain)
		return -EIO;
	r = seal(file, ring, sealed);
	if (r < 0)
		return r;
	/* A crash up to here leaves a temporary file. */
	r = write_tmp(file->dir, CURRENT_TMP, sealed, sizeof(sealed));
	if (r < 0)
		return r;
	r = file->is_current_lost ? keep_damaged(file->dir) : keep_old(file->dir);
	/* A crash here: both names are the generation before. */
	if (r == 0 && renameat(file->dir, CURRENT_TMP, file->dir, CURRENT) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(file->dir, CURRENT_TMP, 0);
		return r;
	}
	r = sync_dir(file->dir);
	if (r < 0) {
		file->is_uncertain = true;
		return r;
	}
	file->generation++;
	file->is_current_lost = false;
	return 0;
}

static bool exists(int dir, const char *name)
{
	struct stat st;

	/* Whatever keeps us from looking is no leave to write over it. */
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

int keyfile_create(struct keyfile *file, int dir, struct keyring *ring)
{
	struct scratch *s;
	uint8_t random[40];
	int r;

	*file = (struct keyfile){ .dir = dir };
	if (exists(dir, CURRENT) || exists(dir, OLD))
		return -EEXIST;
	s = sodium_malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = write_unlock(dir, s);
	if (r == 0) {
		randombytes_buf(random, sizeof(random));
		keyring_get_file_key(ring, s->file_key);
		sealed_set_key_slot(
			&file->slots, 0, s->unlock + sizeof(unlock_header), s->file_key, random);
		r = keyfile_replace(file, ring);
	}
	sodium_free(s);
	return r;
}

static int open_one(struct keyfile *file, const char *name, struct scratch *s, struct keyring *ring)
{
	uint8_t data[SEALED_SIZE];
	int r = read_exactly(file->dir, name, data, sizeof(data), NULL);

	if (r < 0)
		return r;
	r = sealed_read(data, sizeof(data), s->unlock + sizeof(unlock_header), &file->slots,
		&file->generation, s->file_key, s->packed);
	if (r < 0)
		return r;
	r = keyring_unpack(ring, s->packed, sizeof(s->packed));
	if (r < 0)
		/* It was sealed by us, so it is no damage. */
		return r == -EBADMSG ? -EILSEQ : r;
	keyring_set_file_key(ring, s->file_key);
	return 0;
}

static int open_either(
	struct keyfile *file, struct scratch *s, struct keyring *ring, bool *ret_is_old)
{
	int r, old;

	*ret_is_old = false;
	r = open_one(file, CURRENT, s, ring);
	if (r != -ENOENT && r != -EBADMSG && r != -EIO)
		return r;
	old = open_one(file, OLD, s, ring);
	if (old == -ENOENT)
		return r;
	if (old < 0)
		return old;
	file->is_current_lost = true;
	*ret_is_old = true;
	return 0;
}

int keyfile_open(struct keyfile *file, int dir, struct keyring *ring, bool *ret_is_old)
{
	struct scratch *s;
	int r;

	*file = (struct keyfile){ .dir = dir };
	if (!exists(dir, CURRENT) && !exists(dir, OLD))
		return -ENOENT;
	s = sodium_malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = read_unlock(dir, s);
	if (r == 0)
		r = open_either(file, s, ring, ret_is_old);
	sodium_free(s);
	if (r < 0)
		return r;
	/* Left by a crash; a read-only directory is no reason not to start. */
	unlinkat(dir, CURRENT_TMP, 0);
	unlinkat(dir, OLD_TMP, 0);
	unlinkat(dir, UNLOCK_TMP, 0);
	return 0;
}

const char *keyfile_advice(int err)
{
	switch (-err) {
	case ENOENT:
		return "there is no keyring in this data directory: run `bazil create`, or restore "
		       "keys/ from a backup";
	case EEXIST:
		return "there is a keyring in this data directory already, which is left alone";
	case EBADMSG:
		return "keys/keyring is damaged and so is keys/keyring.old, or there is none: "
		       "restore "
		       "keys/ from a backup";
	case EILSEQ:
		return "keys/keyring was altered by something else than bazil: restore keys/ from "
		       "a "
		       "backup";
	case EKEYREJECTED:
		return "keys/unlock does not belong to keys/keyring: restore both from the same "
		       "backup";
	case ENOKEY:
		return "keys/unlock is missing or damaged: restore it from a backup, nothing else "
		       "opens keys/keyring";
	case EPERM:
		return "others may read keys/unlock: run `chmod 600` on it, and think about who "
		       "has "
		       "read it";
	case EPROTONOSUPPORT:
		return "the keyring was written by a newer bazil: upgrade this one";
	case ENOSPC:
	case EDQUOT:
		return "the disk is full: nothing was changed, make room and try again";
	case EACCES:
		return "keys/ cannot be written: it must belong to you: run `chmod 700` on it; "
		       "nothing was changed";
	case EROFS:
		return "the data directory is read-only: nothing was changed";
	default:
		return strerror(-err);
	}
}
