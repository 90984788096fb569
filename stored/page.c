#include "stored/page.h"

#include <errno.h>

static void tell(struct engine *engine, struct place place)
{
	if (engine_note_range(engine, place.arena, place.offset, place.offset + place.len))
		engine_log(engine, 3, "store: arena %u: the record at %llu is damaged", place.arena,
			(unsigned long long)place.offset);
}

static int page_element(struct engine *engine, struct engine_page *page, const struct element *e)
{
	size_t size = element_size(e);
	int r;

	if (size > page->cap - page->len)
		return -ENOBUFS;
	r = element_read(&engine->arenas, e, page->records + page->len);
	if (r == -EBADMSG || r == -EIO || r == -ENODATA) {
		tell(engine, e->sealed);
		size = element_bare(e, page->records + page->len);
		r = 0;
	}
	if (r == 0)
		page->len += size;
	return r;
}

int page_register(struct engine *engine, struct engine_page *page, const struct reg *reg)
{
	size_t before = page->len, i;
	int r = 0;

	for (i = 0; r == 0 && i < reg->num; i++)
		r = page_element(engine, page, &reg->e[i]);
	if (r < 0)
		page->len = before;
	return r;
}
