#include "dialer/addresses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void addresses_clear(struct addresses *a)
{
	free(a->list);
	a->list = NULL;
	a->num = 0;
}

int addresses_add(struct addresses *a, const uint8_t peer[32], const char *text)
{
	char host[ADDRESS_MAX + 1], port[6];
	struct address *bigger;

	if (address_split(text, host, port) < 0)
		return -EINVAL;
	bigger = realloc(a->list, (a->num + 1) * sizeof(*a->list));
	if (!bigger)
		return -ENOMEM;
	a->list = bigger;
	memcpy(bigger[a->num].peer, peer, 32);
	snprintf(bigger[a->num].text, sizeof(bigger[a->num].text), "%s", text);
	a->num++;
	return 0;
}

const char *addresses_find(const struct addresses *a, const uint8_t peer[32])
{
	for (size_t i = 0; i < a->num; i++)
		if (memcmp(a->list[i].peer, peer, 32) == 0)
			return a->list[i].text;
	return NULL;
}

static int split_port(const char *text, char ret_port[6])
{
	char *end;
	unsigned long port;

	if (*text == '\0') {
		snprintf(ret_port, 6, "%s", DEFAULT_PORT);
		return 0;
	}
	if (*text != ':' || text[1] < '0' || text[1] > '9')
		return -EINVAL;
	port = strtoul(text + 1, &end, 10);
	if (*end || port < 1 || port > 65535)
		return -EINVAL;
	snprintf(ret_port, 6, "%u", (unsigned)port);
	return 0;
}

int address_split(const char *text, char ret_host[ADDRESS_MAX + 1], char ret_port[6])
{
	const char *begin = text, *end, *rest;

	if (strlen(text) > ADDRESS_MAX)
		return -EINVAL;
	if (*text == '[') {
		begin = text + 1;
		end = strchr(begin, ']');
		rest = end ? end + 1 : NULL;
	} else {
		end = strchr(text, ':');
		/* Two colons without brackets: an IPv6 address, and no port. */
		if (end && strchr(end + 1, ':'))
			end = NULL;
		if (!end)
			end = text + strlen(text);
		rest = end;
	}
	if (!end || end == begin)
		return -EINVAL;
	memcpy(ret_host, begin, (size_t)(end - begin));
	ret_host[end - begin] = '\0';
	return split_port(rest, ret_port);
}
