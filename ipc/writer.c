#include "ipc/writer.h"

#include <errno.h>
#include <msgpack/pack.h>
#include <string.h>

void ipc_writer_init(struct ipc_writer *w, void *buf, size_t cap)
{
	w->data = buf;
	w->len = 0;
	w->cap = cap;
	w->err = 0;
	w->num_fds = 0;
}

static void fail(struct ipc_writer *w, int err)
{
	if (!w->err)
		w->err = err;
}

static int append(void *data, const char *buf, size_t len)
{
	struct ipc_writer *w = data;

	if (w->err || len > w->cap - w->len) {
		fail(w, -EMSGSIZE);
		return -1;
	}
	if (len)
		memcpy(w->data + w->len, buf, len);
	w->len += len;
	return 0;
}

/* The packer keeps no state besides the place to write to. */
static msgpack_packer packer(struct ipc_writer *w)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, w, append);
	return pk;
}

void ipc_write_array(struct ipc_writer *w, uint32_t count)
{
	msgpack_packer pk = packer(w);
	msgpack_pack_array(&pk, count);
}

void ipc_write_map(struct ipc_writer *w, uint32_t count)
{
	msgpack_packer pk = packer(w);
	msgpack_pack_map(&pk, count);
}

void ipc_write_uint(struct ipc_writer *w, uint64_t v)
{
	msgpack_packer pk = packer(w);
	msgpack_pack_uint64(&pk, v);
}

void ipc_write_int(struct ipc_writer *w, int64_t v)
{
	msgpack_packer pk = packer(w);
	msgpack_pack_int64(&pk, v);
}

void ipc_write_bool(struct ipc_writer *w, bool v)
{
	msgpack_packer pk = packer(w);
	if (v)
		msgpack_pack_true(&pk);
	else
		msgpack_pack_false(&pk);
}

void ipc_write_fixed(struct ipc_writer *w, const void *data, size_t size)
{
	msgpack_packer pk = packer(w);
	msgpack_pack_bin(&pk, size);
	msgpack_pack_bin_body(&pk, data, size);
}

void ipc_write_bytes(struct ipc_writer *w, struct ipc_bytes b, size_t max)
{
	if (b.len > max)
		fail(w, -EMSGSIZE);
	ipc_write_fixed(w, b.data, b.len);
}

void ipc_write_text(struct ipc_writer *w, const char *text, size_t max)
{
	msgpack_packer pk = packer(w);
	size_t len = text ? strnlen(text, max + 1) : 0;

	if (len > max)
		fail(w, -EMSGSIZE);
	msgpack_pack_str(&pk, len);
	msgpack_pack_str_body(&pk, text, len);
}

bool ipc_write_list(struct ipc_writer *w, const void *list, size_t num, size_t max)
{
	if (num > max)
		fail(w, -EMSGSIZE);
	if (num && !list)
		fail(w, -EINVAL);
	if (w->err)
		return false;
	ipc_write_array(w, (uint32_t)num);
	return !w->err;
}

void ipc_write_fd(struct ipc_writer *w, int fd)
{
	ipc_write_bool(w, fd >= 0);
	if (fd < 0)
		return;
	if (w->num_fds == IPC_FDS_MAX)
		fail(w, -EINVAL);
	else
		w->fds[w->num_fds++] = fd;
}
