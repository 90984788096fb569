#include "ipc/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

#define RING_MAGIC   UINT64_C(0x31474e49525a4142) /* "BAZRING1" in memory */
#define RING_VERSION 1
#define HEADER_SIZE  (64u << 10) /* the largest page size there is, so that data can be mapped */
#define SEALS	     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Each side's words on cache lines of their own. */
struct header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t data_size;
	uint8_t pad0[40];
	_Atomic uint64_t head;
	uint8_t pad1[56];
	_Atomic uint64_t tail;
	uint8_t pad2[56];
	/* By enum ipc_ring_side: 1 when that side sleeps or is about to. */
	struct {
		_Atomic uint32_t sleeps;
		uint8_t pad[60];
	} side[2];
	uint8_t pad3[192];
	uint8_t user[IPC_RING_USER_SIZE];
};

_Static_assert(offsetof(struct header, head) == 64, "head on its cache line");
_Static_assert(offsetof(struct header, tail) == 128, "tail on its cache line");
_Static_assert(offsetof(struct header, user) == 512, "user area on a cache line");

struct entry {
	uint32_t len;
	uint32_t type;
};

struct ipc_ring {
	struct header *header;
	uint8_t *data; /* mapped twice in a row */
	uint64_t size;
	enum ipc_ring_side side;
	/*
	 * Producer: the end of what is staged. Consumer: its tail. Never read back from the shared
	 * memory, where the other side could change it.
	 */
	uint64_t pos;
	uint64_t published;
};

static bool is_size(uint64_t size)
{
	return size >= IPC_RING_SIZE_MIN && size <= IPC_RING_SIZE_MAX && !(size & (size - 1));
}

static int make_memfd(void)
{
	int fd = memfd_create("bazil-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	/* Kernels before 6.3 do not know the flag. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("bazil-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

int ipc_ring_create(size_t data_size, int *ret_fd)
{
	const struct header h = { .magic = RING_MAGIC,
		.version = RING_VERSION,
		.header_size = HEADER_SIZE,
		.data_size = data_size };
	int fd, r;

	if (!is_size(data_size))
		return -EINVAL;
	fd = make_memfd();
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)(HEADER_SIZE + data_size)) < 0 ||
		pwrite(fd, &h, sizeof(h), 0) != sizeof(h) || fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
		r = errno ? -errno : -EIO;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* Maps header, data and data again over one reservation of addresses. */
static int map_all(struct ipc_ring *ring, int fd)
{
	const int prot = ring->side == IPC_RING_PRODUCER ? PROT_READ | PROT_WRITE : PROT_READ;
	const size_t size = ring->size, total = HEADER_SIZE + 2 * size;
	uint8_t *base =
		mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *data = base + HEADER_SIZE;
	int r;

	if (base == MAP_FAILED)
		return -errno;
	if (mmap(base, HEADER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
			MAP_FAILED ||
		mmap(data, size, prot, MAP_SHARED | MAP_FIXED, fd, HEADER_SIZE) == MAP_FAILED ||
		mmap(data + size, size, prot, MAP_SHARED | MAP_FIXED, fd, HEADER_SIZE) ==
			MAP_FAILED) {
		r = -errno;
		munmap(base, total);
		return r;
	}
	ring->header = (struct header *)base;
	ring->data = data;
	return 0;
}

/* The size comes from the sealed file, not from the header, which the other side can write to. */
static int check_fd(int fd, uint64_t *ret_size)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	/* A file that could shrink would kill us (SIGBUS) when the other side likes. */
	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
		return -EBADMSG;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)(HEADER_SIZE + IPC_RING_SIZE_MIN) ||
		!is_size((uint64_t)st.st_size - HEADER_SIZE))
		return -EBADMSG;
	*ret_size = (uint64_t)st.st_size - HEADER_SIZE;
	return 0;
}

static int check_header(const struct ipc_ring *ring)
{
	const struct header *h = ring->header;
	const uint64_t head = ipc_ring_head(ring), tail = ipc_ring_tail(ring);

	if (h->magic != RING_MAGIC)
		return -EBADMSG;
	if (h->version != RING_VERSION)
		return -EPROTONOSUPPORT;
	if (h->header_size != HEADER_SIZE || h->data_size != ring->size)
		return -EBADMSG;
	if (head - tail > ring->size || head % 8 || tail % 8)
		return -EBADMSG;
	return 0;
}

int ipc_ring_map(struct ipc_ring **ret, int fd, enum ipc_ring_side side)
{
	struct ipc_ring *ring = calloc(1, sizeof(*ring));
	int r;

	if (!ring)
		return -ENOMEM;
	ring->side = side;
	r = check_fd(fd, &ring->size);
	if (r == 0)
		r = map_all(ring, fd);
	if (r == 0)
		r = check_header(ring);
	if (r < 0) {
		ipc_ring_unmap(ring);
		return r;
	}
	ring->pos = side == IPC_RING_PRODUCER ? ipc_ring_head(ring) : ipc_ring_tail(ring);
	ring->published = ring->pos;
	/* The predecessor may have died asleep; we are awake. */
	ipc_ring_sleep_end(ring);
	*ret = ring;
	return 0;
}

