/*
 * Sealing what records say: names, attributes, small files; and the keyed tags by which the blind
 * store finds them.
 *
 *	sealed = nonce 24 || XChaCha20-Poly1305(key = seal, nonce, aad, plain) || tag 16
 *	nonce  = BLAKE2b-192(key = siv, personal "bazil.record.v1", u64 aad_len || aad || plain)
 *
 * A synthetic nonce (SIV, RFC 5297's idea with other primitives): no random source, no nonce that
 * two peers could use twice. The same plain under the same aad gives the same bytes, which shows
 * that a value came back, and nothing else. Pad names and sizes before sealing: lengths are
 * shown.
 *
 * The caller's aad says where the record belongs (volume, register); what is sealed for one place
 * does not open in another. Tags are one-way without the key; equal input, equal tag.
 */
#ifndef BAZIL_CAS_METASEAL_H
#define BAZIL_CAS_METASEAL_H

#include "cas/kdf.h"

#include <stddef.h>
#include <stdint.h>

#define CAS_META_NONCE	  24
#define CAS_META_OVERHEAD 40 /* nonce and tag: sealed length - plain length */
#define CAS_TAG_SIZE	  16
#define CAS_NAME_MAX	  255
#define CAS_NAME_ROOM	  256 /* cas_name_put() writes this at most */

/* Writes len + CAS_META_OVERHEAD bytes to out, which must not overlap plain. Cannot fail. */
void cas_meta_seal(const struct cas_volume_keys *keys, const void *aad, size_t aad_len,
	const void *plain, size_t len, uint8_t *out);

/* Writes sealed_len - CAS_META_OVERHEAD bytes to out. -EBADMSG: not sealed by this key for this
 * aad; then out is zero. */
int cas_meta_open(const struct cas_volume_keys *keys, const void *aad, size_t aad_len,
	const void *sealed, size_t sealed_len, void *out);

/* The tag of a name in a directory; of an extended attribute's name of an inode; of a value. */
void cas_name_tag(const struct cas_volume_keys *keys, uint64_t parent, const void *name, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE]);
void cas_xattr_tag(const struct cas_volume_keys *keys, uint64_t oid, const void *name, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE]);
void cas_value_tag(const struct cas_volume_keys *keys, const void *data, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE]);

/*
 * A name in a sealed part: u8 length | name | zeros, 16, 32, 64, 128 or 256 bytes in all, so that
 * a record's length tells the name's to a factor of two. put: len <= CAS_NAME_MAX, out has room
 * for CAS_NAME_ROOM, returns bytes written. get: a view into data, *ret_used bytes consumed;
 * -EBADMSG.
 */
size_t cas_name_room(size_t len);
size_t cas_name_put(const void *name, size_t len, uint8_t *out);
int cas_name_get(const uint8_t *data, size_t len, const char **ret_name, size_t *ret_name_len,
	size_t *ret_used);

#endif
