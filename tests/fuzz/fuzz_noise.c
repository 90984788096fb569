/*
 * A stranger talks Noise to us. First byte: bit 0 we are the initiator, bits 1 and 2 how many
 * honest messages go before. Then the stranger's message. Nothing that a stranger makes up
 * completes a handshake: only what an honest side wrote does.
 */
#include "noise/handshake.h"

#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct side {
	uint8_t secret[32], public[32];
	struct noise_handshake hs;
};

static void side_init(struct side *side, bool is_initiator)
{
	uint8_t ephemeral[32];

	memset(side->secret, 1 + is_initiator, 32);
	memset(ephemeral, 3 + is_initiator, 32);
	crypto_scalarmult_base(side->public, side->secret);
	noise_handshake_init(&side->hs, is_initiator, NULL, 0, side->public, ephemeral);
}

static int side_write(struct side *side, uint8_t *out, size_t size, size_t *ret)
{
	uint8_t peer[32], shared[32] = { 0 };

	if (noise_handshake_needs_dh(&side->hs, peer)) {
		(void)!crypto_scalarmult(shared, side->secret, peer);
		noise_handshake_supply_dh(&side->hs, shared);
	}
	return noise_handshake_write(&side->hs, NULL, 0, out, size, ret, peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct side side[2];
	uint8_t message[256], *out;
	size_t len, n;

	if (size < 1 || sodium_init() < 0)
		return 0;
	side_init(&side[0], true);
	side_init(&side[1], false);
	for (int i = 0; i < (data[0] >> 1 & 3) && i < 3; i++) {
		if (side_write(&side[i & 1], message, sizeof(message), &len) < 0 ||
			noise_handshake_read(
				&side[!(i & 1)].hs, message, len, message, sizeof(message), &n) < 0)
			abort();
	}
	struct side *victim = &side[!(data[0] & 1)];
	bool was_complete = noise_handshake_is_complete(&victim->hs);

	out = malloc(size);
	if (!out)
		return 0;
	if (noise_handshake_read(&victim->hs, data + 1, size - 1, out, size, &n) == 0) {
		if (n > size - 1)
			abort();
		side_write(victim, message, sizeof(message), &len);
	}
	/* Message 3 with no payload and these keys is one string of bytes; nobody stumbles on it.
	 */
	if (!was_complete && noise_handshake_is_complete(&victim->hs))
		abort();
	noise_handshake_wipe(&victim->hs);
	free(out);
	return 0;
}
