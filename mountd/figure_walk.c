#include "mountd/figure_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/records.h"
#include "mountd/request.h"
#include "tree/view.h"

#define SLICE_S	   0.004
#define DEPTH_MAX  4096u
#define VALUES_MAX 16

/* A directory on the way down. */
struct frame {
	uint64_t node;
	uint64_t changes; /* when it was begun */
	struct figure own, below;
	uint64_t *subdirs;
	size_t num, cap, next;
	uint64_t after; /* the last link of the pages read so far */
	bool has_own;
	bool is_partial; /* something below has no total in the cache */
};

struct figure_walk {
	struct figure_walk *next;
	struct mountd *m;
	fuse_req_t req; /* NULL: interrupted */
	uint64_t node;
	figure_print_fn *print;
	size_t size;
	struct frame *stack;
	size_t depth, cap;
	struct figure result;
	ev_timer timer;
};

/* --- one directory's records --- */

struct counting {
	struct mountd *m;
	struct frame *frame;
	struct tree_record link; /* the greatest element so far of the link that comes by */
	bool has_link;
	uint64_t target; /* the inode whose records come by; 0: none */
	bool is_dir;
	uint32_t nlink;
	struct tree_record attr, bodies[VALUES_MAX];
	bool has_attr;
	size_t num_bodies;
};

static void see(struct figure *own, int64_t ctime)
{
	if (ctime > own->newest)
		own->newest = ctime;
}

/* A file's bodies: each different value is a file, shown under a name of its own. */
static void count_bodies(struct counting *c, bool has_winner)
{
	struct tree_element elements[VALUES_MAX];
	size_t order[VALUES_MAX], num;
	struct sealed_body body;

	for (size_t i = 0; i < c->num_bodies; i++)
		elements[i] = c->bodies[i].e;
	num = tree_view_values(elements, c->num_bodies, order);
	for (size_t i = has_winner ? 1 : 0; i < num; i++) {
		if (sealed_get_body(&c->m->sealer, &c->bodies[order[i]], &body) < 0)
			continue;
		free(body.data);
		see(&c->frame->own, body.ctime);
		if (c->is_dir)
			return;
		c->frame->own.bytes += body.size;
		if (i > 0)
			c->frame->own.files++;
	}
}

static void count_inode(struct counting *c)
{
	uint64_t node = at_node(c->m, c->frame->node, c->target);
	/* What is cached may have changes that are not stored yet. */
	const struct inode *inode = inode_find_quietly(&c->m->inodes, node);
	struct sealed_attr attr;

	if (c->nlink > 1 && !c->is_dir)
		figures_note_link(c->m->figures, node, c->frame->node);
	if (inode != NULL) {
		see(&c->frame->own, inode_ctime(inode));
		if (inode_is_file(inode))
			c->frame->own.bytes += inode_size(inode);
	} else if (c->has_attr && sealed_get_attr(&c->m->sealer, &c->attr, &attr) == 0) {
		free(attr.symlink);
		see(&c->frame->own, attr.ctime);
	}
	if (c->num_bodies > 0)
		count_bodies(c, inode != NULL);
	c->target = 0;
}

static int add_subdir(struct frame *frame, uint64_t node)
{
	if (frame->num == frame->cap) {
		size_t cap = frame->cap ? frame->cap * 2 : 16;
		uint64_t *subdirs = realloc(frame->subdirs, cap * sizeof(*subdirs));

		if (subdirs == NULL)
			return -ENOMEM;
		frame->subdirs = subdirs;
		frame->cap = cap;
	}
	frame->subdirs[frame->num++] = node;
	return 0;
}

/* All elements of the link came by: it is in this directory, be it out of a cycle (mountd/load.c).
 */
static int begin_link(struct counting *c)
{
	struct frame *frame = c->frame;
	uint64_t node;

	if (!c->has_link)
		return 0;
	c->has_link = false;
	frame->after = c->link.e.key.id;
	c->target = c->link.e.target;
	c->is_dir = c->link.e.flags & TREE_DIRECTORY;
	c->has_attr = false;
	c->num_bodies = 0;
	c->nlink = 1;
	if (!c->is_dir) {
		frame->own.files++;
		return 0;
	}
	frame->own.dirs++;
	node = at_node(c->m, frame->node, c->target);
	return node != 0 ? add_subdir(frame, node) : -ENFILE;
}

static int see_link(struct counting *c, const struct tree_record *rec)
{
	int r = 0;

	if (c->has_link && rec->e.key.id != c->link.e.key.id)
		r = begin_link(c);
	if (!c->has_link || tree_element_compare(&rec->e, &c->link.e) > 0)
		c->link = *rec;
	c->has_link = true;
	return r;
}