void ipc_ring_unmap(struct ipc_ring *ring)
{
	if (!ring)
		return;
	if (ring->header)
		munmap(ring->header, HEADER_SIZE + 2 * ring->size);
	free(ring);
}

size_t ipc_ring_size(const struct ipc_ring *ring)
{
	return ring->size;
}

void *ipc_ring_user(struct ipc_ring *ring)
{
	return ring->header->user;
}

uint64_t ipc_ring_head(const struct ipc_ring *ring)
{
	return atomic_load_explicit(&ring->header->head, memory_order_acquire);
}

uint64_t ipc_ring_tail(const struct ipc_ring *ring)
{
	return atomic_load_explicit(&ring->header->tail, memory_order_acquire);
}

uint64_t ipc_ring_entry_size(uint32_t len)
{
	return sizeof(struct entry) + (((uint64_t)len + 7) & ~UINT64_C(7));
}

static uint8_t *at(const struct ipc_ring *ring, uint64_t pos)
{
	return ring->data + (pos & (ring->size - 1));
}

void *ipc_ring_reserve(struct ipc_ring *ring, uint32_t len)
{
	/* Acquire: the consumer's reads of the room that it gave up come before our writes. */
	const uint64_t used = ring->pos - ipc_ring_tail(ring);

	/* A tail beyond the head, by a consumer gone mad, gives a huge `used`: no room. */
	if (used > ring->size || ipc_ring_entry_size(len) > ring->size - used)
		return NULL;
	return at(ring, ring->pos) + sizeof(struct entry);
}

void ipc_ring_stage(struct ipc_ring *ring, uint32_t type, uint32_t len)
{
	const struct entry e = { .len = len, .type = type };

	memcpy(at(ring, ring->pos), &e, sizeof(e));
	ring->pos += ipc_ring_entry_size(len);
}

uint64_t ipc_ring_commit(struct ipc_ring *ring)
{
	/* Release: whoever sees the new head sees the entries before it. The one step that counts.
	 */
	atomic_store_explicit(&ring->header->head, ring->pos, memory_order_release);
	ring->published = ring->pos;
	return ring->pos;
}

void ipc_ring_abort(struct ipc_ring *ring)
{
	ring->pos = ring->published;
}

void ipc_ring_publish(struct ipc_ring *ring, uint32_t type, uint32_t len)
{
	ipc_ring_stage(ring, type, len);
	ipc_ring_commit(ring);
}

int ipc_ring_append(struct ipc_ring *ring, uint32_t type, const void *data, uint32_t len)
{
	void *room = ipc_ring_reserve(ring, len);

	if (!room)
		return -EAGAIN;
	if (len)
		memcpy(room, data, len);
	ipc_ring_stage(ring, type, len);
	return 0;
}

int ipc_ring_peek_at(struct ipc_ring *ring, uint64_t pos, uint64_t *ret_end, uint32_t *ret_type,
	const void **ret_data, uint32_t *ret_len)
{
	const uint64_t head = ipc_ring_head(ring), there = head - pos;
	const struct entry *e = (const struct entry *)at(ring, pos);
	uint32_t len;

	if (head - ring->pos > ring->size || head % 8)
		return -EBADMSG;
	if (pos % 8 || pos - ring->pos > head - ring->pos)
		return -EINVAL;
	if (there == 0)
		return 0;
	/* Read once: a second look could find another length. there is at least 8. */
	len = __atomic_load_n(&e->len, __ATOMIC_RELAXED);
	if (ipc_ring_entry_size(len) > there)
		return -EBADMSG;
	*ret_end = pos + ipc_ring_entry_size(len);
	*ret_type = __atomic_load_n(&e->type, __ATOMIC_RELAXED);
	*ret_data = e + 1;
	*ret_len = len;
	return 1;
}

int ipc_ring_peek(struct ipc_ring *ring, uint64_t *ret_end, uint32_t *ret_type,
	const void **ret_data, uint32_t *ret_len)
{
	return ipc_ring_peek_at(ring, ring->pos, ret_end, ret_type, ret_data, ret_len);
}

void ipc_ring_release(struct ipc_ring *ring, uint64_t upto)
{
	if (upto - ring->pos > ring->size)
		return;
	ring->pos = upto;
	/* Release: our reads of these entries come before the producer's new writes. */
	atomic_store_explicit(&ring->header->tail, upto, memory_order_release);
}

static _Atomic uint32_t *sleeps(struct ipc_ring *ring, bool other)
{
	return &ring->header->side[(unsigned)ring->side ^ other].sleeps;
}

/*
 * Both sides store (position here, sleeps there), fence, and load the other's word. With the two
 * fences at least one of them sees what the other stored (Dekker): no wake-up is lost.
 */
bool ipc_ring_must_kick(struct ipc_ring *ring)
{
	_Atomic uint32_t *flag = sleeps(ring, true);

	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(flag, memory_order_relaxed))
		return false;
	return atomic_exchange_explicit(flag, 0, memory_order_acq_rel) != 0;
}

void ipc_ring_sleep_begin(struct ipc_ring *ring)
{
	atomic_store_explicit(sleeps(ring, false), 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

void ipc_ring_sleep_end(struct ipc_ring *ring)
{
	atomic_store_explicit(sleeps(ring, false), 0, memory_order_relaxed);
}
