/*
 * A page that is filled for a reader (struct engine_page of stored/engine.h).
 */
#ifndef BAZIL_STORED_PAGE_H
#define BAZIL_STORED_PAGE_H

#include "stored/engine_state.h"

/* All elements of a register, behind what there is. -ENOBUFS: no room; the page is as it was then.
 * A record that cannot be read back is there without its sealed part (element_bare), so that it
 * does not hide those beside it. */
int page_register(struct engine *engine, struct engine_page *page, const struct reg *reg);

#endif