static int count_record(struct counting *c, const struct tree_record *rec,
	const struct store_dir_reply *reply, size_t *next_node)
{
	int r;

	if (c->target != 0 && (rec->e.key.kind == TREE_LINK || rec->e.key.id != c->target))
		count_inode(c);
	if (rec->e.key.kind == TREE_LINK)
		return see_link(c, rec);
	r = begin_link(c);
	if (r < 0 || c->target == 0)
		return r;
	if (rec->e.key.kind == TREE_ATTR && !c->has_attr) {
		c->attr = *rec;
		c->has_attr = true;
		/* Nodes come in the order of their inodes. */
		for (size_t i = 0; i < reply->num_nodes; i++) {
			size_t at = (*next_node + i) % reply->num_nodes;

			if (reply->nodes[at].oid == c->target) {
				c->nlink = reply->nodes[at].nlink;
				*next_node = at + 1;
				break;
			}
		}
	} else if (rec->e.key.kind == TREE_ATTR && tree_element_compare(&rec->e, &c->attr.e) > 0) {
		c->attr = *rec;
	} else if (rec->e.key.kind == TREE_BODY && c->num_bodies < VALUES_MAX) {
		c->bodies[c->num_bodies++] = *rec;
	}
	return 0;
}

static int count_page(struct mountd *m, struct frame *frame, bool *ret_end)
{
	struct store_dir req = { .parent = at_oid(m, frame->node),
		.after = frame->after,
		.at = at_time(m, frame->node) };
	struct counting *c = calloc(1, sizeof(*c));
	struct store_dir_reply reply;
	struct tree_record rec;
	struct records records;
	uint64_t after = frame->after;
	size_t next_node = 0;
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->m = m;
	c->frame = frame;
	do {
		r = store_dir_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0) {
		free(c);
		return r;
	}
	records = (struct records){ reply.records.data, reply.records.len };
	while (r == 0 && (r = records_next(&records, &rec)) == 0)
		r = count_record(c, &rec, &reply, &next_node);
	if (r == -ENOENT && begin_link(c) < 0)
		r = -ENFILE;
	if (c->target != 0)
		count_inode(c);
	if (reply.next > frame->after)
		frame->after = reply.next;
	if (r == -ENOENT)
		r = reply.end || frame->after != after ? 0 : -EBADMSG;
	*ret_end = reply.end;
	store_dir_reply_release(&reply);
	free(c);
	return r;
}

/* --- the walk --- */

static int push(struct figure_walk *walk, uint64_t node)
{
	struct figure_dir *known = figures_find(walk->m->figures, node);
	struct frame *frame;

	if (walk->depth == DEPTH_MAX)
		return -ELOOP;
	if (walk->depth == walk->cap) {
		size_t cap = walk->cap ? walk->cap * 2 : 16;
		struct frame *stack = realloc(walk->stack, cap * sizeof(*stack));

		if (stack == NULL)
			return -ENOMEM;
		walk->stack = stack;
		walk->cap = cap;
	}
	frame = &walk->stack[walk->depth++];
	*frame = (struct frame){ .node = node, .changes = figures_changes(walk->m->figures) };
	if (known == NULL || !known->has_own)
		return 0;
	for (size_t i = 0; i < known->num_subdirs; i++) {
		int r = add_subdir(frame, known->subdirs[i]);

		if (r < 0)
			return r;
	}
	frame->own = known->own;
	frame->has_own = true;
	return 0;
}

static int load_own(struct figure_walk *walk, struct frame *frame)
{
	struct figures *figures = walk->m->figures;
	bool end;
	int r = count_page(walk->m, frame, &end);

	if (r == -ENOENT) {
		end = true; /* removed meanwhile: nothing is in it */
		r = 0;
	}
	if (r < 0 || !end)
		return r;
	frame->has_own = true;
	if (frame->changes != figures_changes(figures) ||
		figures_set_own(figures, frame->node, &frame->own, frame->subdirs, frame->num) ==
			NULL)
		frame->is_partial = true;
	return 0;
}

static void pop(struct figure_walk *walk)
{
	struct figures *figures = walk->m->figures;
	struct frame *frame = &walk->stack[--walk->depth];
	struct frame *above = walk->depth > 0 ? frame - 1 : NULL;
	struct figure_dir *dir = figures_find(figures, frame->node);

	figure_add(&frame->below, &frame->own);
	if (dir != NULL && dir->has_own && !frame->is_partial &&
		frame->changes == figures_changes(figures)) {
		dir->total = frame->below;
		dir->has_total = true;
	} else if (above != NULL) {
		above->is_partial = true;
	}
	if (above != NULL) {
		figure_add(&above->below, &frame->below);
		above->next++;
	} else {
		walk->result = frame->below;
	}
	free(frame->subdirs);
}

