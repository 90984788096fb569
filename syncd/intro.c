#include "syncd/intro.h"

#include <errno.h>
#include <string.h>

static const uint8_t magic[4] = { 'B', 'Z', 'N', '1' };

static size_t emit_versions(const struct intro *intro, uint8_t *out)
{
	size_t len = 5;

	memcpy(out, magic, 4);
	out[4] = (uint8_t)intro->num_versions;
	for (size_t i = 0; i < intro->num_versions; i++) {
		out[len++] = (uint8_t)intro->versions[i];
		out[len++] = (uint8_t)(intro->versions[i] >> 8);
	}
	return len;
}

size_t intro_emit_hello(const struct intro *intro, uint8_t out[INTRO_HELLO_MAX])
{
	return emit_versions(intro, out);
}

size_t intro_emit(const struct intro *intro, uint8_t out[INTRO_MAX])
{
	size_t len = emit_versions(intro, out);

	for (int i = 0; i < 8; i++)
		out[len++] = (uint8_t)(intro->features >> (8 * i));
	memcpy(out + len, intro->identity, 32);
	memcpy(out + len + 32, intro->vouch, 64);
	return len + 96;
}

/* The length of the common beginning, or -EBADMSG. */
static int parse_versions(struct intro *intro, const uint8_t *data, size_t len)
{
	size_t n;

	if (len < 5 || memcmp(data, magic, 4) != 0)
		return -EBADMSG;
	n = data[4];
	if (n == 0 || n > INTRO_VERSIONS_MAX || len - 5 < 2 * n)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++)
		intro->versions[i] = (uint16_t)(data[5 + 2 * i] | data[6 + 2 * i] << 8);
	intro->num_versions = n;
	return (int)(5 + 2 * n);
}

int intro_parse_hello(struct intro *ret, const uint8_t *data, size_t len)
{
	struct intro intro = { 0 };
	int r;

	if (len > INTRO_HELLO_MAX)
		return -EBADMSG;
	r = parse_versions(&intro, data, len);
	if (r < 0)
		return r;
	*ret = intro;
	return 0;
}

int intro_parse(struct intro *ret, const uint8_t *data, size_t len)
{
	struct intro intro = { 0 };
	const uint8_t *p;
	int r;

	if (len > INTRO_MAX)
		return -EBADMSG;
	r = parse_versions(&intro, data, len);
	if (r < 0)
		return r;
	if (len - (size_t)r < 8 + 32 + 64)
		return -EBADMSG;
	p = data + r;
	for (int i = 0; i < 8; i++)
		intro.features |= (uint64_t)p[i] << (8 * i);
	memcpy(intro.identity, p + 8, 32);
	memcpy(intro.vouch, p + 40, 64);
	*ret = intro;
	return 0;
}

uint16_t intro_common_version(const struct intro *a, const struct intro *b)
{
	uint16_t best = 0;

	for (size_t i = 0; i < a->num_versions; i++)
		for (size_t k = 0; k < b->num_versions; k++)
			if (a->versions[i] == b->versions[k] && a->versions[i] > best)
				best = a->versions[i];
	return best;
}
