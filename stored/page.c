#include "stored/page.h"

#include <errno.h>

static int page_element(struct engine *engine, struct engine_page *page, const struct element *e)
{
	size_t size = element_size(e);
	int r;

	if (size > page->cap - page->len)
		return -ENOBUFS;
	r = element_read(&engine->arenas, e, page->records + page->len);
	if (r == -EBADMSG || r == -EIO || r == -ENODATA) {
		engine_note_record(engine, e->sealed);
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
