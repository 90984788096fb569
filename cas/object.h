/*
 * Sealed objects: what stored keeps and peers exchange. All numbers
 * little-endian.
 *
 *	off len
 *	0   4   magic "BZO1"
 *	4   1   format version: 2, or 1 as it was written once
 *	5   1   suite, 1
 *	6   1   type: enum cas_type
 *	7   1   0
 *	8   .   body, by type
 *
 * The id of an object is the SHA-256 of all of it. All 8 header bytes are authenticated.
 *
 * Data chunk, convergent within a sharing key:
 *	h       = SHA-256("bazil.plain.v2\0\0" || SHA-256(plain bytes)): what a manifest keeps
 *	K       = keyd's PRF of (type, h)
 *	payload = u32 plain_len | u8 compression | u8[3] 0 | u32 stored_len | stored bytes | zeros
 *	          up to cas_pad_object(12 + stored_len)
 *	digest  = SHA-256(header || first 12 bytes of payload || SHA-256(stored bytes))
 *	siv     = BLAKE2b-128(key = K, digest, personal "bazil.chunk.siv")
 *	key     = BLAKE2b-256(key = K, siv, personal "bazil.chunk.key")
 *	body    = siv || ChaCha20-Poly1305(key, nonce 0, AAD = header || siv, payload) || tag 16
 *
 * h is of the plain bytes, so that who writes what was written before finds the chunk (by keyd's
 * tag of h) without compressing it, whatever made it once, and reads it by what he knows already.
 *
 * The key is of the bytes that are encrypted: digest covers them all (the zeros are as many as
 * stored_len says), so two different payloads never share a key, not even when two versions or
 * levels of the compressor make different bytes of one plaintext. That is why a constant nonce is
 * safe here, and nowhere else. (A key from the hash of the plaintext alone would reuse the key
 * stream.) This is SIV, deterministic authenticated encryption (Rogaway and Shrimpton, EUROCRYPT
 * 2006): siv is a MAC of the payload under a key that who does not know S (cas/kdf.h) and the plain
 * bytes does not have, so it confirms no guess. After opening it is checked again:
 * ChaCha20-Poly1305 does not commit to its key. So an entry of a manifest, id and h, opens to the
 * same bytes for every reader (tag consistency, eprint 2012/631). That these are the bytes of h is
 * the word of who wrote the manifest.
 *
 * Version 1 had no siv; its h was SHA-256(header || payload), and K was the key. It is opened, and
 * written no more: a file that is written again becomes chunks of version 2. No h of version 1 is
 * one of version 2, as what they hash begins differently.
 *
 * Manifest, key of the volume; the node split in two (cas/manifest.h):
 *	list    = u16 num | u16 0 | u32 0 | num ids of 32 bytes, num at most 256
 *	payload = u32 len | sparse node | zeros up to cas_pad_object(4 + len)
 *	nonce   = BLAKE2b-192(key = siv, header || list || volume id || payload), 24 bytes
 *	body    = list || nonce || XChaCha20-Poly1305(key = seal, nonce, header || list || volume
 *	          id, payload) || tag 16
 *
 * Deterministic, so equal files have equal manifests at all peers of the volume. The list is in
 * clear and authenticated, so that a store without any key can tell which objects a file needs: to
 * free the others, or to send all of them. It learns how many different chunks the file has and in
 * which order they first come; the order in which they were stored told it so before. Where they
 * lie in the file, repetitions and holes stay sealed.
 *
 * Version 1 had no list and the ids inside the payload, which was the whole node; its nonce has
 * another personalisation. It is opened, and written no more.
 *
 * Sealing goes in steps so that keys can be asked for, and bytes be hashed (cas/sha256.h), many at
 * a time:
 *	SHA-256 of the plain bytes; cas_chunk_h(); ask keyd, h -> key (K), tag; then, unless the
 *	store has it, cas_chunk_prepare(); SHA-256 of cas_chunk_stored(); cas_chunk_seal().
 *
 * Errors: -EBADMSG not an object, or not authentic under this key; -EPROTONOSUPPORT a version or
 * suite of the future; -EILSEQ authentic, but not what was asked for (id, h or siv differs);
 *-EMSGSIZE does not fit; -ENOMEM.
 */
#ifndef BAZIL_CAS_OBJECT_H
#define BAZIL_CAS_OBJECT_H

#include "cas/id.h"
#include "cas/kdf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cas_type {
	CAS_TYPE_CHUNK = 1,
	CAS_TYPE_MANIFEST = 2,
};

#define CAS_OBJECT_HEADER     8
#define CAS_OBJECT_TAG	      16
#define CAS_OBJECT_NONCE      24
#define CAS_CHUNK_SIV	      16
#define CAS_CHUNK_HEAD	      12
#define CAS_CHUNK_PLAIN_MAX   262144u
#define CAS_CHUNK_PAYLOAD_MAX 270336u /* cas_pad_object(12 + 262144) */

/* The largest object of any type, 270,376 bytes; and the smallest, a chunk of version 1. */
#define CAS_OBJECT_MAX (CAS_OBJECT_HEADER + CAS_CHUNK_SIV + CAS_CHUNK_PAYLOAD_MAX + CAS_OBJECT_TAG)
#define CAS_OBJECT_MIN (CAS_OBJECT_HEADER + 256 + CAS_OBJECT_TAG)