/* One page, or down, or up. Positive: done. */
static int step(struct figure_walk *walk)
{
	struct frame *frame = &walk->stack[walk->depth - 1];
	struct figures *figures = walk->m->figures;

	if (!frame->has_own)
		return load_own(walk, frame);
	while (frame->next < frame->num) {
		struct figure_dir *sub = figures_find(figures, frame->subdirs[frame->next]);

		if (sub == NULL || !sub->has_total) {
			figures_expect(figures, frame->subdirs[frame->next], frame->node);
			return push(walk, frame->subdirs[frame->next]);
		}
		sub->parent = frame->node;
		figure_add(&frame->below, &sub->total);
		frame->next++;
	}
	pop(walk);
	return walk->depth == 0;
}

/* Positive: done. */
static int run_slice(struct figure_walk *walk)
{
	double end = ev_time() + SLICE_S;
	int r;

	do {
		r = step(walk);
	} while (r == 0 && ev_time() < end);
	return r;
}

static void walk_free(struct figure_walk *walk)
{
	for (size_t i = 0; i < walk->depth; i++)
		free(walk->stack[i].subdirs);
	free(walk->stack);
	free(walk);
}

static void answer(struct figure_walk *walk, int r)
{
	char text[64];
	struct inode *inode;
	size_t len;

	if (walk->req == NULL)
		return;
	fuse_req_interrupt_func(walk->req, NULL, NULL);
	if (r >= 0)
		r = load_inode(walk->m, walk->node, &inode);
	if (r < 0) {
		request_done(walk->req, r);
		return;
	}
	see(&walk->result, inode_ctime(inode));
	len = walk->print(text, &walk->result);
	if (walk->size == 0)
		fuse_reply_xattr(walk->req, len);
	else if (walk->size < len)
		request_done(walk->req, -ERANGE);
	else
		fuse_reply_buf(walk->req, text, len);
}

/* One walk at a time goes on, the first; the others wait for it, and profit. */
static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct figure_walk *walk = timer->data;
	struct mountd *m = walk->m;
	int r;

	/* A handler is waiting with pointers into what a walk may make stored give away. */
	if (m->nested > 0)
		return;
	r = walk->req == NULL ? -EINTR : run_slice(walk);
	if (r == 0)
		return;
	ev_timer_stop(loop, timer);
	m->walk = walk->next;
	if (m->walk != NULL)
		ev_timer_start(loop, &m->walk->timer);
	answer(walk, r);
	walk_free(walk);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct figure_walk *walk = arg;

	walk->req = NULL;
	fuse_reply_err(req, EINTR);
}

static void park(struct mountd *m, struct figure_walk *walk)
{
	struct figure_walk **last = &m->walk;

	while (*last != NULL)
		last = &(*last)->next;
	*last = walk;
	ev_timer_init(&walk->timer, on_timer, 0.001, 0.001);
	walk->timer.data = walk;
	if (m->walk == walk)
		ev_timer_start(m->loop, &walk->timer);
	fuse_req_interrupt_func(walk->req, on_interrupt, walk);
}

void figure_walk_answer(
	fuse_req_t req, const struct inode *dir, figure_print_fn *print, size_t size)
{
	struct mountd *m = request_mountd(req);
	struct figure_dir *known = figures_find(m->figures, dir->oid);
	struct figure_walk *walk = calloc(1, sizeof(*walk));
	int r = 1;

	if (walk == NULL) {
		request_done(req, -ENOMEM);
		return;
	}
	*walk = (struct figure_walk){
		.m = m, .req = req, .node = dir->oid, .print = print, .size = size
	};
	if (dir->oid == AT_SNAP_DIR) {
		r = 1; /* what is below is no part of it */
	} else if (known != NULL && known->has_total) {
		walk->result = known->total;
	} else {
		if (figures_full(m->figures) && m->walk == NULL)
			figures_forget_all(m->figures);
		figures_expect(m->figures, walk->node, dir->parent);
		r = push(walk, walk->node);
		if (r == 0 && m->walk == NULL)
			r = run_slice(walk);
	}
	if (r == 0) {
		park(m, walk);
		return;
	}
	answer(walk, r);
	walk_free(walk);
}

void figure_walk_drop(struct mountd *m)
{
	for (struct figure_walk *walk = m->walk; walk != NULL; walk = walk->next)
		walk->req = NULL;
}

void figure_walk_changed(struct mountd *m, uint64_t node)
{
	const struct inode *inode;

	/* The root's own times are in nobody's figures. */
	if (node == TREE_ROOT)
		return;
	inode = inode_find_quietly(&m->inodes, node);
	if (inode != NULL)
		figures_touch_inode(m->figures, node, inode->parent, inode->nlink);
}

void figure_walk_linked(struct mountd *m, const struct inode *file, uint64_t dir)
{
	if (file->parent != 0)
		figures_note_link(m->figures, file->oid, file->parent);
	figures_note_link(m->figures, file->oid, dir);
}
