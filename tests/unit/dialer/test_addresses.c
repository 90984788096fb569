#include "dialer/addresses.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void split(const char *text, const char *host, const char *port)
{
	char got_host[ADDRESS_MAX + 1], got_port[6];

	if (!host) {
		assert_int_equal(address_split(text, got_host, got_port), -EINVAL);
		return;
	}
	assert_int_equal(address_split(text, got_host, got_port), 0);
	assert_string_equal(got_host, host);
	assert_string_equal(got_port, port);
}

static void addresses__all_forms_are_split(void **state)
{
	split("192.0.2.42:34211", "192.0.2.42", "34211");
	split("192.0.2.42", "192.0.2.42", DEFAULT_PORT);
	split("host.example:1", "host.example", "1");
	split("[2001:db8::1]:65535", "2001:db8::1", "65535");
	split("[2001:db8::1]", "2001:db8::1", DEFAULT_PORT);
	split("2001:db8::1", "2001:db8::1", DEFAULT_PORT);
	split("host:007", "host", "7");
}

static void addresses__malformed_ones_are_refused(void **state)
{
	static const char *const bad[] = { "", ":1", "host:", "host:0", "host:65536", "host:x",
		"host:1x", "[::1", "[]:1", "[::1]x", "[::1]:", "host:-1", "host:+1" };
	char longest[ADDRESS_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		split(bad[i], NULL, NULL);
	memset(longest, 'a', sizeof(longest));
	longest[ADDRESS_MAX + 1] = '\0';
	split(longest, NULL, NULL);
}

static void addresses__only_what_was_added_is_found(void **state)
{
	struct addresses a = { 0 };
	uint8_t one[32] = { 1 }, two[32] = { 2 };

	assert_null(addresses_find(&a, one));
	assert_int_equal(addresses_add(&a, one, "host:1"), 0);
	assert_int_equal(addresses_add(&a, two, "host:"), -EINVAL);
	assert_string_equal(addresses_find(&a, one), "host:1");
	assert_null(addresses_find(&a, two));
	addresses_clear(&a);
	assert_null(addresses_find(&a, one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses__all_forms_are_split),
		cmocka_unit_test(addresses__malformed_ones_are_refused),
		cmocka_unit_test(addresses__only_what_was_added_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