#define CAS_MANIFEST_LIST	 8
#define CAS_MANIFEST_REFS_MAX	 256
#define CAS_MANIFEST_PLAIN_MAX	 32768u /* of version 1; CAS_NODE_MAX is less */
#define CAS_MANIFEST_PAYLOAD_MAX 34816u /* cas_pad_object(4 + 32768) */
/* 34,864: of version 1. One of version 2 has at most 22,584. */
#define CAS_MANIFEST_MAX                                                                           \
	(CAS_OBJECT_HEADER + CAS_OBJECT_NONCE + CAS_MANIFEST_PAYLOAD_MAX + CAS_OBJECT_TAG)

/*
 * Is this the beginning of an object that we know? Needs no key: stored and syncd refuse strange
 * ones by it. Checks header and the bounds of len; ret_type may be NULL.
 */
int cas_object_check(const void *object, size_t len, enum cas_type *ret_type);

/*
 * The ids of the objects that this one refers to: a view into it, of *ret_num times 32 bytes; none
 * for a chunk. Needs no key and believes nothing but what the id of the object covers. As
 * cas_object_check(), and -EBADMSG for a list that cannot be; -ENODATA for a manifest of version 1,
 * whose ids are sealed.
 */
int cas_object_refs(const void *object, size_t len, const uint8_t **ret_ids, size_t *ret_num);

/* h of the chunk whose plain bytes have this SHA-256. */
void cas_chunk_h(struct cas_suite *suite, const struct cas_hash *plain, struct cas_hash *ret_h);

/*
 * Builds header and payload of a chunk in buf, compressed by zstd at level (0: never; 1 to 19)
 * when that gains 5 % or more. 1 <= len <= CAS_CHUNK_PLAIN_MAX, else -EINVAL. buf must hold
 * CAS_OBJECT_MAX bytes, or cas_chunk_bound(len), else -EMSGSIZE. buf holds plaintext now: it must
 * be private memory, not shared with stored. *ret_len is the length of the sealed object to be.
 */
int cas_chunk_prepare(struct cas_suite *suite, int level, const void *plain, size_t len, void *buf,
	size_t buf_size, size_t *ret_len);

/* The stored bytes of a prepared chunk, whose SHA-256 sealing asks for. NULL: they are the plain
 * bytes, and that is known. */
const void *cas_chunk_stored(const void *buf, size_t *ret_len);

/* The longest sealed object that len bytes of plaintext can give. */
size_t cas_chunk_bound(size_t len);

/*
 * Encrypts a prepared chunk of len bytes (prepare's *ret_len) from buf to out; out may be buf or
 * memory that stored can see (a ring). stored: the SHA-256 of its stored bytes. ret_id may be NULL.
 * Cannot fail.
 */
void cas_chunk_seal(struct cas_suite *suite, const void *buf, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *stored, void *out,
	struct cas_id *ret_id);

/*
 * Opens a sealed chunk of either version into out, whose size is the plain length that is expected
 * at most; key: K of h. On failure out holds nothing of use and *ret_len is not set. The id need
 * not be checked before: siv says more.
 */
int cas_chunk_open(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len);

/*
 * The same, and says whether the bytes are h's. Opening does not: who has the sharing key and knows
 * h can seal any under K, and that they are h's is then the word of the manifest. For who is about
 * to offer the chunk to all that write what has this h. Where the bytes were not compressed, they
 * need not be hashed once more.
 */
int cas_chunk_verify(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len, bool *ret_is_h);
/* The same of bytes that were opened already. */
bool cas_chunk_is(struct cas_suite *suite, const struct cas_hash *h, const void *plain, size_t len);

/*
 * Several at once, each in its own buf, hashed together (cas/sha256.h): sealed bytes become header
 * and payload, and plain points to the contents, there or in out. What has an err before is left
 * out; else it is what cas_chunk_open() returns.
 */
struct cas_opening {
	uint8_t *buf;
	size_t len; /* of the sealed object */
	const uint8_t *key;
	const struct cas_hash *h;
	uint8_t *out; /* for what is compressed */
	size_t out_size;
	const uint8_t *plain;
	size_t plain_len;
	int err;
};

#define CAS_OPENINGS_AT_ONCE 32

void cas_chunks_open(struct cas_suite *suite, struct cas_opening *openings, size_t num);

/* node: as cas_node_parse() reads it, else -EINVAL. out: CAS_MANIFEST_MAX always suffices.
 * -EMSGSIZE. */
int cas_manifest_seal(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const void *node, size_t len, void *out,
	size_t out_size, size_t *ret_len, struct cas_id *ret_id);

/*
 * Opens a manifest into out, CAS_NODE_MAX bytes: a node, as cas_node_parse() reads it, of either
 * version. The id is checked first: without that the store could hand out another manifest of the
 * volume in its place.
 */
int cas_manifest_open(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const struct cas_id *id, const void *sealed,
	size_t len, void *out, size_t out_size, size_t *ret_len);

#endif
