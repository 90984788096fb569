#include "dialer/resolve.h"

#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct question {
	struct question *next;
	char *host, *port;
	resolved_fn *fn;
	void *arg;
	int err;
	struct addrinfo *list;
};

struct queue {
	struct question *first, **end;
};

struct resolver {
	struct ev_loop *loop;
	struct ev_async answered;
	pthread_mutex_t lock; /* both queues */
	pthread_cond_t asked;
	struct queue questions, answers;
};

static void push(struct queue *q, struct question *item)
{
	item->next = NULL;
	*q->end = item;
	q->end = &item->next;
}

static struct question *pop(struct queue *q)
{
	struct question *item = q->first;

	if (item) {
		q->first = item->next;
		if (!q->first)
			q->end = &q->first;
	}
	return item;
}

static void *run(void *arg)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV };
	struct resolver *r = arg;

	for (;;) {
		struct question *q;

		pthread_mutex_lock(&r->lock);
		while (!(q = pop(&r->questions)))
			pthread_cond_wait(&r->asked, &r->lock);
		pthread_mutex_unlock(&r->lock);
		q->err = getaddrinfo(q->host, q->port, &hints, &q->list);
		/* AI_ADDRCONFIG does not count loopback: a host without a network still has it. */
		if (q->err == EAI_NONAME || q->err == EAI_ADDRFAMILY || q->err == EAI_NODATA) {
			struct addrinfo numeric = hints;

			numeric.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
			if (getaddrinfo(q->host, q->port, &numeric, &q->list) == 0)
				q->err = 0;
		}
		pthread_mutex_lock(&r->lock);
		push(&r->answers, q);
		pthread_mutex_unlock(&r->lock);
		ev_async_send(r->loop, &r->answered);
	}
	return NULL;
}

static void free_question(struct question *q)
{
	free(q->host);
	free(q->port);
	free(q);
}

static void on_answered(struct ev_loop *loop, struct ev_async *w, int revents)
{
	struct resolver *r = w->data;

	for (;;) {
		struct question *q;

		pthread_mutex_lock(&r->lock);
		q = pop(&r->answers);
		pthread_mutex_unlock(&r->lock);
		if (!q)
			return;
		q->fn(q->arg, q->err, q->list);
		free_question(q);
	}
}

int resolver_start(struct resolver **ret, struct ev_loop *loop)
{
	struct resolver *r = calloc(1, sizeof(*r));
	sigset_t all, before;
	pthread_t thread;
	int err;

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->questions.end = &r->questions.first;
	r->answers.end = &r->answers.first;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->asked, NULL);
	ev_async_init(&r->answered, on_answered);
	r->answered.data = r;
	ev_async_start(loop, &r->answered);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, NULL, run, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		ev_async_stop(loop, &r->answered);
		free(r);
		return -err;
	}
	pthread_detach(thread);
	*ret = r;
	return 0;
}

int resolver_ask(struct resolver *r, const char *host, const char *port, resolved_fn *fn, void *arg)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->host = strdup(host);
	q->port = strdup(port);
	q->fn = fn;
	q->arg = arg;
	if (!q->host || !q->port) {
		free_question(q);
		return -ENOMEM;
	}
	pthread_mutex_lock(&r->lock);
	push(&r->questions, q);
	pthread_cond_signal(&r->asked);
	pthread_mutex_unlock(&r->lock);
	return 0;
}
