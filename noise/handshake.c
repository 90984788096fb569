#include "noise/handshake.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PROTOCOL_NAME "Noise_XX_25519_ChaChaPoly_BLAKE2b"

/* A static key goes over the wire encrypted. */
#define SEALED_STATIC_SIZE (NOISE_DH_SIZE + NOISE_TAG_SIZE)

/* Every secret goes, the outcome stays to be read. */
static void forget_secrets(struct noise_handshake *hs)
{
	noise_cipher_wipe(&hs->sym.cipher);
	sodium_memzero(hs->sym.chaining_key, sizeof(hs->sym.chaining_key));
	sodium_memzero(hs->ephemeral_secret, sizeof(hs->ephemeral_secret));
	sodium_memzero(hs->dh, sizeof(hs->dh));
	hs->has_dh = false;
}

/* Half a message may have been mixed into the state: nothing can be repeated after this. */
static int fail(struct noise_handshake *hs, int err)
{
	forget_secrets(hs);
	sodium_memzero(hs->remote_static, sizeof(hs->remote_static));
	hs->step = NOISE_STEP_FAILED;
	return err;
}

static bool is_our_turn_to_write(const struct noise_handshake *hs)
{
	return hs->is_initiator
		       ? hs->step == NOISE_STEP_MESSAGE_1 || hs->step == NOISE_STEP_MESSAGE_3
		       : hs->step == NOISE_STEP_MESSAGE_2;
}

static bool is_our_turn_to_read(const struct noise_handshake *hs)
{
	return hs->step <= NOISE_STEP_MESSAGE_3 && !is_our_turn_to_write(hs);
}

static size_t overhead(const struct noise_handshake *hs)
{
	switch (hs->step) {
	case NOISE_STEP_MESSAGE_1:
		return NOISE_XX_OVERHEAD_1;
	case NOISE_STEP_MESSAGE_2:
		return NOISE_XX_OVERHEAD_2;
	case NOISE_STEP_MESSAGE_3:
		return NOISE_XX_OVERHEAD_3;
	case NOISE_STEP_SPLIT:
	case NOISE_STEP_DONE:
	case NOISE_STEP_FAILED:
		break;
	}
	return 0;
}

/* DH of our ephemeral key; a low-order point gives zeros, which anybody could compute: refused. */
static int mix_ephemeral_dh(struct noise_handshake *hs, const uint8_t peer[NOISE_DH_SIZE])
{
	uint8_t shared[NOISE_DH_SIZE];
	int r = crypto_scalarmult(shared, hs->ephemeral_secret, peer);

	if (r == 0)
		noise_symmetric_mix_key(&hs->sym, shared);
	sodium_memzero(shared, sizeof(shared));
	return r == 0 ? 0 : -EBADMSG;
}

static void mix_supplied_dh(struct noise_handshake *hs)
{
	noise_symmetric_mix_key(&hs->sym, hs->dh);
	sodium_memzero(hs->dh, sizeof(hs->dh));
	hs->has_dh = false;
}

static void write_e(struct noise_handshake *hs, uint8_t **out)
{
	memcpy(*out, hs->ephemeral_public, NOISE_DH_SIZE);
	noise_symmetric_mix_hash(&hs->sym, *out, NOISE_DH_SIZE);
	*out += NOISE_DH_SIZE;
}

static int write_s(struct noise_handshake *hs, uint8_t **out)
{
	size_t n;
	int r = noise_symmetric_encrypt_and_hash(
		&hs->sym, hs->static_public, NOISE_DH_SIZE, *out, SEALED_STATIC_SIZE, &n);

	*out += SEALED_STATIC_SIZE;
	return r;
}

static int read_e(struct noise_handshake *hs, const uint8_t **in)
{
	memcpy(hs->remote_ephemeral, *in, NOISE_DH_SIZE);
	noise_symmetric_mix_hash(&hs->sym, *in, NOISE_DH_SIZE);
	*in += NOISE_DH_SIZE;
	/* Our own words sent back to us. */
	if (sodium_memcmp(hs->remote_ephemeral, hs->ephemeral_public, NOISE_DH_SIZE) == 0)
		return -ELOOP;
	return 0;
}

