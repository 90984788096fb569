#include "stored/arena.h"

#include "cas/bytes.h"
#include "stored/broken.h"
#include "stored/failed.h"
#include "stored/superblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_KEEP (8u << 20) /* a larger buffer is given back after its flush */

/* ---- opening */

static void arena_name(uint32_t number, char ret_name[32])
{
	snprintf(ret_name, 32, "arena.%08u", number);
}

/* ---- descriptors */

struct arena *arenas_find(const struct arenas *a, uint32_t number)
{
	size_t low = 0, high = a->num;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (a->list[mid].number == number)
			return &a->list[mid];
		if (a->list[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static void arena_shut(struct arenas *a, struct arena *arena)
{
	if (arena->fd < 0)
		return;
	a->io->close(a->io->ctx, arena->fd);
	arena->fd = -1;
	a->num_open--;
}

static bool is_lent(const struct arenas *a, uint32_t number)
{
	for (size_t i = 0; i < ARENAS_NUM_BORROWERS; i++)
		if (a->lent[i] == number)
			return true;
	return false;
}

/* All but the last are complete and durable: it was synced before the next was begun. So closing
 * one loses no error of writing. */
static void shut_oldest(struct arenas *a)
{
	struct arena *oldest = NULL;

	for (size_t i = 0; i + 1 < a->num; i++) {
		struct arena *arena = &a->list[i];

		if (arena->fd >= 0 && (!oldest || arena->used < oldest->used) &&
			!is_lent(a, arena->number))
			oldest = arena;
	}
	if (oldest)
		arena_shut(a, oldest);
}

static int arena_fd(struct arenas *a, struct arena *arena)
{
	char name[32];
	int fd;

	arena->used = ++a->clock;
	if (arena->fd >= 0)
		return arena->fd;
	if (a->num_open >= a->open_max)
		shut_oldest(a);
	arena_name(arena->number, name);
	fd = a->io->openat(a->io->ctx, a->dir_fd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	a->num_open++;
	return arena->fd = fd;
}

int arenas_fd(struct arenas *a, uint32_t number)
{
	struct arena *arena = arenas_find(a, number);

	return arena ? arena_fd(a, arena) : -ENOENT;
}

int arenas_lend(struct arenas *a, uint32_t number, enum arenas_borrower who)
{
	int fd = arenas_fd(a, number);

	if (fd >= 0)
		a->lent[who] = number;
	return fd;
}

void arenas_give_back(struct arenas *a, enum arenas_borrower who)
{
	a->lent[who] = 0;
}

/* ---- making and loading */

/* Makes arena `number`, durable with its name before anything is put into it: the index may name
 * it only when it cannot vanish any more. */
static int arena_create(struct arenas *a, uint32_t number)
{
	struct frame_super super = { .arena = number, .sequence = a->next_sequence };
	const struct store_io *io = a->io;
	uint8_t head[FRAME_SUPER_SIZE];
	struct arena *list, *arena;
	char name[32];
	int fd, r;

	list = realloc(a->list, (a->num + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	a->list = list;
	super.created = io->now(io->ctx);
	r = io->random(io->ctx, super.id, sizeof(super.id));
	if (r < 0)
		return r;
	frame_super_emit(&super, head);
	arena_name(number, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	r = store_io_write_full(io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = io->fdatasync(io->ctx, fd);
	if (r == 0 && !BROKEN(BROKEN_NO_DIR_SYNC))
		r = io->fsync_dir(io->ctx, a->dir_fd);
	if (r < 0) {
		io->close(io->ctx, fd);
		io->unlinkat(io->ctx, a->dir_fd, name);
		return r;
	}
	arena = &a->list[a->num++];
	*arena = (struct arena){ .number = number, .fd = fd, .sequence = super.sequence };
	a->num_open++;
	arena->used = ++a->clock;
	arena->size = FRAME_SUPER_SIZE;
	memcpy(arena->id, super.id, sizeof(arena->id));
	if (a->num_open > a->open_max)
		shut_oldest(a);
	superblocks_keep(NULL, io, a->dir_fd, &super);
	return 0;
}

static int note(struct arenas *a, uint32_t number, bool is_aside)
{
	struct arenas_note *notes;

	notes = realloc(a->notes, (a->num_notes + 1) * sizeof(*notes));
	if (!notes)
		return -ENOMEM;
	a->notes = notes;
	notes[a->num_notes++] = (struct arenas_note){ number, is_aside };
	a->num_aside += is_aside;
	if (is_aside && number > a->max_aside)
		a->max_aside = number;
	return 0;
}

struct names {
	struct arenas *a;
	uint32_t *numbers;
	size_t num;
};

static int names_add(void *arg, const char *name)
{
	struct names *names = arg;
	uint32_t *numbers;
	uint32_t number = 0;
	bool is_aside;
	size_t i;

	if (strncmp(name, "arena.", 6) != 0 || strlen(name) < 14)
		return 0;
	is_aside = strcmp(name + 14, ".bad") == 0;
	if (name[14] && !is_aside)
		return 0;
	for (i = 6; i < 14; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		number = number * 10 + (uint32_t)(name[i] - '0');
	}
	if (is_aside)
		return note(names->a, number, true);
	numbers = realloc(names->numbers, (names->num + 1) * sizeof(*numbers));
	if (!numbers)
		return -ENOMEM;
	names->numbers = numbers;
	numbers[names->num++] = number;
	return 0;
}

static int number_compare(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return (a > b) - (a < b);
}

/* The first block from its copy; what is there is no superblock. */
static int super_mend(struct arenas *a, const struct superblocks *copies, int fd, uint32_t number,
	struct frame_super *ret)
{
	uint8_t head[FRAME_SUPER_SIZE];
	int r;

	r = superblocks_get(copies, number, ret);
	if (r < 0)
		return -EBADMSG;
	frame_super_emit(ret, head);
	r = store_io_write_full(a->io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = a->io->fdatasync(a->io->ctx, fd);
	return r < 0 ? r : note(a, number, false);
}

static int super_read(struct arenas *a, const struct superblocks *copies, int fd, uint32_t number,
	uint64_t size, struct frame_super *ret)
{
	uint8_t head[FRAME_SUPER_SIZE];
	int r;

	r = store_io_read_full(a->io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = frame_super_parse(head, ret);
	if (r == -EBADMSG && size > FRAME_SUPER_SIZE)
		return super_mend(a, copies, fd, number, ret);
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	if (ret->arena != number)
		return -EBADMSG;
	superblocks_keep(copies, a->io, a->dir_fd, ret);
	return 0;
}

/* -EBADMSG: no superblock; with *ret_is_empty it was perhaps never finished (a crash in
 * arena_create), and holds nothing. */
static int arena_load(struct arenas *a, const struct superblocks *copies, uint32_t number,
	struct arena *ret, bool *ret_is_empty)
{
	const struct store_io *io = a->io;
	struct sealed_trailer trailer;
	struct frame_super super;
	struct stat st;
	char name[32];
	int fd, r;

	*ret_is_empty = false;
	arena_name(number, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	r = io->fstat(io->ctx, fd, &st);
	if (r == 0)
		r = super_read(a, copies, fd, number, (uint64_t)st.st_size, &super);
	if (r < 0) {
		*ret_is_empty = r == -EBADMSG && st.st_size <= FRAME_SUPER_SIZE;
		io->close(io->ctx, fd);
		return r;
	}
	*ret = (struct arena){ .number = number, .fd = fd, .sequence = super.sequence };
	a->num_open++;
	ret->used = ++a->clock;
	ret->size = (uint64_t)st.st_size;
	memcpy(ret->id, super.id, sizeof(ret->id));
	r = sealed_trailer_read(io, fd, number, ret->id, ret->size, &trailer);
	if (r == 0) {
		ret->size = trailer.footer;
		ret->has_ended = ret->is_sealed = true;
	}
	if (r == -ENODATA)
		r = 0;
	if (r < 0)
		arena_shut(a, ret);
	return r;
}

/* Kept, for whoever can make something of it. */
static int arena_set_aside(struct arenas *a, uint32_t number)
{
	char name[32], bad[40];
	int r;

	arena_name(number, name);
	snprintf(bad, sizeof(bad), "%s.bad", name);
	r = a->io->renameat(a->io->ctx, a->dir_fd, name, bad);
	if (r == 0)
		r = a->io->fsync_dir(a->io->ctx, a->dir_fd);
	return r < 0 ? r : note(a, number, true);
}

/* Those without a superblock, numbers[0..num): there is at least one with it. */
static int arenas_set_aside(struct arenas *a, const uint32_t *numbers, size_t num, bool is_empty)
{
	char name[32];
	int r = 0;

	for (size_t i = 0; r == 0 && i < num; i++) {
		if (i + 1 == num && is_empty) {
			arena_name(numbers[i], name);
			return a->io->unlinkat(a->io->ctx, a->dir_fd, name);
		}
		r = arena_set_aside(a, numbers[i]);
	}
	return r;
}

/* names: the arenas without a superblock stay in it. */
static int arenas_load(
	struct arenas *a, const struct superblocks *copies, struct names *names, uint32_t *ret_bad)
{
	size_t i, num_bad = 0;
	bool is_empty = false;
	int r;

	a->list = calloc(names->num + 1, sizeof(*a->list));
	if (!a->list)
		return -ENOMEM;
	for (i = 0; i < names->num; i++) {
		uint32_t number = names->numbers[i];

		*ret_bad = number;
		r = arena_load(a, copies, number, &a->list[a->num], &is_empty);
		if (r < 0 && r != -EBADMSG)
			return r;
		if (r == 0)
			a->num++;
		else
			names->numbers[num_bad++] = number;
		if (a->num_open > a->open_max)
			shut_oldest(a);
	}
	if (num_bad > 0)
		*ret_bad = names->numbers[0];
	/* A store whose first arena was never finished is no store yet. */
	if (a->num == 0 && num_bad > is_empty)
		return -EBADMSG;
	return arenas_set_aside(a, names->numbers, num_bad, is_empty);
}

int arenas_open(struct arenas *a, const struct store_io *io, int dir_fd, uint64_t arena_size,
	size_t open_max, bool create, uint32_t *ret_bad)
{
	struct names names = { .a = a };
	struct superblocks copies;
	int r;

	*a = (struct arenas){ .io = io, .dir_fd = dir_fd, .arena_size = arena_size };
	a->open_max = open_max > 0 ? open_max : ARENAS_OPEN_MAX;
	a->frames_max = ARENAS_FRAMES_MAX;
	a->next_sequence = a->flushed = 1;
	/* What a dead process wrote may still be on its way to the disk. */
	a->written = 1;
	*ret_bad = 0;
	superblocks_load(&copies, io, dir_fd);
	r = io->list(io->ctx, dir_fd, names_add, &names);
	if (r == 0 && names.num > 0)
		qsort(names.numbers, names.num, sizeof(*names.numbers), number_compare);
	if (r == 0)
		r = arenas_load(a, &copies, &names, ret_bad);
	superblocks_release(&copies);
	free(names.numbers);
	if (r == 0 && a->num == 0)
		r = create ? arena_create(a, 1) : -ENOENT;
	if (r < 0)
		arenas_release(a);
	return r;
}

void arenas_release(struct arenas *a)
{
	size_t i;

	for (i = 0; i < a->num; i++)
		arena_shut(a, &a->list[i]);
	free(a->list);
	free(a->notes);
	free(a->buf);
	*a = (struct arenas){ 0 };
}

/* ---- scanning */

struct visit {
	struct arenas *a;
	struct arena *arena;
	uint64_t from; /* frames before are not visited */
	struct scan scan;
	struct scan one; /* of single frames, while the footer is read */
	arenas_frame_fn *fn;
	arenas_damage_fn *damage;
	void *arg;
};

static int visit_frame(struct visit *v, const struct frame_view *frame)
{
	if (frame->type == FRAME_END) {
		v->arena->has_ended = true;
		/* It shares its number with the next arena's first frame. */
		if (frame->sequence > v->a->next_sequence)
			v->a->next_sequence = frame->sequence;
		return 0;
	}
	if (frame->sequence >= v->a->next_sequence)
		v->a->next_sequence = frame->sequence + 1;
	return v->fn(v->arg, frame);
}

static int visit_sealed(
	void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	struct visit *v = arg;
	struct frame_view frame = { .type = FRAME_OBJECT };
	struct scan_item item;
	uint8_t head[FRAME_OBJECT_HEAD];
	int kind;

	if (place.offset < v->from)
		return 0;
	if (object) {
		memcpy(head, object->id, 32);
		memcpy(head + 32, object->tag, 32);
		frame.place = place;
		frame.place.offset -= FRAME_OBJECT_HEAD;
		frame.place.len += FRAME_OBJECT_HEAD;
		frame.payload = head;
		return v->fn(v->arg, &frame);
	}
	if (type == 0) {
		v->damage(v->arg, place.arena, place.offset, place.offset + place.len, false);
		return 0;
	}
	place.offset -= FRAME_HEAD_SIZE;
	scan_start(&v->one, v->arena->fd, place.arena, v->arena->id, place.offset,
		place.offset + frame_size(place.len), 0);
	kind = scan_next(&v->one, &item);
	if (kind == SCAN_FRAME)
		return visit_frame(v, &item.frame);
	if (kind == SCAN_DAMAGE)
		v->damage(v->arg, place.arena, item.from, item.to, false);
	return kind < 0 ? kind : 0;
}

/* 1: by its footer. 0: it has none that can be used. */
static int visit_footer(struct visit *v)
{
	struct sealed_arena sealed;
	int r;

	if (!v->arena->is_sealed)
		return 0;
	r = arenas_open_sealed(v->a, v->arena->number, &sealed);
	if (r == 0) {
		/* Known to be whole before anything is done by it. */
		r = sealed_arena_check(&sealed);
		if (r < 0)
			sealed_arena_close(&sealed);
	}
	if (r == -EBADMSG || r == -ENODATA) {
		v->arena->is_sealed = false; /* to be sealed anew */
		return 0;
	}
	if (r < 0)
		return r;
	if (sealed.trailer.last_sequence >= v->a->next_sequence)
		v->a->next_sequence = sealed.trailer.last_sequence + 1;
	r = sealed_arena_walk(&sealed, visit_sealed, v);
	sealed_arena_close(&sealed);
	return r < 0 ? r : 1;
}

/* A checkpoint may stand right behind a FRAME_END, which then is not visited. */
static bool ends_before(struct visit *v, uint64_t offset)
{
	struct scan_item item;

	if (offset < FRAME_SUPER_SIZE + FRAME_HEAD_SIZE || offset > v->arena->size)
		return false;
	scan_start(&v->one, v->arena->fd, v->arena->number, v->arena->id, offset - FRAME_HEAD_SIZE,
		offset, 0);
	return scan_next(&v->one, &item) == SCAN_FRAME && item.frame.type == FRAME_END;
}

static int visit_arena(struct visit *v, uint64_t offset, bool is_last)
{
	struct arena *arena = v->arena;
	struct scan_item item;
	uint64_t end = arena->size;
	int kind, r;

	if (ends_before(v, offset)) {
		arena->has_ended = true;
		arena->size = offset;
		return 0;
	}
	v->from = offset;
	r = visit_footer(v);
	if (r != 0)
		return r < 0 ? r : 0;
	/* Nothing is punched out of an arena that is appended to. */
	scan_start(&v->scan, arena->fd, arena->number, arena->id, offset, end,
		SCAN_SEALED | (is_last ? SCAN_TORN : SCAN_HOLES));
	v->scan.next = v->a->next_sequence;
	while ((kind = scan_next(&v->scan, &item)) > 0) {
		r = 0;
		if (kind == SCAN_FRAME)
			r = visit_frame(v, &item.frame);
		else
			v->damage(
				v->arg, arena->number, item.from, item.to, item.is_tail && is_last);
		if (r < 0)
			return r;
	}
	if (kind < 0)
		return kind;
	if (arena->has_ended)
		arena->size = v->scan.offset;
	if (!is_last || v->scan.offset == end)
		return 0;
	/* A last frame without its padding is whole, but the next must not begin inside it. */
	r = v->a->io->ftruncate(v->a->io->ctx, arena->fd, v->scan.offset);
	arena->size = v->scan.offset;
	v->a->written++;
	return r;
}

int arenas_scan(struct arenas *a, uint32_t arena, uint64_t offset, arenas_frame_fn *fn,
	arenas_damage_fn *damage, void *arg)
{
	struct visit v = { .a = a, .fn = fn, .damage = damage, .arg = arg };
	size_t i;
	int r;

	r = scan_init(&v.scan, a->io);
	if (r == 0)
		r = scan_init(&v.one, a->io);
	for (i = 0; r == 0 && i < a->num; i++) {
		if (a->list[i].number < arena)
			continue;
		v.arena = &a->list[i];
		r = arenas_lend(a, v.arena->number, ARENAS_SCAN);
		if (r < 0)
			break;
		if (v.arena->sequence > a->next_sequence)
			a->next_sequence = v.arena->sequence;
		if (v.arena->number != arena || offset < FRAME_SUPER_SIZE)
			offset = FRAME_SUPER_SIZE;
		r = visit_arena(&v, offset, i + 1 == a->num);
	}
	arenas_give_back(a, ARENAS_SCAN);
	a->flushed = a->scanned = a->next_sequence;
	scan_release(&v.scan);
	scan_release(&v.one);
	return r;
}

/* A place where a frame began may lie in a gap by now: then the frames go on behind it. */
static int leave_gap(struct scan *s, const struct arena *arena, struct place *at)
{
	struct scan_item item;
	int kind;

	scan_start(s, arena->fd, arena->number, arena->id, at->offset, arena->size, 0);
	kind = scan_next(s, &item);
	if (kind != SCAN_DAMAGE)
		return kind < 0 ? kind : 0;
	scan_start(s, arena->fd, arena->number, arena->id, FRAME_SUPER_SIZE, arena->size, 0);
	while (s->offset < at->offset && (kind = scan_next(s, &item)) > 0)
		if (kind == SCAN_FRAME && item.frame.type == FRAME_GAP && s->offset > at->offset)
			at->offset = s->offset;
	return kind < 0 ? kind : 0;
}

/* From *at on in this arena, at most about max bytes. 1: its end was reached. */
static int verify_arena(struct scan *s, const struct arena *arena, struct place *at, uint64_t max,
	arenas_frame_fn *fn, arenas_damage_fn *damage, void *arg)
{
	struct scan_item item;
	int kind, r = 0;

	if (at->offset > FRAME_SUPER_SIZE)
		r = leave_gap(s, arena, at);
	if (r < 0)
		return r;
	scan_start(s, arena->fd, arena->number, arena->id, at->offset, arena->size,
		SCAN_SEALED | SCAN_HOLES);
	do {
		kind = scan_next(s, &item);
		if (kind == SCAN_FRAME)
			r = fn(arg, &item.frame);
		else if (kind == SCAN_DAMAGE)
			damage(arg, arena->number, item.from, item.to, item.is_tail);
	} while (kind > 0 && r == 0 && s->offset - at->offset < max);
	at->offset = s->offset;
	return r < 0 ? r : kind < 0 ? kind : kind == 0;
}

int arenas_verify(struct arenas *a, struct place *at, uint64_t max, uint64_t *ret_bytes,
	arenas_frame_fn *fn, arenas_damage_fn *damage, void *arg)
{
	struct scan s;
	uint64_t from;
	size_t i = 0;
	int r;

	*ret_bytes = 0;
	while (i < a->num && a->list[i].number < at->arena)
		i++;
	if (i == a->num)
		return 0;
	if (a->list[i].number != at->arena || at->offset < FRAME_SUPER_SIZE)
		*at = (struct place){ .arena = a->list[i].number, .offset = FRAME_SUPER_SIZE };
	r = scan_init(&s, a->io);
	if (r < 0)
		return r;
	from = at->offset;
	r = arenas_lend(a, at->arena, ARENAS_SCAN);
	if (r >= 0)
		r = verify_arena(&s, &a->list[i], at, max, fn, damage, arg);
	arenas_give_back(a, ARENAS_SCAN);
	scan_release(&s);
	if (r < 0)
		return r;
	*ret_bytes = at->offset - from;
	if (r == 0)
		return 1;
	if (i + 1 == a->num)
		return 0;
	*at = (struct place){ .arena = a->list[i + 1].number, .offset = FRAME_SUPER_SIZE };
	return 1;
}

uint64_t arenas_size(const struct arenas *a)
{
	uint64_t size = 0;

	for (size_t i = 0; i < a->num; i++)
		size += a->list[i].size;
	return size;
}

/* ---- appending */

static struct arena *last(const struct arenas *a)
{
	return &a->list[a->num - 1];
}

/* As the next frame's head has it. */
static uint32_t unsynced(const struct arenas *a)
{
	uint64_t num = a->next_sequence - a->synced;

	return num < UINT32_MAX - 1 ? (uint32_t)num + 1 : UINT32_MAX;
}

/* FRAME_END is durable before there is anything behind it, here or in the next arena. */
static int arena_finish(struct arenas *a)
{
	struct frame_head head = { .type = FRAME_END, .sequence = a->next_sequence };
	struct arena *arena = last(a);
	uint8_t data[FRAME_HEAD_SIZE];
	int r;

	r = arenas_flush(a);
	if (r == 0 && !arena->has_ended) {
		head.unsynced = unsynced(a);
		head.payload_crc = frame_payload_crc(FRAME_END, NULL, 0);
		frame_head_emit(&head, arena->id, arena->size, data);
		a->written++;
		r = store_io_write_full(a->io, arena->fd, data, sizeof(data), arena->size);
		if (r < 0) {
			a->io->ftruncate(a->io->ctx, arena->fd, arena->size);
			return r;
		}
		arena->size += sizeof(data);
		arena->has_ended = true;
	}
	if (BROKEN(BROKEN_ROLL))
		return r;
	return r < 0 ? r : arenas_sync(a);
}

int arenas_roll(struct arenas *a)
{
	int r = a->has_failed ? -EIO : arena_finish(a);
	uint32_t number = last(a)->number;

	return r < 0 ? r : arena_create(a, (number > a->max_aside ? number : a->max_aside) + 1);
}

static bool is_full(const struct arenas *a)
{
	return last(a)->has_ended || last(a)->size + a->len >= a->arena_size ||
	       a->next_sequence - last(a)->sequence >= a->frames_max;
}

int arenas_begin(struct arenas *a)
{
	int r;

	if (a->has_failed)
		return -EIO;
	if (is_full(a)) {
		r = arenas_roll(a);
		if (r < 0)
			return r;
	}
	a->frame = a->len;
	a->is_open = true;
	if (!arenas_add(a, FRAME_HEAD_SIZE)) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	return 0;
}

uint8_t *arenas_add(struct arenas *a, size_t len)
{
	uint8_t *p;

	if (len > a->cap - a->len) {
		size_t cap = a->cap ? a->cap : 1u << 20;

		while (cap - a->len < len)
			cap *= 2;
		p = realloc(a->buf, cap);
		if (!p)
			return NULL;
		a->buf = p;
		a->cap = cap;
	}
	p = a->buf + a->len;
	a->len += len;
	return p;
}

struct place arenas_next(const struct arenas *a)
{
	return (struct place){ .arena = last(a)->number, .offset = last(a)->size + a->len };
}

uint8_t *arenas_payload(struct arenas *a, size_t *ret_len)
{
	*ret_len = a->len - a->frame - FRAME_HEAD_SIZE;
	return a->buf + a->frame + FRAME_HEAD_SIZE;
}

int arenas_end(struct arenas *a, enum frame_type type, struct place *ret_place)
{
	struct frame_head head = { .type = type };
	uint64_t offset = last(a)->size + a->frame;
	const uint8_t *payload;
	size_t len, padding;
	uint8_t *zeros;

	payload = arenas_payload(a, &len);
	if (len > FRAME_LEN_MAX) {
		arenas_cancel(a);
		return -E2BIG;
	}
	head.len = (uint32_t)len;
	head.payload_crc = frame_payload_crc(type, payload, len);
	padding = (size_t)frame_size(head.len) - FRAME_HEAD_SIZE - len;
	zeros = arenas_add(a, padding);
	if (!zeros) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	memset(zeros, 0, padding);
	head.unsynced = unsynced(a);
	head.sequence = a->next_sequence++;
	frame_head_emit(&head, last(a)->id, offset, a->buf + a->frame);
	a->is_open = false;
	if (ret_place)
		*ret_place = (struct place){ last(a)->number, head.len, offset + FRAME_HEAD_SIZE };
	return 0;
}

void arenas_cancel(struct arenas *a)
{
	if (a->is_open)
		a->len = a->frame;
	a->is_open = false;
}

void arenas_drop(struct arenas *a)
{
	a->len = 0;
	a->is_open = false;
	/* A hole in the sequence would look like a frame that was lost. */
	a->next_sequence = a->flushed;
}

int arenas_flush(struct arenas *a)
{
	struct arena *arena = last(a);
	int r;

	if (a->has_failed)
		return -EIO;
	if (a->len == 0)
		return 0;
	a->written++;
	r = store_io_write_full(a->io, arena->fd, a->buf, a->len, arena->size);
	if (r < 0) {
		/* Part of it may be there. It is behind every position that anybody knows; but a
		 * crash could bring a whole frame of it back below the next ones, so that the cut
		 * is made durable first. If it cannot be cut the next flush writes over it. */
		if (a->io->ftruncate(a->io->ctx, arena->fd, arena->size) == 0 && r == -ENOSPC &&
			arenas_sync(a) < 0)
			return -EIO;
		return r;
	}
	arena->size += a->len;
	a->len = 0;
	a->flushed = a->next_sequence;
	if (a->cap > BUF_KEEP) {
		free(a->buf);
		a->buf = NULL;
		a->cap = 0;
	}
	return 0;
}

void arenas_sync_begin(const struct arenas *a, struct arenas_sync *ret)
{
	*ret = (struct arenas_sync){ a->io, a->dir_fd, last(a)->fd, a->written, a->flushed,
		arenas_position(a), a->durable_at };
}

int arenas_sync_wait(const struct arenas_sync *sync)
{
	int r;

	do
		r = BROKEN(BROKEN_NO_SYNC) ? 0 : sync->io->fdatasync(sync->io->ctx, sync->fd);
	while (r == -EINTR);
	/* At once: the error is told to nobody a second time. */
	if (r < 0)
		failed_note_arena(sync->io, sync->dir_fd, sync->durable_at);
	return r;
}

int arenas_sync_end(struct arenas *a, const struct arenas_sync *sync, int result)
{
	if (result < 0)
		a->has_failed = true;
	if (a->has_failed)
		return -EIO;
	/* One that began later may have ended before. */
	if (sync->written > a->durable) {
		a->durable = sync->written;
		a->durable_at = sync->at;
	}
	if (sync->flushed > a->synced)
		a->synced = sync->flushed;
	return 0;
}

bool arenas_is_durable(const struct arenas *a, uint64_t written)
{
	return a->durable >= written;
}

int arenas_sync(struct arenas *a)
{
	struct arenas_sync sync;

	if (a->has_failed)
		return -EIO;
	if (arenas_is_durable(a, a->written))
		return 0;
	arenas_sync_begin(a, &sync);
	return arenas_sync_end(a, &sync, arenas_sync_wait(&sync));
}

struct place arenas_position(const struct arenas *a)
{
	return (struct place){ .arena = last(a)->number, .offset = last(a)->size };
}

bool arenas_is_before(struct place x, struct place y)
{
	return x.arena != y.arena ? x.arena < y.arena : x.offset < y.offset;
}

/* ---- reading */

int arenas_read(struct arenas *a, struct place place, void *data)
{
	struct arena *arena = arenas_find(a, place.arena);
	int fd;

	if (!arena)
		return -EBADMSG;
	if (place.offset > arena->size || place.len > arena->size - place.offset)
		return -EIO;
	fd = arena_fd(a, arena);
	return fd < 0 ? fd : store_io_read_full(a->io, fd, data, place.len, place.offset);
}

int arenas_open_one(const struct arenas *a, uint32_t number)
{
	char name[32];

	if (!arenas_find(a, number))
		return -ENOENT;
	arena_name(number, name);
	return a->io->openat(a->io->ctx, a->dir_fd, name, O_RDONLY, 0);
}

int arenas_open_sealed(struct arenas *a, uint32_t number, struct sealed_arena *ret)
{
	struct arena *arena = arenas_find(a, number);
	int fd;

	if (!arena)
		return -ENOENT;
	if (!arena->is_sealed)
		return -ENODATA;
	fd = arena_fd(a, arena);
	return fd < 0 ? fd : sealed_arena_open(ret, a->io, fd, arena->number, arena->id);
}

int arenas_unlink(struct arenas *a, uint32_t number)
{
	struct arena *arena = arenas_find(a, number);
	char name[32];
	size_t i;
	int fd, r;

	if (!arena)
		return -ENOENT;
	if (!arena->is_sealed || arena == last(a) || is_lent(a, number))
		return -EBUSY;
	fd = arena_fd(a, arena);
	if (fd < 0)
		return fd;
	arena_name(number, name);
	r = a->io->unlinkat(a->io->ctx, a->dir_fd, name);
	if (r < 0)
		return r;
	r = a->io->fsync_dir(a->io->ctx, a->dir_fd);
	a->has_failed |= r < 0;
	/* Others have it open (engine_arena_open), which alone would keep its blocks. */
	if (r == 0)
		a->io->ftruncate(a->io->ctx, fd, 0);
	arena_shut(a, arena);
	i = (size_t)(arena - a->list);
	memmove(arena, arena + 1, (a->num - i - 1) * sizeof(*arena));
	a->num--;
	return r;
}
