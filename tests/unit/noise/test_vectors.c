/*
 * Runs whole conversations against public test vectors: ours (vectors.txt, which says where it is
 * from) and, where Debian's golang-github-flynn-noise-dev is installed, all XX ones of that.
 */
#include "noise/handshake.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PROTOCOL     "Noise_XX_25519_ChaChaPoly_BLAKE2b"
#define MAX_MESSAGES 8
#define MAX_BYTES    512

struct bytes {
	uint8_t data[MAX_BYTES];
	size_t len;
};

struct vector {
	bool is_ours;
	bool responder_goes_first;
	struct bytes prologue, init_static, resp_static, init_ephemeral, resp_ephemeral, hash;
	struct bytes payload[MAX_MESSAGES], ciphertext[MAX_MESSAGES];
	size_t num_messages;
};

struct side {
	struct noise_handshake hs;
	const uint8_t *static_secret;
	struct noise_cipher send, receive;
};

static void side_init(struct side *side, bool is_initiator, const struct vector *v)
{
	uint8_t pub[32];

	side->static_secret = is_initiator ? v->init_static.data : v->resp_static.data;
	crypto_scalarmult_base(pub, side->static_secret);
	noise_handshake_init(&side->hs, is_initiator, v->prologue.data, v->prologue.len, pub,
		is_initiator ? v->init_ephemeral.data : v->resp_ephemeral.data);
}

/* What syncd does, with keyd's part done here. */
static int side_write(
	struct side *side, const struct bytes *payload, uint8_t *out, size_t size, size_t *ret_len)
{
	uint8_t peer[32], shared[32];
	int r = noise_handshake_write(
		&side->hs, payload->data, payload->len, out, size, ret_len, peer);

	if (r != -EAGAIN)
		return r;
	assert_int_equal(crypto_scalarmult(shared, side->static_secret, peer), 0);
	assert_int_equal(noise_handshake_supply_dh(&side->hs, shared), 0);
	return noise_handshake_write(
		&side->hs, payload->data, payload->len, out, size, ret_len, peer);
}

static void check_handshake_message(
	const struct vector *v, size_t i, struct side *from, struct side *to)
{
	uint8_t message[MAX_BYTES], payload[MAX_BYTES];
	size_t len, payload_len;

	assert_int_equal(side_write(from, &v->payload[i], message, sizeof(message), &len), 0);
	assert_int_equal(len, v->ciphertext[i].len);
	assert_memory_equal(message, v->ciphertext[i].data, len);
	assert_int_equal(
		noise_handshake_read(&to->hs, message, len, payload, sizeof(payload), &payload_len),
		0);
	assert_int_equal(payload_len, v->payload[i].len);
	assert_memory_equal(payload, v->payload[i].data, payload_len);
}

static void check_transport_message(
	const struct vector *v, size_t i, struct side *from, struct side *to)
{
	uint8_t message[MAX_BYTES], payload[MAX_BYTES];
	size_t len, payload_len;

	assert_int_equal(noise_cipher_encrypt(&from->send, NULL, 0, v->payload[i].data,
				 v->payload[i].len, message, sizeof(message), &len),
		0);
	assert_int_equal(len, v->ciphertext[i].len);
	assert_memory_equal(message, v->ciphertext[i].data, len);
	assert_int_equal(noise_cipher_decrypt(&to->receive, NULL, 0, message, len, payload,
				 sizeof(payload), &payload_len),
		0);
	assert_int_equal(payload_len, v->payload[i].len);
	assert_memory_equal(payload, v->payload[i].data, payload_len);
}

static void check_vector(const struct vector *v)
{
	struct side a, b;

	assert_true(v->num_messages > 3);
	side_init(&a, true, v);
	side_init(&b, false, v);
	check_handshake_message(v, 0, &a, &b);
	check_handshake_message(v, 1, &b, &a);
	check_handshake_message(v, 2, &a, &b);
	assert_int_equal(noise_handshake_split(&a.hs, &a.send, &a.receive), 0);
	assert_int_equal(noise_handshake_split(&b.hs, &b.send, &b.receive), 0);
	assert_memory_equal(noise_handshake_hash(&a.hs), noise_handshake_hash(&b.hs), 64);
	if (v->hash.len)
		assert_memory_equal(noise_handshake_hash(&a.hs), v->hash.data, 64);
	for (size_t i = 3; i < v->num_messages; i++) {
		if ((i % 2 == 1) != v->responder_goes_first)
			check_transport_message(v, i, &a, &b);
		else
			check_transport_message(v, i, &b, &a);
	}
}

static void unhex(const char *hex, struct bytes *ret)
{
	const char *end;

	assert_int_equal(sodium_hex2bin(ret->data, sizeof(ret->data), hex, strlen(hex), NULL,
				 &ret->len, &end),
		0);
	assert_int_equal(*end, '\0');
}

static void take_field(struct vector *v, const char *key, const char *value)
{
	size_t i;
	char kind[16];

	if (sscanf(key, "msg_%zu_%15s", &i, kind) == 2) {
		assert_true(i < MAX_MESSAGES);
		unhex(value, strcmp(kind, "payload") == 0 ? &v->payload[i] : &v->ciphertext[i]);
		v->num_messages = i + 1;
	} else if (strcmp(key, "prologue") == 0) {
		unhex(value, &v->prologue);
	} else if (strcmp(key, "init_static") == 0) {
		unhex(value, &v->init_static);
	} else if (strcmp(key, "resp_static") == 0) {
		unhex(value, &v->resp_static);
	} else if (strcmp(key, "gen_init_ephemeral") == 0) {
		unhex(value, &v->init_ephemeral);
	} else if (strcmp(key, "gen_resp_ephemeral") == 0) {
		unhex(value, &v->resp_ephemeral);
	} else if (strcmp(key, "handshake_hash") == 0) {
		unhex(value, &v->hash);
	} else if (strcmp(key, "transport_first") == 0) {
		v->responder_goes_first = strcmp(value, "resp") == 0;
	} else {
		fail_msg("unknown field %s", key);
	}
}

/* Returns how many vectors of our protocol were checked. */
static unsigned check_file(FILE *f)
{
	static struct vector v;
	bool is_wanted = false;
	char line[4096];
	unsigned num = 0;

	while (fgets(line, sizeof(line), f)) {
		char *value = strchr(line, '=');

		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#' || !value)
			continue;
		*value++ = '\0';
		if (strcmp(line, "handshake") == 0) {
			if (is_wanted)
				check_vector(&v);
			is_wanted = strcmp(value, PROTOCOL) == 0;
			num += is_wanted;
			memset(&v, 0, sizeof(v));
		} else if (is_wanted) {
			take_field(&v, line, value);
		}
	}
	if (is_wanted)
		check_vector(&v);
	return num;
}

static void vectors__of_cacophony_pass(void **state)
{
	FILE *f = fopen(VECTORS_OURS, "r");

	assert_non_null(f);
	assert_int_equal(check_file(f), 1);
	fclose(f);
}

static void vectors__of_flynn_pass(void **state)
{
	FILE *f = fopen(VECTORS_FLYNN, "r");

	if (!f)
		skip();
	assert_int_equal(check_file(f), 4);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors__of_cacophony_pass),
		cmocka_unit_test(vectors__of_flynn_pass),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
