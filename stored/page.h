/*
 * A page that is filled for a reader (struct engine_page of stored/engine.h).
 */
#ifndef BAZIL_STORED_PAGE_H
#define BAZIL_STORED_PAGE_H

#include "stored/engine_state.h"

/* All elements of a register, behind what there is. -ENOBUFS: no room; -EIO: one cannot be read
 * back; the page is as it was then. */
int page_register(struct engine *engine, struct engine_page *page, const struct reg *reg);

#endif
