#include "mountd/hidden.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mountd/figure_walk.h"
#include "mountd/inode.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"

#define NS_PER_S INT64_C(1000000000)

static size_t print_bytes(char ret[64], const struct figure *figure)
{
	return (size_t)snprintf(ret, 64, "%" PRIu64, figure->bytes);
}

static size_t print_files(char ret[64], const struct figure *figure)
{
	return (size_t)snprintf(ret, 64, "%" PRIu64, figure->files);
}

static size_t print_dirs(char ret[64], const struct figure *figure)
{
	return (size_t)snprintf(ret, 64, "%" PRIu64, figure->dirs);
}

static size_t print_newest(char ret[64], const struct figure *figure)
{
	return (size_t)snprintf(ret, 64, "%" PRId64 ".%09" PRId64, figure->newest / NS_PER_S,
		figure->newest % NS_PER_S);
}

static const struct {
	const char *name;
	figure_print_fn *print;
} figures[] = {
	{ "rbytes", print_bytes },
	{ "rfiles", print_files },
	{ "rdirs", print_dirs },
	{ "rctime", print_newest },
};

bool hidden_is_name(const char *name)
{
	return strncmp(name, HIDDEN_PREFIX, sizeof(HIDDEN_PREFIX) - 1) == 0;
}

static void reply(fuse_req_t req, int r, const char *text, size_t len, size_t size)
{
	if (r == 0 && size > 0 && len > size)
		r = -ERANGE;
	if (r < 0)
		request_done(req, r);
	else if (size == 0)
		fuse_reply_xattr(req, len);
	else
		fuse_reply_buf(req, text, len);
}

/* Of what is no directory: itself. */
static void reply_own(
	fuse_req_t req, const struct inode *inode, figure_print_fn *print, size_t size)
{
	struct figure figure = { .files = 1,
		.bytes = inode_is_file(inode) ? inode_size(inode) : 0,
		.newest = inode_ctime(inode) };
	char text[64];

	reply(req, 0, text, print(text, &figure), size);
}

static bool reply_figure(fuse_req_t req, struct inode *inode, const char *what, size_t size)
{
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		if (strcmp(figures[i].name, what) != 0)
			continue;
		if (inode_is_dir(inode))
			figure_walk_answer(req, inode, figures[i].print, size);
		else
			reply_own(req, inode, figures[i].print, size);
		return true;
	}
	return false;
}

void hidden_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct mountd *m = request_mountd(req);
	const char *what = name + sizeof(HIDDEN_PREFIX) - 1;
	struct inode *inode;
	char *text = NULL;
	size_t len = 0;
	int r = load_inode(m, ino, &inode);

	if (r == 0 && reply_figure(req, inode, what, size))
		return;
	if (r == 0) {
		inode->pins++;
		if (strcmp(what, "stat") == 0)
			r = hidden_stat(m, inode, &text, &len);
		else if (strcmp(what, "log") == 0)
			r = hidden_log(m, inode, NULL, &text, &len);
		else if (strncmp(what, "log.", 4) == 0 && what[4] != '\0')
			r = hidden_log(m, inode, what + 4, &text, &len);
		/* Paths lead through directories that not everybody may enter. */
		else if (strncmp(what, "path.", 5) == 0 && ino == FUSE_ROOT_ID &&
			 (fuse_req_ctx(req)->uid == 0 || fuse_req_ctx(req)->uid == m->uid))
			r = hidden_path(m, what + 5, &text, &len);
		else
			r = -ENODATA;
		inode->pins--;
	}
	reply(req, r, text, len, size);
	free(text);
}
