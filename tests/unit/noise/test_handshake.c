/* What must fail in a handshake, and how it fails. That it works is shown by test_vectors.c. */
#include "noise/handshake.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t payload[3][8] = { "first", "second", "third" };

struct side {
	uint8_t secret[32], public[32];
	struct noise_handshake hs;
};

static void side_init(struct side *side, bool is_initiator, uint8_t n)
{
	uint8_t ephemeral[32];

	memset(side->secret, n, sizeof(side->secret));
	memset(ephemeral, 0x80 + n, sizeof(ephemeral));
	crypto_scalarmult_base(side->public, side->secret);
	noise_handshake_init(
		&side->hs, is_initiator, (const uint8_t *)"test", 4, side->public, ephemeral);
}

static int side_write(
	struct side *side, const uint8_t *data, size_t len, uint8_t *out, size_t size, size_t *ret)
{
	uint8_t peer[32], shared[32];
	int r = noise_handshake_write(&side->hs, data, len, out, size, ret, peer);

	if (r != -EAGAIN)
		return r;
	if (crypto_scalarmult(shared, side->secret, peer) != 0)
		memset(shared, 0, sizeof(shared));
	r = noise_handshake_supply_dh(&side->hs, shared);
	if (r < 0)
		return r;
	return noise_handshake_write(&side->hs, data, len, out, size, ret, peer);
}

struct talk {
	struct side a, b;
	uint8_t message[256];
	size_t len;
};

static struct side *writer(struct talk *t, int i)
{
	return i == 1 ? &t->b : &t->a;
}

static struct side *reader(struct talk *t, int i)
{
	return i == 1 ? &t->a : &t->b;
}

/* Everything up to message n written, but not read. */
static void talk_until(struct talk *t, int n)
{
	uint8_t out[64];
	size_t len;

	side_init(&t->a, true, 1);
	side_init(&t->b, false, 2);
	for (int i = 0;; i++) {
		assert_int_equal(side_write(writer(t, i), payload[i], 8, t->message,
					 sizeof(t->message), &t->len),
			0);
		if (i == n)
			return;
		assert_int_equal(noise_handshake_read(&reader(t, i)->hs, t->message, t->len, out,
					 sizeof(out), &len),
			0);
		assert_int_equal(len, 8);
		assert_memory_equal(out, payload[i], 8);
	}
}

static int read_it(struct talk *t, int i, const uint8_t *message, size_t len)
{
	uint8_t out[256];
	size_t n;

	return noise_handshake_read(&reader(t, i)->hs, message, len, out, sizeof(out), &n);
}

static void assert_dead(struct noise_handshake *hs)
{
	struct noise_cipher c1, c2;
	uint8_t buf[256], peer[32];
	size_t n;

	assert_int_equal(
		noise_handshake_write(hs, NULL, 0, buf, sizeof(buf), &n, peer), -ECONNABORTED);
	assert_int_equal(noise_handshake_read(hs, buf, 200, buf, sizeof(buf), &n), -ECONNABORTED);
	assert_int_equal(noise_handshake_supply_dh(hs, buf), -ECONNABORTED);
	assert_int_equal(noise_handshake_split(hs, &c1, &c2), -ECONNABORTED);
	assert_null(noise_handshake_remote_static(hs));
	assert_null(noise_handshake_hash(hs));
	assert_true(sodium_is_zero(hs->ephemeral_secret, 32));
	assert_true(sodium_is_zero(hs->sym.chaining_key, NOISE_HASH_SIZE));
	assert_true(sodium_is_zero(hs->sym.cipher.key, 32));
	assert_true(sodium_is_zero(hs->dh, 32));
}

static void handshake__tells_keys_only_when_proved(void **state)
{
	struct noise_cipher send, receive;
	struct talk t;

	talk_until(&t, 2);
	assert_memory_equal(noise_handshake_remote_static(&t.a.hs), t.b.public, 32);
	assert_null(noise_handshake_remote_static(&t.b.hs));
	assert_int_equal(noise_handshake_split(&t.b.hs, &send, &receive), -EINVAL);
	assert_int_equal(read_it(&t, 2, t.message, t.len), 0);
	assert_memory_equal(noise_handshake_remote_static(&t.b.hs), t.a.public, 32);
	assert_true(noise_handshake_is_complete(&t.b.hs));
	assert_int_equal(noise_handshake_split(&t.b.hs, &send, &receive), 0);
	assert_int_equal(noise_handshake_split(&t.b.hs, &send, &receive), -EINVAL);
	assert_true(sodium_is_zero(t.b.hs.ephemeral_secret, 32));
	assert_true(sodium_is_zero(t.b.hs.sym.chaining_key, NOISE_HASH_SIZE));
	assert_memory_equal(noise_handshake_hash(&t.a.hs), noise_handshake_hash(&t.b.hs), 64);
}

/*
 * Message 1 is all in the clear: a change of it is noticed with message 2, whose key and hash
 * differ. Bit 255 of an X25519 public key is ignored by the curve but not by the hash.
 */
