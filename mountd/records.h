/*
 * The records of a reply of stored: packed one behind the other (tree/record.h).
 */
#ifndef BAZIL_MOUNTD_RECORDS_H
#define BAZIL_MOUNTD_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "tree/record.h"

struct records {
	const uint8_t *data;
	size_t len;
};

/* The next one, a view into data. -ENOENT: there are no more; -EBADMSG. */
int records_next(struct records *records, struct tree_record *ret);

#endif
