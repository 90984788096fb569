#include "supervisor/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/work.gen.h"
#include "supervisor/control.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

static void refreshed(struct supervisor *s)
{
	struct child *syncd = &s->children[ROLE_SYNCD];

	if (--s->peers_awaited == 0 && syncd->state == CHILD_RUNNING)
		control_release_held(syncd);
}

static void addresses_done(void *arg, int err, const struct work_addresses_reply *reply)
{
	refreshed(arg);
}

static void list_done(void *arg, int err, const struct ctl_peer_list_reply *reply)
{
	struct supervisor *s = arg;
	struct child *dialer = &s->children[ROLE_DIALER];
	_cleanup_(freep) struct work_address *list = NULL;
	size_t num = 0;

	/* Whoever is missing asks again when it runs. */
	if (!err && dialer->state == CHILD_RUNNING && dialer->work)
		list = calloc(reply->num_peers + 1, sizeof(*list));
	if (!list) {
		refreshed(s);
		return;
	}
	for (size_t i = 0; i < reply->num_peers && num < WORK_ADDRESSES_ADDRESSES_MAX; i++) {
		const struct ctl_peer *p = &reply->peers[i];

		if (!*p->address)
			continue;
		memcpy(list[num].peer, p->key, sizeof(list[num].peer));
		list[num++].address = p->address;
	}
	if (work_addresses(dialer->work,
		    &(struct work_addresses){ .addresses = list, .num_addresses = num },
		    addresses_done, s) < 0)
		refreshed(s);
}

void peers_refresh(struct supervisor *s)
{
	struct child *stored = &s->children[ROLE_STORED];

	if (s->once || stored->state != CHILD_RUNNING || !stored->ctl ||
		s->children[ROLE_DIALER].state != CHILD_RUNNING)
		return;
	if (ctl_peer_list(stored->ctl, &(struct ctl_peer_list){ 0 }, list_done, s) == 0)
		s->peers_awaited++;
}

static void listener_done(void *arg, int err, const struct work_listener_reply *reply)
{
	if (err && err != -ECONNRESET)
		log_error_errno(err, "syncd: listener");
}

void peers_listen(struct supervisor *s)
{
	struct child *syncd = &s->children[ROLE_SYNCD];

	if (s->listener < 0 || syncd->state != CHILD_RUNNING || !syncd->work)
		return;
	work_listener(syncd->work, &(struct work_listener){ .fd = s->listener, .port = s->port },
		listener_done, s);
}