static void handshake__notices_each_flipped_bit(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct talk t;
		size_t whole;

		talk_until(&t, i);
		whole = t.len;
		for (size_t bit = 0; bit < whole * 8; bit++) {
			talk_until(&t, i);
			t.message[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (i > 0) {
				assert_int_equal(read_it(&t, i, t.message, t.len), -EBADMSG);
				assert_dead(&reader(&t, i)->hs);
				continue;
			}
			int r = read_it(&t, 0, t.message, t.len);

			assert_int_equal(r, 0);
			r = side_write(&t.b, payload[1], 8, t.message, sizeof(t.message), &t.len);
			if (r == 0)
				r = read_it(&t, 1, t.message, t.len);
			assert_int_equal(r, -EBADMSG);
		}
	}
}

static void handshake__refuses_truncated_and_extended(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct talk t;
		size_t whole;

		talk_until(&t, i);
		whole = t.len;
		for (size_t len = 0; len <= whole + 20; len++) {
			if (len == whole)
				continue;
			talk_until(&t, i);
			memset(t.message + whole, 0, sizeof(t.message) - whole);
			/* Only the clear payload of message 1 may have another length. */
			if (i == 0 && len >= 32) {
				assert_int_equal(read_it(&t, 0, t.message, len), 0);
				side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len);
				assert_int_equal(read_it(&t, 1, t.message, t.len), -EBADMSG);
				continue;
			}
			assert_int_equal(read_it(&t, i, t.message, len), -EBADMSG);
			assert_dead(&reader(&t, i)->hs);
		}
	}
}

static void handshake__keeps_to_its_sizes(void **state)
{
	uint8_t *big = calloc(1, 2 * NOISE_MESSAGE_MAX), peer[32];
	struct talk t;
	size_t n;

	assert_non_null(big);
	talk_until(&t, 0);
	assert_int_equal(noise_handshake_read(&t.b.hs, big, NOISE_MESSAGE_MAX + 1, big,
				 2 * NOISE_MESSAGE_MAX, &n),
		-EMSGSIZE);
	assert_int_equal(noise_handshake_read(&t.b.hs, t.message, t.len, big, 7, &n), -ENOBUFS);
	/* Neither harmed it. */
	assert_int_equal(noise_handshake_read(&t.b.hs, t.message, t.len, big, 8, &n), 0);
	assert_int_equal(noise_handshake_write(&t.b.hs, big, NOISE_MESSAGE_MAX - 95, big,
				 2 * NOISE_MESSAGE_MAX, &n, peer),
		-EMSGSIZE);
	assert_int_equal(
		noise_handshake_write(&t.b.hs, payload[1], 8, big, 103, &n, peer), -ENOBUFS);
	assert_int_equal(side_write(&t.b, payload[1], 8, big, 104, &n), 0);
	assert_int_equal(n, 104);
	assert_int_equal(read_it(&t, 1, big, n), 0);
	free(big);
}

static void handshake__refuses_replay(void **state)
{
	struct talk old, t;

	/* Message 3 of another conversation of the same two: other ephemeral keys. */
	talk_until(&old, 2);
	side_init(&t.a, true, 1);
	side_init(&t.b, false, 2);
	uint8_t ephemeral[32] = { 77 };

	noise_handshake_init(&t.b.hs, false, (const uint8_t *)"test", 4, t.b.public, ephemeral);
	assert_int_equal(side_write(&t.a, payload[0], 8, t.message, sizeof(t.message), &t.len), 0);
	assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
	assert_int_equal(side_write(&t.b, payload[1], 8, t.message, sizeof(t.message), &t.len), 0);
	assert_int_equal(read_it(&t, 2, old.message, old.len), -EBADMSG);
	assert_dead(&t.b.hs);

	/* The same message twice. */
	talk_until(&t, 1);
	assert_int_equal(read_it(&t, 1, t.message, t.len), 0);
	assert_int_equal(read_it(&t, 1, t.message, t.len), -EINVAL);
}

static void handshake__refuses_reflection(void **state)
{
	struct talk t;
	uint8_t ephemeral[32] = { 55 };

	/* Our own ephemeral key comes back. */
	talk_until(&t, 0);
	memset(t.message + t.len, 0, 100);
	assert_int_equal(read_it(&t, 1, t.message, 140), -ELOOP);
	assert_dead(&t.a.hs);

	/* Our own static key at the other end, seen by the initiator. */
	talk_until(&t, 0);
	memcpy(t.b.public, t.a.public, 32);
	memcpy(t.b.secret, t.a.secret, 32);
	noise_handshake_init(&t.b.hs, false, (const uint8_t *)"test", 4, t.b.public, ephemeral);
	assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
	assert_int_equal(side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len), 0);
	assert_int_equal(read_it(&t, 1, t.message, t.len), -ELOOP);
	assert_dead(&t.a.hs);

	/* And by the responder: an initiator that does not look. */
	talk_until(&t, 1);
	assert_int_equal(read_it(&t, 1, t.message, t.len), 0);
	memcpy(t.a.hs.static_public, t.b.public, 32);
	memcpy(t.a.secret, t.b.secret, 32);
	assert_int_equal(side_write(&t.a, NULL, 0, t.message, sizeof(t.message), &t.len), 0);
	assert_int_equal(read_it(&t, 2, t.message, t.len), -ELOOP);
}

