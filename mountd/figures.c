#include "mountd/figures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One name of a file with several: the directory that counts it. */
struct counted {
	struct counted *hash_next;
	uint64_t file, dir;
};

struct figures {
	struct figure_dir **table;
	struct counted **links;
	size_t size, num, num_subdirs, num_links;
	bool links_lost; /* more than are remembered */
	uint64_t changes;
};

#define TABLE_SIZE (64u << 10)

static size_t hash(uint64_t node)
{
	return (size_t)((node * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (TABLE_SIZE - 1);
}

int figures_new(struct figures **ret)
{
	struct figures *figures = calloc(1, sizeof(*figures));

	if (figures == NULL)
		return -ENOMEM;
	figures->table = calloc(TABLE_SIZE, sizeof(*figures->table));
	figures->links = calloc(TABLE_SIZE, sizeof(*figures->links));
	*ret = figures;
	return figures->table == NULL || figures->links == NULL ? -ENOMEM : 0;
}

void figures_forget_all(struct figures *figures)
{
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		struct figure_dir *dir;
		struct counted *link;

		while ((dir = figures->table[i]) != NULL) {
			figures->table[i] = dir->hash_next;
			free(dir->subdirs);
			free(dir);
		}
		while ((link = figures->links[i]) != NULL) {
			figures->links[i] = link->hash_next;
			free(link);
		}
	}
	figures->num = figures->num_subdirs = figures->num_links = 0;
	figures->links_lost = false;
	figures->changes++;
}

void figures_free(struct figures *figures)
{
	if (figures == NULL)
		return;
	figures_forget_all(figures);
	free(figures->table);
	free(figures->links);
	free(figures);
}

bool figures_empty(const struct figures *figures)
{
	return figures->num == 0;
}

bool figures_full(const struct figures *figures)
{
	return figures->num >= FIGURES_DIRS_MAX ||
	       figures->num_subdirs >= FIGURES_DIRS_MAX * UINT64_C(4);
}

struct figure_dir *figures_find(struct figures *figures, uint64_t node)
{
	struct figure_dir *dir = figures->table[hash(node)];

	while (dir != NULL && dir->node != node)
		dir = dir->hash_next;
	return dir;
}

struct figure_dir *figures_expect(struct figures *figures, uint64_t node, uint64_t parent)
{
	struct figure_dir *dir = figures_find(figures, node), **at = &figures->table[hash(node)];

	if (dir == NULL) {
		if (figures_full(figures))
			return NULL;
		dir = calloc(1, sizeof(*dir));
		if (dir == NULL)
			return NULL;
		dir->node = node;
		dir->hash_next = *at;
		*at = dir;
		figures->num++;
	}
	if (parent != 0)
		dir->parent = parent;
	return dir;
}

static void drop_own(struct figures *figures, struct figure_dir *dir)
{
	figures->num_subdirs -= dir->num_subdirs;
	free(dir->subdirs);
	dir->subdirs = NULL;
	dir->num_subdirs = 0;
	dir->has_own = false;
}

struct figure_dir *figures_set_own(struct figures *figures, uint64_t node, const struct figure *own,
	const uint64_t *subdirs, size_t num)
{
	struct figure_dir *dir = figures_expect(figures, node, 0);
	uint64_t *copy = malloc((num + 1) * sizeof(*copy));

	if (dir == NULL || copy == NULL) {
		free(copy);
		return NULL;
	}
	if (num > 0)
		memcpy(copy, subdirs, num * sizeof(*copy));
	drop_own(figures, dir);
	dir->own = *own;
	dir->subdirs = copy;
	dir->num_subdirs = num;
	dir->has_own = true;
	figures->num_subdirs += num;
	/* Whoever was moved here is told so: his changes go up this way from now on. */
	for (size_t i = 0; i < num; i++) {
		struct figure_dir *sub = figures_find(figures, subdirs[i]);

		if (sub != NULL)
			sub->parent = node;
	}
	return dir;
}

void figures_note_link(struct figures *figures, uint64_t file, uint64_t dir)
{
	struct counted **at = &figures->links[hash(file)], *link;

	for (link = *at; link != NULL; link = link->hash_next)
		if (link->file == file && link->dir == dir)
			return;
	link = figures->num_links < FIGURES_LINKS_MAX ? malloc(sizeof(*link)) : NULL;
	if (link == NULL) {
		figures->links_lost = true;
		return;
	}
	*link = (struct counted){ .hash_next = *at, .file = file, .dir = dir };
	*at = link;
	figures->num_links++;
}

void figures_lose_links(struct figures *figures)
{
	figures->links_lost = figures->num > 0;
}

void figures_touch(struct figures *figures, uint64_t node)
{
	struct figure_dir *dir = figures_find(figures, node);

	/* What is not here was never counted, nor was, then, who is above. */
	if (dir == NULL)
		return;
	figures->changes++;
	drop_own(figures, dir);
	while (dir != NULL && dir->has_total) {
		dir->has_total = false;
		dir = dir->parent != 0 ? figures_find(figures, dir->parent) : NULL;
	}
}

void figures_touch_inode(struct figures *figures, uint64_t node, uint64_t parent, uint32_t nlink)
{
	struct counted *link;

	if (figures->num == 0)
		return;
	if (parent == 0 || (nlink > 1 && figures->links_lost)) {
		figures_forget_all(figures);
		return;
	}
	figures_touch(figures, parent);
	for (link = figures->links[hash(node)]; link != NULL; link = link->hash_next)
		if (link->file == node)
			figures_touch(figures, link->dir);
}

uint64_t figures_changes(const struct figures *figures)
{
	return figures->changes;
}

void figure_add(struct figure *sum, const struct figure *other)
{
	sum->bytes += other->bytes;
	sum->files += other->files;
	sum->dirs += other->dirs;
	if (other->newest > sum->newest)
		sum->newest = other->newest;
}
