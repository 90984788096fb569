#include "stored/location.h"

#include <string.h>

static bool is_port(const char *text)
{
	unsigned port = 0;

	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned)(*text - '0');
		if (port > 65535)
			return false;
	}
	return port > 0;
}

bool location_is_valid(const char *text)
{
	const char *colon = strchr(text, ':'), *end;

	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	if (*text == '[') {
		end = strchr(text, ']');
		return end && end > text + 1 &&
		       (end[1] == '\0' || (end[1] == ':' && is_port(end + 2)));
	}
	/* Two colons without brackets: an IPv6 address, and no port. */
	if (!colon || strchr(colon + 1, ':'))
		return *text != '\0';
	return colon > text && is_port(colon + 1);
}