static int read_s(struct noise_handshake *hs, const uint8_t **in)
{
	size_t n;
	int r = noise_symmetric_decrypt_and_hash(
		&hs->sym, *in, SEALED_STATIC_SIZE, hs->remote_static, NOISE_DH_SIZE, &n);

	*in += SEALED_STATIC_SIZE;
	if (r < 0)
		return r;
	if (sodium_memcmp(hs->remote_static, hs->static_public, NOISE_DH_SIZE) == 0)
		return -ELOOP;
	return 0;
}

static int write_tokens(struct noise_handshake *hs, uint8_t **out)
{
	int r;

	switch (hs->step) {
	case NOISE_STEP_MESSAGE_1: /* -> e */
		write_e(hs, out);
		return 0;
	case NOISE_STEP_MESSAGE_2: /* <- e, ee, s, es */
		write_e(hs, out);
		r = mix_ephemeral_dh(hs, hs->remote_ephemeral);
		if (r < 0)
			return r;
		r = write_s(hs, out);
		if (r < 0)
			return r;
		mix_supplied_dh(hs);
		return 0;
	case NOISE_STEP_MESSAGE_3: /* -> s, se */
		r = write_s(hs, out);
		if (r < 0)
			return r;
		mix_supplied_dh(hs);
		return 0;
	case NOISE_STEP_SPLIT:
	case NOISE_STEP_DONE:
	case NOISE_STEP_FAILED:
		break;
	}
	return -EINVAL;
}

static int read_tokens(struct noise_handshake *hs, const uint8_t **in)
{
	int r;

	switch (hs->step) {
	case NOISE_STEP_MESSAGE_1: /* -> e */
		return read_e(hs, in);
	case NOISE_STEP_MESSAGE_2: /* <- e, ee, s, es */
		r = read_e(hs, in);
		if (r < 0)
			return r;
		r = mix_ephemeral_dh(hs, hs->remote_ephemeral);
		if (r < 0)
			return r;
		r = read_s(hs, in);
		if (r < 0)
			return r;
		return mix_ephemeral_dh(hs, hs->remote_static);
	case NOISE_STEP_MESSAGE_3: /* -> s, se */
		r = read_s(hs, in);
		if (r < 0)
			return r;
		return mix_ephemeral_dh(hs, hs->remote_static);
	case NOISE_STEP_SPLIT:
	case NOISE_STEP_DONE:
	case NOISE_STEP_FAILED:
		break;
	}
	return -EINVAL;
}

void noise_handshake_init(struct noise_handshake *hs, bool is_initiator, const uint8_t *prologue,
	size_t prologue_len, const uint8_t static_public[NOISE_DH_SIZE],
	const uint8_t ephemeral_secret[NOISE_DH_SIZE])
{
	memset(hs, 0, sizeof(*hs));
	hs->is_initiator = is_initiator;
	hs->step = NOISE_STEP_MESSAGE_1;
	memcpy(hs->static_public, static_public, NOISE_DH_SIZE);
	memcpy(hs->ephemeral_secret, ephemeral_secret, NOISE_DH_SIZE);
	crypto_scalarmult_base(hs->ephemeral_public, hs->ephemeral_secret);
	noise_symmetric_init(&hs->sym, PROTOCOL_NAME);
	noise_symmetric_mix_hash(&hs->sym, prologue, prologue_len);
}

bool noise_handshake_needs_dh(const struct noise_handshake *hs, uint8_t ret_peer[NOISE_DH_SIZE])
{
	if (!is_our_turn_to_write(hs) || hs->step == NOISE_STEP_MESSAGE_1 || hs->has_dh)
		return false;
	/* es of the responder and se of the initiator are both with the other's ephemeral. */
	memcpy(ret_peer, hs->remote_ephemeral, NOISE_DH_SIZE);
	return true;
}

