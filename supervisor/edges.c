#include "supervisor/edges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ring.h"
#include "ipc/work.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

struct edge {
	struct edge *next;
	const struct edge_kind *kind;
	struct child *end[2]; /* client, server */
	int fd[2];	      /* what each is still to be given; -1 */
	bool made;
	struct mount *mount;
	uint64_t id;
	int ring_in, ring_out;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void add(struct supervisor *s, const struct edge_kind *kind, struct child *client,
	struct child *server, struct mount *m)
{
	struct edge *e = calloc(1, sizeof(*e));

	if (!e)
		fatal("no memory");
	*e = (struct edge){ s->edges, kind, { client, server }, { -1, -1 }, .mount = m,
		.id = m ? m->id : 0, .ring_in = kind->keeps_rings ? m->ring : -1, .ring_out = -1 };
	s->edges = e;
}

void edges_make(struct supervisor *s)
{
	for (size_t i = 0; i < topology_num_edges; i++) {
		const struct edge_kind *k = &topology_edges[i];

		if (k->client != ROLE_MOUNTD)
			add(s, k, &s->children[k->client], &s->children[k->server], NULL);
	}
}

void edges_make_mount(struct supervisor *s, struct mount *m)
{
	for (size_t i = 0; i < topology_num_edges; i++) {
		const struct edge_kind *k = &topology_edges[i];

		if (k->client == ROLE_MOUNTD)
			add(s, k, &m->child, &s->children[k->server], m);
	}
}

static void drop(struct edge *e)
{
	close_fd(&e->fd[0]);
	close_fd(&e->fd[1]);
	/* A mount's ring is the mount's. */
	if (!e->kind->keeps_rings) {
		close_fd(&e->ring_in);
		close_fd(&e->ring_out);
	}
	free(e);
}

void edges_drop_mount(struct supervisor *s, struct mount *m)
{
	for (struct edge **p = &s->edges; *p;) {
		struct edge *e = *p;

		if (e->mount == m) {
			*p = e->next;
			drop(e);
		} else {
			p = &e->next;
		}
	}
}

void edges_release(struct supervisor *s)
{
	while (s->edges) {
		struct edge *e = s->edges;

		s->edges = e->next;
		drop(e);
	}
}

/* Rings that are not kept start empty with each pair: both ends agree that nothing is in them. */
static int make_rings(struct edge *e)
{
	int r = 0;

	if (e->kind->keeps_rings)
		return 0;
	close_fd(&e->ring_in);
	close_fd(&e->ring_out);
	if (e->kind->ring_in)
		r = ipc_ring_create(e->kind->ring_in, &e->ring_in);
	if (r == 0 && e->kind->ring_out)
		r = ipc_ring_create(e->kind->ring_out, &e->ring_out);
	return r;
}

static int make(struct edge *e)
{
	int r;

	close_fd(&e->fd[0]);
	close_fd(&e->fd[1]);
	r = make_rings(e);
	if (r == 0)
		r = ipc_pair(e->fd);
	e->made = r == 0;
	return r < 0 ? log_error_errno(r, "edge %s", e->kind->name) : 0;
}

static void edge_handed(void *arg, int err, const struct work_edge_reply *reply)
{
	struct child *c = arg;

	if (err && err != -ECONNRESET)
		log_error("%s: edge refused: %s", c->role->name,
			c->work ? ipc_chan_error(c->work) : strerror(-err));
}

static void hand_end(struct edge *e, int end)
{
	struct child *c = e->end[end];
	struct work_edge msg = {
		.kind = e->kind->name,
		.id = e->id,
		.fd = e->fd[end],
		.ring_in = e->ring_in,
		.ring_out = e->ring_out,
		.role = e->end[!end]->role->name,
		.sharing = e->mount ? e->mount->sharing : "",
		.incarnation = e->mount ? e->mount->incarnation : 0,
	};

	if (e->fd[end] < 0 || !child_is_ready(c))
		return;
	if (e->mount)
		memcpy(msg.volume, e->mount->volume_id, sizeof(msg.volume));
	if (work_edge(c->work, &msg, edge_handed, c) < 0)
		log_error("%s: edge %s could not be handed over", c->role->name, e->kind->name);
	close_fd(&e->fd[end]);
}

void edges_hand(struct supervisor *s, struct child *c)
{
	for (struct edge *e = s->edges; e; e = e->next) {
		if (e->end[0] != c && e->end[1] != c)
			continue;
		if (!e->made && make(e) < 0)
			continue;
		hand_end(e, 0);
		hand_end(e, 1);
	}
}

void edges_renew(struct supervisor *s, struct child *c)
{
	for (struct edge *e = s->edges; e; e = e->next) {
		int end = e->end[1] == c;

		if (e->end[end] != c || !e->made)
			continue;
		/* It never got its end: the other half is still good for the next one. */
		if (e->fd[end] >= 0)
			continue;
		if (make(e) == 0)
			hand_end(e, !end);
	}
}
