#include "stored/changes.h"

#include <errno.h>
#include <stdlib.h>

int engine_changes_add(struct engine_changes *changes, const struct engine_change *change)
{
	if (changes->num == ENGINE_CHANGES_MAX) {
		changes->all = true;
		return 0;
	}
	if (changes->num == changes->cap) {
		size_t cap = changes->cap ? changes->cap * 2 : 64;
		struct engine_change *list = realloc(changes->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		changes->list = list;
		changes->cap = cap;
	}
	changes->list[changes->num++] = *change;
	return 0;
}

void engine_changes_release(struct engine_changes *changes)
{
	free(changes->list);
	*changes = (struct engine_changes){ 0 };
}
