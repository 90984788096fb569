#include "stored/frame.h"

#include "cas/bytes.h"
#include "stored/broken.h"
#include "stored/crc32c.h"

#include <errno.h>
#include <string.h>

static const uint8_t super_magic[4] = { 'B', 'Z', 'A', '1' };
static const uint8_t frame_magic[4] = { 'B', 'Z', 'F', '1' };

void frame_super_emit(const struct frame_super *super, uint8_t ret_data[FRAME_SUPER_SIZE])
{
	memset(ret_data, 0, FRAME_SUPER_SIZE);
	memcpy(ret_data, super_magic, 4);
	le32_put(ret_data + 4, FRAME_VERSION);
	le32_put(ret_data + 8, super->arena);
	memcpy(ret_data + 16, super->id, 16);
	le64_put(ret_data + 32, super->sequence);
	le64_put(ret_data + 40, super->created);
	le32_put(ret_data + 60, crc32c(0, ret_data, 60));
}

int frame_super_parse(const uint8_t data[FRAME_SUPER_SIZE], struct frame_super *ret)
{
	if (memcmp(data, super_magic, 4) != 0 || le32_get(data + 60) != crc32c(0, data, 60))
		return -EBADMSG;
	if (le32_get(data + 4) != FRAME_VERSION)
		return -EPROTONOSUPPORT;
	ret->arena = le32_get(data + 8);
	memcpy(ret->id, data + 16, 16);
	ret->sequence = le64_get(data + 32);
	ret->created = le64_get(data + 40);
	return 0;
}

static uint32_t head_crc(const uint8_t head[FRAME_HEAD_SIZE], const uint8_t id[16], uint64_t offset)
{
	uint8_t bound[24 + FRAME_HEAD_SIZE];

	memcpy(bound, id, 16);
	le64_put(bound + 16, offset);
	memcpy(bound + 24, head, FRAME_HEAD_SIZE);
	memset(bound + 24 + 12, 0, 4);
	if (BROKEN(BROKEN_NOT_BOUND))
		memset(bound, 0, 24);
	return crc32c(0, bound, sizeof(bound));
}

void frame_head_emit(const struct frame_head *head, const uint8_t arena_id[16], uint64_t offset,
	uint8_t ret_data[FRAME_HEAD_SIZE])
{
	memset(ret_data, 0, FRAME_HEAD_SIZE);
	memcpy(ret_data, frame_magic, 4);
	ret_data[4] = (uint8_t)head->type;
	ret_data[5] = FRAME_VERSION;
	le32_put(ret_data + 8, head->len);
	le64_put(ret_data + 16, head->sequence);
	le32_put(ret_data + 24, head->payload_crc);
	le32_put(ret_data + 28, head->unsynced);
	le32_put(ret_data + 12, head_crc(ret_data, arena_id, offset));
}

int frame_head_parse(const uint8_t data[FRAME_HEAD_SIZE], const uint8_t arena_id[16],
	uint64_t offset, struct frame_head *ret)
{
	if (memcmp(data, frame_magic, 4) != 0 || data[5] != FRAME_VERSION || offset % 8 != 0)
		return -EBADMSG;
	if (data[4] < FRAME_OBJECT || data[4] > FRAME_BASE)
		return -EBADMSG;
	if (le32_get(data + 12) != head_crc(data, arena_id, offset))
		return -EBADMSG;
	ret->type = data[4];
	ret->len = le32_get(data + 8);
	ret->sequence = le64_get(data + 16);
	ret->payload_crc = le32_get(data + 24);
	ret->unsynced = le32_get(data + 28);
	if (ret->len > FRAME_LEN_MAX)
		return -EBADMSG;
	if (ret->type == FRAME_OBJECT && ret->len <= FRAME_OBJECT_HEAD)
		return -EBADMSG;
	return 0;
}

void frame_freed_head_emit(uint32_t num, uint8_t ret_data[FRAME_FREED_HEAD])
{
	le32_put(ret_data, 1);
	le32_put(ret_data + 4, num);
}

void frame_freed_emit(const struct frame_freed *freed, uint8_t ret_data[FRAME_FREED_SIZE])
{
	le32_put(ret_data, freed->arena);
	le32_put(ret_data + 4, freed->len);
	le64_put(ret_data + 8, freed->offset);
	memcpy(ret_data + 16, freed->id, sizeof(freed->id));
	memcpy(ret_data + 48, freed->tag, sizeof(freed->tag));
}

int frame_freed_num(const uint8_t *payload, size_t len)
{
	uint32_t num;

	if (len < FRAME_FREED_HEAD || le32_get(payload) != 1)
		return -EBADMSG;
	num = le32_get(payload + 4);
	return num == (len - FRAME_FREED_HEAD) / FRAME_FREED_SIZE &&
			       (len - FRAME_FREED_HEAD) % FRAME_FREED_SIZE == 0
		       ? (int)num
		       : -EBADMSG;
}

void frame_freed_parse(const uint8_t *payload, int i, struct frame_freed *ret)
{
	const uint8_t *p = payload + FRAME_FREED_HEAD + (size_t)i * FRAME_FREED_SIZE;

	ret->arena = le32_get(p);
	ret->len = le32_get(p + 4);
	ret->offset = le64_get(p + 8);
	memcpy(ret->id, p + 16, sizeof(ret->id));
	memcpy(ret->tag, p + 48, sizeof(ret->tag));
}

uint32_t frame_summed(enum frame_type type, uint32_t len)
{
	if (type == FRAME_GAP)
		return 0;
	return type == FRAME_OBJECT && len > FRAME_OBJECT_HEAD ? FRAME_OBJECT_HEAD : len;
}

uint32_t frame_payload_crc(enum frame_type type, const uint8_t *payload, size_t len)
{
	return crc32c(0, payload, frame_summed(type, (uint32_t)len));
}
