#include "cas/id.h"

#include "cas/bytes.h"
#include "cas/suite_state.h"

#include <errno.h>

void cas_id_of(struct cas_suite *suite, const void *data, size_t len, struct cas_id *ret_id)
{
	cas_suite_sha256(suite, data, len, ret_id->b);
}

bool cas_id_equal(const struct cas_id *a, const struct cas_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

int cas_id_compare(const struct cas_id *a, const struct cas_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

bool cas_id_is_zero(const struct cas_id *id)
{
	return cas_all_zero(id->b, sizeof(id->b));
}

char *cas_id_hex(const struct cas_id *id, char hex[CAS_ID_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(id->b); i++) {
		hex[2 * i] = digits[id->b[i] >> 4];
		hex[2 * i + 1] = digits[id->b[i] & 15];
	}
	hex[CAS_ID_HEX_SIZE - 1] = '\0';
	return hex;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int cas_id_parse(const char *hex, struct cas_id *ret_id)
{
	struct cas_id id;

	for (size_t i = 0; i < sizeof(id.b); i++) {
		int high = hex_digit(hex[2 * i]);
		int low = high < 0 ? -1 : hex_digit(hex[2 * i + 1]);

		if (low < 0)
			return -EINVAL;
		id.b[i] = (uint8_t)(high << 4 | low);
	}
	if (hex[2 * sizeof(id.b)] != '\0')
		return -EINVAL;
	*ret_id = id;
	return 0;
}
