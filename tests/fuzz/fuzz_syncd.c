/*
 * What a peer makes up, where syncd reads it first. First byte: 0 the payload of handshake message
 * 1, 1 of messages 2 and 3, else fragments, each behind a byte of length, put together as a session
 * does. What is read can be written again and is then read the same.
 */
#include "syncd/fragment.h"
#include "syncd/intro.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX 300

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void read_intro(const uint8_t *data, size_t size)
{
	struct intro intro, again;
	uint8_t buf[INTRO_MAX];
	size_t len;

	if (intro_parse(&intro, data, size) < 0)
		return;
	check(intro.num_versions > 0 && intro.num_versions <= INTRO_VERSIONS_MAX);
	check(intro_common_version(&intro, &intro) > 0 || intro.versions[0] == 0);
	len = intro_emit(&intro, buf);
	check(len <= size && memcmp(buf, data, len) == 0);
	check(intro_parse(&again, buf, len) == 0 && memcmp(&intro, &again, sizeof(intro)) == 0);
}

static void read_hello(const uint8_t *data, size_t size)
{
	struct intro intro;
	uint8_t buf[INTRO_HELLO_MAX];
	size_t len;

	if (intro_parse_hello(&intro, data, size) < 0)
		return;
	len = intro_emit_hello(&intro, buf);
	check(len <= size && memcmp(buf, data, len) == 0);
}

static void read_fragments(const uint8_t *data, size_t size)
{
	struct assembly in[FRAGMENT_REKEY + 1] = { 0 };

	while (size > 0) {
		struct fragment f;
		uint8_t buf[256 + FRAGMENT_HEAD_MAX];
		size_t len = data[0] < size - 1 ? data[0] : size - 1;
		data++;
		size--;
		if (fragment_parse(&f, data, len) == 0) {
			check(fragment_size(&f) == len);
			fragment_emit(&f, buf);
			check(memcmp(buf, data, len) == 0);
			if (f.kind <= FRAGMENT_OBJECT &&
				assembly_add(&in[f.kind], &f, MESSAGE_MAX) == 1)
				check(in[f.kind].have == in[f.kind].total &&
					in[f.kind].total <= MESSAGE_MAX);
		}
		data += len;
		size -= len;
	}
	for (size_t i = 0; i < sizeof(in) / sizeof(*in); i++)
		assembly_release(&in[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] == 0)
		read_hello(data + 1, size - 1);
	else if (data[0] == 1)
		read_intro(data + 1, size - 1);
	else
		read_fragments(data + 1, size - 1);
	return 0;
}