/* The points of small order of Curve25519 and its twist: every DH with them is zero. */
static const char *const low_order[] = {
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

static void handshake__refuses_low_order_points(void **state)
{
	for (size_t i = 0; i < sizeof(low_order) / sizeof(*low_order); i++) {
		struct talk t;
		uint8_t point[32], peer[32];

		sodium_hex2bin(point, 32, low_order[i], 64, NULL, NULL, NULL);
		/* As ephemeral key of the initiator: the static DH is zero, */
		talk_until(&t, 0);
		memcpy(t.message, point, 32);
		assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
		assert_int_equal(
			side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len), -EBADMSG);
		assert_dead(&t.b.hs);

		/* and were it not, the ephemeral one is. */
		talk_until(&t, 0);
		memcpy(t.message, point, 32);
		assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
		assert_true(noise_handshake_needs_dh(&t.b.hs, peer));
		assert_memory_equal(peer, point, 32);
		assert_int_equal(noise_handshake_supply_dh(&t.b.hs, t.b.public), 0);
		assert_int_equal(
			side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len), -EBADMSG);
		assert_dead(&t.b.hs);

		/* As ephemeral key of the responder. */
		talk_until(&t, 1);
		memcpy(t.message, point, 32);
		assert_int_equal(read_it(&t, 1, t.message, t.len), -EBADMSG);
		assert_dead(&t.a.hs);

		/* As static key of the responder, who else keeps to the protocol. */
		talk_until(&t, 0);
		memcpy(t.b.hs.static_public, point, 32);
		assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
		assert_int_equal(
			side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len), 0);
		assert_int_equal(read_it(&t, 1, t.message, t.len), -EBADMSG);
		assert_dead(&t.a.hs);
	}
}

static void handshake__again_changes_nothing(void **state)
{
	struct noise_handshake before;
	uint8_t out[256], peer[32], ahead[32];
	struct talk t;
	size_t n;

	talk_until(&t, 0);
	assert_false(noise_handshake_needs_dh(&t.b.hs, ahead));
	assert_int_equal(noise_handshake_supply_dh(&t.b.hs, ahead), -EINVAL);
	assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
	before = t.b.hs;
	assert_true(noise_handshake_needs_dh(&t.b.hs, ahead));
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			noise_handshake_write(&t.b.hs, payload[1], 8, out, sizeof(out), &n, peer),
			-EAGAIN);
	assert_memory_equal(peer, ahead, 32);
	assert_memory_equal(&before, &t.b.hs, sizeof(before));
	/* A wrong answer makes a message that nobody accepts. */
	assert_int_equal(noise_handshake_supply_dh(&t.b.hs, t.b.public), 0);
	assert_int_equal(noise_handshake_supply_dh(&t.b.hs, t.b.public), -EINVAL);
	assert_int_equal(
		noise_handshake_write(&t.b.hs, payload[1], 8, out, sizeof(out), &n, peer), 0);
	assert_int_equal(read_it(&t, 1, out, n), -EBADMSG);
}

static void handshake__of_another_prologue_fails(void **state)
{
	struct talk t;
	uint8_t ephemeral[32] = { 3 };

	talk_until(&t, 0);
	noise_handshake_init(&t.b.hs, false, (const uint8_t *)"tesT", 4, t.b.public, ephemeral);
	assert_int_equal(read_it(&t, 0, t.message, t.len), 0);
	assert_int_equal(side_write(&t.b, NULL, 0, t.message, sizeof(t.message), &t.len), 0);
	assert_int_equal(read_it(&t, 1, t.message, t.len), -EBADMSG);
}

static void handshake__takes_turns(void **state)
{
	struct talk t;
	uint8_t out[256], peer[32];
	size_t n;

	side_init(&t.a, true, 1);
	side_init(&t.b, false, 2);
	memset(out, 0, sizeof(out));
	assert_int_equal(noise_handshake_write(&t.b.hs, NULL, 0, out, 256, &n, peer), -EINVAL);
	assert_int_equal(noise_handshake_read(&t.a.hs, out, 200, out, 256, &n), -EINVAL);
	assert_int_equal(noise_handshake_write(&t.a.hs, NULL, 0, out, 256, &n, peer), 0);
	assert_int_equal(noise_handshake_write(&t.a.hs, NULL, 0, out, 256, &n, peer), -EINVAL);
	noise_handshake_wipe(&t.a.hs);
	assert_dead(&t.a.hs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshake__tells_keys_only_when_proved),
		cmocka_unit_test(handshake__notices_each_flipped_bit),
		cmocka_unit_test(handshake__refuses_truncated_and_extended),
		cmocka_unit_test(handshake__keeps_to_its_sizes),
		cmocka_unit_test(handshake__refuses_replay),
		cmocka_unit_test(handshake__refuses_reflection),
		cmocka_unit_test(handshake__refuses_low_order_points),
		cmocka_unit_test(handshake__again_changes_nothing),
		cmocka_unit_test(handshake__of_another_prologue_fails),
		cmocka_unit_test(handshake__takes_turns),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
