#include "mountd/acl.h"

#include <string.h>

#define HEAD	  4u
#define ENTRY	  8u
#define VERSION	  2u
#define PERMS_ALL 7u

enum tag {
	USER_OBJ = 0x01,
	USER = 0x02,
	GROUP_OBJ = 0x04,
	GROUP = 0x08,
	MASK = 0x10,
	OTHER = 0x20,
};

static uint32_t get16(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8;
}

static const uint8_t *find(const uint8_t *value, size_t len, enum tag tag)
{
	for (size_t at = HEAD; at + ENTRY <= len; at += ENTRY)
		if (get16(value + at) == tag)
			return value + at;
	return NULL;
}

/* The entry that the group's bits of the mode stand for. */
static const uint8_t *find_group(const uint8_t *value, size_t len)
{
	const uint8_t *mask = find(value, len, MASK);

	return mask != NULL ? mask : find(value, len, GROUP_OBJ);
}

bool acl_is_name(const char *name)
{
	return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

bool acl_is_sound(const uint8_t *value, size_t len)
{
	unsigned owners = 0, groups = 0, others = 0, masks = 0, named = 0;

	if (len < HEAD + 3 * ENTRY || len > ACL_MAX || (len - HEAD) % ENTRY != 0)
		return false;
	if (get16(value) != VERSION || get16(value + 2) != 0)
		return false;
	for (size_t at = HEAD; at < len; at += ENTRY) {
		uint32_t tag = get16(value + at);

		if (get16(value + at + 2) > PERMS_ALL)
			return false;
		owners += tag == USER_OBJ;
		groups += tag == GROUP_OBJ;
		others += tag == OTHER;
		masks += tag == MASK;
		named += tag == USER || tag == GROUP;
	}
	if (owners != 1 || groups != 1 || others != 1 || masks > 1 || (named > 0 && masks == 0))
		return false;
	return owners + groups + others + masks + named == (len - HEAD) / ENTRY;
}

uint32_t acl_mode(const uint8_t *value, size_t len)
{
	return get16(find(value, len, USER_OBJ) + 2) << 6 | get16(find_group(value, len) + 2) << 3 |
	       get16(find(value, len, OTHER) + 2);
}

bool acl_is_mode(const uint8_t *value, size_t len)
{
	return len == HEAD + 3 * ENTRY;
}

static void set_perms(uint8_t *value, const uint8_t *entry, uint32_t perms)
{
	value[entry - value + 2] = (uint8_t)(perms & PERMS_ALL);
	value[entry - value + 3] = 0;
}

void acl_set_mode(uint8_t *value, size_t len, uint32_t mode)
{
	set_perms(value, find(value, len, USER_OBJ), mode >> 6);
	set_perms(value, find_group(value, len), mode >> 3);
	set_perms(value, find(value, len, OTHER), mode);
}
