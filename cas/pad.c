#include "cas/pad.h"

static unsigned int log2_floor(size_t n)
{
	return 63 - (unsigned int)__builtin_clzll(n);
}

size_t cas_padme(size_t len)
{
	unsigned int e, s;
	size_t mask;

	if (len < 2)
		return len;
	e = log2_floor(len);
	s = log2_floor(e) + 1; /* <= e, as e >= 1 */
	mask = ((size_t)1 << (e - s)) - 1;
	return (len + mask) & ~mask;
}

size_t cas_pad_object(size_t len)
{
	return len <= CAS_PAD_MIN ? CAS_PAD_MIN : cas_padme(len);
}