int noise_handshake_supply_dh(struct noise_handshake *hs, const uint8_t shared[NOISE_DH_SIZE])
{
	uint8_t peer[NOISE_DH_SIZE];

	if (hs->step == NOISE_STEP_FAILED)
		return -ECONNABORTED;
	if (!noise_handshake_needs_dh(hs, peer))
		return -EINVAL;
	if (sodium_is_zero(shared, NOISE_DH_SIZE))
		return fail(hs, -EBADMSG);
	memcpy(hs->dh, shared, NOISE_DH_SIZE);
	hs->has_dh = true;
	return 0;
}

int noise_handshake_write(struct noise_handshake *hs, const uint8_t *payload, size_t len,
	uint8_t *out, size_t out_size, size_t *ret_len, uint8_t ret_peer[NOISE_DH_SIZE])
{
	uint8_t *p = out;
	size_t n;
	int r;

	if (hs->step == NOISE_STEP_FAILED)
		return -ECONNABORTED;
	if (!is_our_turn_to_write(hs))
		return -EINVAL;
	if (len > NOISE_MESSAGE_MAX - overhead(hs))
		return -EMSGSIZE;
	if (out_size < len + overhead(hs))
		return -ENOBUFS;
	if (noise_handshake_needs_dh(hs, ret_peer))
		return -EAGAIN;

	r = write_tokens(hs, &p);
	if (r < 0)
		return fail(hs, r);
	r = noise_symmetric_encrypt_and_hash(
		&hs->sym, payload, len, p, out_size - (size_t)(p - out), &n);
	if (r < 0)
		return fail(hs, r);
	*ret_len = (size_t)(p - out) + n;
	hs->step++;
	return 0;
}

int noise_handshake_read(struct noise_handshake *hs, const uint8_t *message, size_t len,
	uint8_t *payload, size_t payload_size, size_t *ret_len)
{
	const uint8_t *p = message;
	int r;

	if (hs->step == NOISE_STEP_FAILED)
		return -ECONNABORTED;
	if (!is_our_turn_to_read(hs))
		return -EINVAL;
	if (len > NOISE_MESSAGE_MAX)
		return -EMSGSIZE;
	if (len < overhead(hs))
		return fail(hs, -EBADMSG);
	if (payload_size < len - overhead(hs))
		return -ENOBUFS;

	r = read_tokens(hs, &p);
	if (r < 0)
		return fail(hs, r);
	r = noise_symmetric_decrypt_and_hash(
		&hs->sym, p, len - (size_t)(p - message), payload, payload_size, ret_len);
	if (r < 0)
		return fail(hs, r);
	hs->step++;
	return 0;
}

bool noise_handshake_is_complete(const struct noise_handshake *hs)
{
	return hs->step == NOISE_STEP_SPLIT || hs->step == NOISE_STEP_DONE;
}

const uint8_t *noise_handshake_remote_static(const struct noise_handshake *hs)
{
	/* The initiator has the proof with message 2 (es), the responder with message 3 (se). */
	bool is_proved = noise_handshake_is_complete(hs) ||
			 (hs->is_initiator && hs->step == NOISE_STEP_MESSAGE_3);

	return is_proved ? hs->remote_static : NULL;
}

const uint8_t *noise_handshake_hash(const struct noise_handshake *hs)
{
	return noise_handshake_is_complete(hs) ? hs->sym.hash : NULL;
}

int noise_handshake_split(
	struct noise_handshake *hs, struct noise_cipher *ret_send, struct noise_cipher *ret_receive)
{
	if (hs->step == NOISE_STEP_FAILED)
		return -ECONNABORTED;
	if (hs->step != NOISE_STEP_SPLIT)
		return -EINVAL;
	if (hs->is_initiator)
		noise_symmetric_split(&hs->sym, ret_send, ret_receive);
	else
		noise_symmetric_split(&hs->sym, ret_receive, ret_send);
	forget_secrets(hs);
	hs->step = NOISE_STEP_DONE;
	return 0;
}

void noise_handshake_wipe(struct noise_handshake *hs)
{
	sodium_memzero(hs, sizeof(*hs));
	hs->step = NOISE_STEP_FAILED;
}
