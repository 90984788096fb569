#include "stored/broken.h"
#include "stored/change.h"

#include <errno.h>

#define RESERVE_STEP 16384

/*
 * Numbers are reserved durably in steps and given out from memory; what was reserved and not given
 * out when the process died is lost, which costs nothing: there are 2^32.
 */
int engine_oids(struct engine *engine, struct volume *vol, uint32_t count, uint64_t *ret_first)
{
	struct change_head head = { .vol = vol->number };
	uint32_t was = vol->reserved;
	int r;

	if (count == 0 || count > UINT32_MAX / 2 || vol->next > UINT32_MAX - count - RESERVE_STEP)
		return -EOVERFLOW;
	if (vol->next + count > vol->reserved) {
		r = engine_flush(engine);
		if (r == 0)
			r = change_begin(engine);
		if (r < 0)
			return r;
		vol->reserved = vol->next + count + RESERVE_STEP;
		r = change_state(engine, vol);
		if (r == 0)
			r = change_end(engine, FRAME_SETTINGS, &head, NULL);
		if (r == 0 && !BROKEN(BROKEN_NUMBERS))
			r = engine_sync(engine);
		if (r < 0) {
			change_cancel(engine);
			vol->reserved = was;
			return r;
		}
	}
	*ret_first = tree_oid(vol->state.clock.replica, vol->next);
	vol->next += count;
	return 0;
}
