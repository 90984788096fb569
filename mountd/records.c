#include "mountd/records.h"

#include <errno.h>
#include <string.h>

int records_next(struct records *records, struct tree_record *ret)
{
	uint32_t sealed_len;
	size_t len;
	int r;

	if (records->len < TREE_RECORD_HEAD)
		return records->len == 0 ? -ENOENT : -EBADMSG;
	memcpy(&sealed_len, records->data + 4, sizeof(sealed_len));
	len = TREE_RECORD_HEAD + (size_t)records->data[3] * TREE_REF_SIZE + sealed_len;
	if (len > records->len)
		return -EBADMSG;
	r = tree_record_parse(records->data, len, ret);
	if (r < 0)
		return r;
	records->data += len;
	records->len -= len;
	return 0;
}
