#include "mountd/dir.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash_name(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash ^ hash >> 15;
}

struct dir *dir_new(void)
{
	struct dir *dir = calloc(1, sizeof(*dir));

	if (dir == NULL)
		abort();
	return dir;
}

void dir_clear(struct dir *dir)
{
	for (size_t i = 0; i < dir->num; i++)
		free(dir->order[i]);
	free(dir->order_room);
	free(dir->table);
	*dir = (struct dir){ 0 };
}

void dir_free(struct dir *dir)
{
	if (dir == NULL)
		return;
	dir_clear(dir);
	free(dir);
}

struct dirent_entry *dir_find(const struct dir *dir, const char *name, size_t len)
{
	uint32_t hash = hash_name(name, len);
	struct dirent_entry *entry;

	if (dir->size == 0)
		return NULL;
	for (entry = dir->table[hash & (dir->size - 1)]; entry != NULL; entry = entry->hash_next)
		if (entry->hash == hash && entry->name_len == len &&
			memcmp(entry->name, name, len) == 0)
			return entry;
	return NULL;
}

size_t dir_after(const struct dir *dir, uint64_t after)
{
	size_t low = 0, high = dir->num;

	if (high > 0 && dir->order[high - 1]->lid <= after)
		return high;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (dir->order[mid]->lid <= after)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct dirent_entry *dir_find_lid(const struct dir *dir, uint64_t lid)
{
	size_t at = lid == 0 ? 0 : dir_after(dir, lid - 1);

	return at < dir->num && dir->order[at]->lid == lid ? dir->order[at] : NULL;
}

static void grow(struct dir *dir)
{
	size_t size = dir->size ? dir->size * 2 : 8;
	struct dirent_entry **table = calloc(size, sizeof(*table));
	struct dirent_entry **order = malloc(size * sizeof(*order));

	if (table == NULL || order == NULL)
		abort();
	for (size_t i = 0; i < dir->num; i++) {
		struct dirent_entry **at = &table[dir->order[i]->hash & (size - 1)];

		order[i] = dir->order[i];
		order[i]->hash_next = *at;
		*at = order[i];
	}
	free(dir->table);
	free(dir->order_room);
	dir->table = table;
	dir->order = dir->order_room = order;
	dir->size = size;
}

/* Room behind the last. What was removed in front is used again when it is worth moving all. */
static void make_room(struct dir *dir)
{
	size_t skipped = (size_t)(dir->order - dir->order_room);

	if (skipped + dir->num < dir->size)
		return;
	if (skipped == 0 || skipped < dir->size / 4) {
		grow(dir);
		return;
	}
	memmove(dir->order_room, dir->order, dir->num * sizeof(*dir->order));
	dir->order = dir->order_room;
}

struct dirent_entry *dir_add(
	struct dir *dir, uint64_t lid, uint64_t target, uint8_t type, const char *name, size_t len)
{
	struct dirent_entry *entry = dir_find_lid(dir, lid), **bucket;
	size_t at;

	if (entry != NULL)
		dir_remove(dir, entry);
	make_room(dir);
	entry = malloc(sizeof(*entry) + len + 1);
	if (entry == NULL)
		abort();
	*entry = (struct dirent_entry){ .lid = lid,
		.target = target,
		.hash = hash_name(name, len),
		.name_len = (uint16_t)len,
		.type = type };
	memcpy(entry->name, name, len);
	entry->name[len] = '\0';
	bucket = &dir->table[entry->hash & (dir->size - 1)];
	entry->hash_next = *bucket;
	*bucket = entry;
	at = dir_after(dir, lid);
	memmove(dir->order + at + 1, dir->order + at, (dir->num - at) * sizeof(*dir->order));
	dir->order[at] = entry;
	dir->num++;
	return entry;
}

void dir_remove(struct dir *dir, struct dirent_entry *entry)
{
	struct dirent_entry **bucket = &dir->table[entry->hash & (dir->size - 1)];
	size_t at = dir_after(dir, entry->lid - 1);

	while (*bucket != entry)
		bucket = &(*bucket)->hash_next;
	*bucket = entry->hash_next;
	/* The shorter side moves: who empties a directory takes the first name each time. */
	if (at < dir->num / 2) {
		memmove(dir->order + 1, dir->order, at * sizeof(*dir->order));
		dir->order++;
	} else {
		memmove(dir->order + at, dir->order + at + 1,
			(dir->num - at - 1) * sizeof(*dir->order));
	}
	dir->num--;
	free(entry);
}
