#include "noise/vouch.h"

#include <sodium.h>
#include <string.h>

static const char label[] = "bazil noise static key v1";

#define SIGNED_SIZE (sizeof(label) + 32)

static void signed_bytes(const uint8_t static_public[32], uint8_t ret[SIGNED_SIZE])
{
	memcpy(ret, label, sizeof(label));
	memcpy(ret + sizeof(label), static_public, 32);
}

void noise_vouch_make(const uint8_t identity_secret[64], const uint8_t static_public[32],
	uint8_t ret[NOISE_VOUCH_SIZE])
{
	uint8_t text[SIGNED_SIZE];

	signed_bytes(static_public, text);
	crypto_sign_detached(ret, NULL, text, sizeof(text), identity_secret);
}

bool noise_vouch_is_valid(const uint8_t identity[32], const uint8_t static_public[32],
	const uint8_t vouch[NOISE_VOUCH_SIZE])
{
	uint8_t text[SIGNED_SIZE];

	signed_bytes(static_public, text);
	return crypto_sign_verify_detached(vouch, text, sizeof(text), identity) == 0;
}
