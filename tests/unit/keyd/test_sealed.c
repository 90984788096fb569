#include "keyd/sealed.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t unlock[32] = "unlock", file_key[32] = "file key", nonce[24] = "nonce";
static const uint8_t random_bytes[40] = "random";

struct opened {
	struct sealed_slots slots;
	uint64_t generation;
	uint8_t file_key[32], packed[KEYRING_PACKED_SIZE];
};

static void make(uint8_t ret[SEALED_SIZE])
{
	static uint8_t packed[KEYRING_PACKED_SIZE];
	struct sealed_slots slots = { 0 };

	memset(packed, 0x5a, sizeof(packed));
	sealed_set_key_slot(&slots, 0, unlock, file_key, random_bytes);
	sealed_write(&slots, 7, file_key, nonce, packed, ret);
}

static void set_checksum(uint8_t *data, size_t len)
{
	crypto_generichash(data + len - 32, 32, data, len - 32, NULL, 0);
}

static int open_it(const uint8_t *data, size_t len, const uint8_t key[32], struct opened *o)
{
	return sealed_read(data, len, key, &o->slots, &o->generation, o->file_key, o->packed);
}

static void sealed__opens_by_its_unlock_key_alone(void **state)
{
	uint8_t data[SEALED_SIZE], wrong[32] = "unlocj";
	static struct opened o;

	make(data);
	assert_int_equal(open_it(data, sizeof(data), unlock, &o), 0);
	assert_int_equal(o.generation, 7);
	assert_memory_equal(o.file_key, file_key, 32);
	for (size_t i = 0; i < sizeof(o.packed); i++)
		assert_int_equal(o.packed[i], 0x5a);
	assert_int_equal(open_it(data, sizeof(data), wrong, &o), -EKEYREJECTED);
	assert_true(sodium_is_zero(o.packed, sizeof(o.packed)));
	assert_true(sodium_is_zero(o.file_key, 32));
}

static void sealed__notices_each_damaged_byte(void **state)
{
	uint8_t data[SEALED_SIZE];
	static struct opened o;

	make(data);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(open_it(data, sizeof(data), unlock, &o), -EBADMSG);
		data[i] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t len = 0; len < sizeof(data); len++)
		assert_int_equal(open_it(data, len, unlock, &o), -EBADMSG);
}

/* Somebody who changes a byte and repairs the checksum is noticed as such. */
static void sealed__notices_each_altered_byte(void **state)
{
	uint8_t data[SEALED_SIZE];
	static struct opened o;

	for (size_t i = 0; i < SEALED_SIZE - 32; i++) {
		int r;

		make(data);
		data[i] ^= (uint8_t)(1 << i % 8);
		set_checksum(data, sizeof(data));
		r = open_it(data, sizeof(data), unlock, &o);
		if (i < 4)
			assert_int_equal(r, -EBADMSG);
		else if (i < 6)
			assert_int_equal(r, -EPROTONOSUPPORT);
		else if (i == 80)
			assert_int_equal(r, -ENOKEY);
		else if (i >= 96 && i < 80 + 104)
			assert_int_equal(r, -EKEYREJECTED);
		else
			assert_int_equal(r, -EILSEQ);
		assert_true(sodium_is_zero(o.packed, sizeof(o.packed)));
	}
}

static void sealed__commits_to_one_file_key(void **state)
{
	uint8_t data[SEALED_SIZE], other[32] = "another file key";
	struct sealed_slots slots = { 0 };
	static struct opened o;

	/* A slot that yields another key than the file is sealed with. */
	make(data);
	sealed_set_key_slot(&slots, 0, unlock, other, random_bytes);
	memcpy(data + 80, slots.b, sizeof(slots.b));
	set_checksum(data, sizeof(data));
	assert_int_equal(open_it(data, sizeof(data), unlock, &o), -EILSEQ);
}

static void sealed__any_of_its_slots_opens_it(void **state)
{
	static uint8_t packed[KEYRING_PACKED_SIZE];
	uint8_t data[SEALED_SIZE], second[32] = "second";
	struct sealed_slots slots = { 0 };
	static struct opened o;

	/* Slot 1: of a passphrase, which this build carries along. */
	slots.b[1][0] = SEALED_SLOT_PASSPHRASE;
	slots.b[1][4] = 3;
	sealed_set_key_slot(&slots, 0, unlock, file_key, random_bytes);
	sealed_set_key_slot(&slots, 3, second, file_key, random_bytes);
	sealed_write(&slots, 1, file_key, nonce, packed, data);
	assert_int_equal(open_it(data, sizeof(data), unlock, &o), 0);
	assert_memory_equal(&o.slots, &slots, sizeof(slots));
	assert_int_equal(open_it(data, sizeof(data), second, &o), 0);
	slots.b[0][0] = slots.b[3][0] = SEALED_SLOT_PASSPHRASE;
	sealed_write(&slots, 1, file_key, nonce, packed, data);
	assert_int_equal(open_it(data, sizeof(data), unlock, &o), -ENOKEY);
}

/* A change of the format that forgets the version is noticed here. */
static void sealed__format_is_fixed(void **state)
{
	uint8_t data[SEALED_SIZE], sum[16];
	char hex[33];

	make(data);
	assert_int_equal(sizeof(data), 8960);
	assert_memory_equal(data, "BZK1\1\1\4\0\7", 9);
	crypto_generichash(sum, sizeof(sum), data, sizeof(data), NULL, 0);
	sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
	assert_string_equal(hex, "3b97b0f520d6d72d9c1f19e27dcd63e9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed__opens_by_its_unlock_key_alone),
		cmocka_unit_test(sealed__notices_each_damaged_byte),
		cmocka_unit_test(sealed__notices_each_altered_byte),
		cmocka_unit_test(sealed__commits_to_one_file_key),
		cmocka_unit_test(sealed__any_of_its_slots_opens_it),
		cmocka_unit_test(sealed__format_is_fixed),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
