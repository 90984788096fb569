#include "cas/zstd.h"

#include "cas/bytes.h"
#include "cas/suite_state.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

static bool looks_like_text(const uint8_t *data, size_t len)
{
	enum { SLICE = 1024, NUM = 4 };
	uint8_t all = 0;

	for (size_t s = 0; s < NUM; s++) {
		const uint8_t *p = data + (len - SLICE) / (NUM - 1) * s;

		for (size_t i = 0; i < SLICE; i++)
			all |= p[i];
	}
	return all < 0x80;
}

int cas_zstd_level(const void *plain, size_t len)
{
	if (len <= 16384)
		return 3;
	return looks_like_text(plain, len) ? 5 : 4;
}

/* 0 is what the level has. */
static void set_level(ZSTD_CCtx *compressor, int level)
{
	ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(compressor, ZSTD_c_minMatch, level == 5 ? 4 : 0);
	ZSTD_CCtx_setParameter(compressor, ZSTD_c_searchLog, level == 5 ? 4 : 0);
}

size_t cas_zstd_pack(
	struct cas_suite *suite, int level, const void *plain, size_t len, void *out, size_t room)
{
	size_t n;

	if (cas_suite_need_compressor(suite) < 0)
		return 0;
	set_level(suite->compressor, level);
	n = ZSTD_compress2(suite->compressor, out, room, plain, len);
	return ZSTD_isError(n) ? 0 : n;
}

int cas_zstd_unpack(
	struct cas_suite *suite, const void *packed, size_t packed_len, void *out, size_t plain_len)
{
	size_t n;
	int r = cas_suite_need_decompressor(suite);

	if (r < 0)
		return r;
	/* One zstd frame and nothing else: no skippable frames, no legacy formats. */
	if (packed_len < 4 || le32_get(packed) != ZSTD_MAGICNUMBER)
		return -EBADMSG;
	n = ZSTD_findFrameCompressedSize(packed, packed_len);
	if (ZSTD_isError(n) || n != packed_len)
		return -EBADMSG;
	n = ZSTD_decompressDCtx(suite->decompressor, out, plain_len, packed, packed_len);
	return ZSTD_isError(n) || n != plain_len ? -EBADMSG : 0;
}
