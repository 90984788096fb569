#include "supervisor/child.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/work.gen.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

/* The generated handlers' view of us. */
struct work_client {
	struct child child;
};

/* The log pipe: lines of the worker, before its channel is up and from its libraries. */

static void log_line(struct child *c)
{
	c->line[c->line_len] = '\0';
	if (c->line_len) {
		snprintf(c->last_line, sizeof(c->last_line), "%.199s", c->line);
		log_info("%s", c->line);
	}
	c->line_len = 0;
}

void child_log_read(struct child *c)
{
	char buf[1024];
	ssize_t n;

	while ((n = read(c->log.fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] == '\n' || c->line_len == sizeof(c->line) - 1)
				log_line(c);
			if (buf[i] != '\n')
				c->line[c->line_len++] = buf[i];
		}
	if (n == 0)
		ev_io_stop(c->supervisor->loop, &c->log);
}

void child_on_log(struct ev_loop *loop, struct ev_io *w, int events)
{
	child_log_read(w->data);
}

void on_work_log(struct work_client *self, const struct work_log *msg)
{
	struct child *c = &self->child;

	if (msg->level <= LOG_LEVEL_WARN)
		snprintf(c->last_line, sizeof(c->last_line), "%.199s", msg->text);
	log_at(msg->level <= LOG_LEVEL_ERROR ? LOG_LEVEL_ERROR : (enum log_level)msg->level,
		"%s: %s", c->role->name, msg->text);
}
