#include "ipc/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (64u << 10)

static uint64_t seed;

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

struct pair {
	int fd;
	struct ipc_ring *in, *out;
};

static void pair_init(struct pair *p)
{
	assert_int_equal(ipc_ring_create(SIZE, &p->fd), 0);
	assert_int_equal(ipc_ring_map(&p->in, p->fd, IPC_RING_PRODUCER), 0);
	assert_int_equal(ipc_ring_map(&p->out, p->fd, IPC_RING_CONSUMER), 0);
}

static void pair_release(struct pair *p)
{
	ipc_ring_unmap(p->in);
	ipc_ring_unmap(p->out);
	close(p->fd);
}

/* Entry n of the test stream: type n, a length that follows from n, bytes that follow from n. */
static uint32_t stream_len(uint32_t n)
{
	return (n * 2654435761u >> 7) % 3000;
}

static bool stream_write(struct ipc_ring *ring, uint32_t n)
{
	uint8_t *room = ipc_ring_reserve(ring, stream_len(n));

	if (!room)
		return false;
	memset(room, (int)(n & 0xff), stream_len(n));
	ipc_ring_stage(ring, n, stream_len(n));
	return true;
}

static bool stream_check(uint32_t n, uint32_t type, const void *data, uint32_t len)
{
	const uint8_t *p = data;

	if (type != n || len != stream_len(n))
		return false;
	return len == 0 ||
	       (p[0] == (uint8_t)n && p[len / 2] == (uint8_t)n && p[len - 1] == (uint8_t)n);
}

static void ring__delivers_in_order_across_the_end(void **state)
{
	uint64_t random = seed, end;
	uint32_t in = 0, out = 0, type, len;
	const void *data;
	struct pair p;

	pair_init(&p);
	while (out < 20000) {
		for (uint64_t k = next_random(&random) % 30;
			k && in < 20000 && stream_write(p.in, in); k--)
			in++;
		ipc_ring_commit(p.in);
		for (uint64_t k = next_random(&random) % 30; k; k--) {
			if (ipc_ring_peek(p.out, &end, &type, &data, &len) == 0)
				break;
			assert_true(stream_check(out++, type, data, len));
			ipc_ring_release(p.out, end);
		}
	}
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 0);
	assert_int_equal(ipc_ring_head(p.in), ipc_ring_tail(p.in));
	pair_release(&p);
}

static void ring__is_full_and_empty_exactly(void **state)
{
	uint64_t end;
	uint32_t type, len, n = 0;
	const void *data;
	struct pair p;

	pair_init(&p);
	assert_null(ipc_ring_reserve(p.in, SIZE));
	assert_null(ipc_ring_reserve(p.in, SIZE - 7));
	assert_null(ipc_ring_reserve(p.in, UINT32_MAX));
	assert_non_null(ipc_ring_reserve(p.in, SIZE - 8));
	while (ipc_ring_reserve(p.in, 56)) {
		ipc_ring_publish(p.in, 1, 56);
		n++;
	}
	assert_int_equal(n, SIZE / 64);
	assert_null(ipc_ring_reserve(p.in, 0));
	assert_int_equal(ipc_ring_append(p.in, 1, "x", 1), -EAGAIN);
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 1);
	ipc_ring_release(p.out, end);
	assert_non_null(ipc_ring_reserve(p.in, 56));
	assert_null(ipc_ring_reserve(p.in, 57));
	pair_release(&p);
}

static void ring__shows_a_batch_at_once(void **state)
{
	uint64_t end, head;
	uint32_t type, len;
	const void *data;
	struct pair p;

	pair_init(&p);
	head = ipc_ring_head(p.in);
	for (uint32_t n = 0; n < 5; n++)
		assert_int_equal(ipc_ring_append(p.in, n, &n, 4), 0);
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 0);
	assert_int_equal(ipc_ring_head(p.out), head);
	ipc_ring_abort(p.in);
	ipc_ring_commit(p.in);
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 0);
	for (uint32_t n = 0; n < 5; n++)
		assert_int_equal(ipc_ring_append(p.in, n, &n, 4), 0);
	assert_int_equal(ipc_ring_commit(p.in), head + 5 * ipc_ring_entry_size(4));
	end = ipc_ring_tail(p.out);
	for (uint32_t n = 0; n < 5; n++) {
		assert_int_equal(ipc_ring_peek_at(p.out, end, &end, &type, &data, &len), 1);
		assert_int_equal(type, n);
		assert_int_equal(*(const uint32_t *)data, n);
	}
	assert_int_equal(ipc_ring_peek_at(p.out, end, &end, &type, &data, &len), 0);
	assert_int_equal(ipc_ring_peek_at(p.out, end + 8, &end, &type, &data, &len), -EINVAL);
	assert_int_equal(ipc_ring_peek_at(p.out, end - 1, &end, &type, &data, &len), -EINVAL);
	/* Nothing was released: all is seen again, by a new consumer too. */
	struct ipc_ring *other;
	assert_int_equal(ipc_ring_map(&other, p.fd, IPC_RING_CONSUMER), 0);
	assert_int_equal(ipc_ring_peek(other, &end, &type, &data, &len), 1);
	assert_int_equal(type, 0);
	ipc_ring_release(other, ipc_ring_head(other));
	assert_int_equal(ipc_ring_peek(other, &end, &type, &data, &len), 0);
	ipc_ring_unmap(other);
	pair_release(&p);
}

static void ring__refuses_what_a_producer_makes_up(void **state)
{
	uint64_t end;
	uint32_t type, len;
	const void *data;
	struct ipc_ring *again;
	struct pair p;
	uint8_t *raw;

	pair_init(&p);
	raw = mmap(NULL, (64 << 10) + SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	assert_ptr_not_equal(raw, MAP_FAILED);
	ipc_ring_append(p.in, 1, "abc", 3);
	ipc_ring_commit(p.in);
	/* A length beyond the head. */
	*(uint32_t *)(raw + (64 << 10)) = 9;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), -EBADMSG);
	*(uint32_t *)(raw + (64 << 10)) = UINT32_MAX;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), -EBADMSG);
	*(uint32_t *)(raw + (64 << 10)) = 3;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 1);
	/* A head that is further than the ring is long, behind the tail, or odd. */
	*(uint64_t *)(raw + 64) = SIZE + 8;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), -EBADMSG);
	*(uint64_t *)(raw + 64) = (uint64_t)-8;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), -EBADMSG);
	*(uint64_t *)(raw + 64) = 15;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), -EBADMSG);
	assert_int_equal(ipc_ring_map(&again, p.fd, IPC_RING_CONSUMER), -EBADMSG);
	*(uint64_t *)(raw + 64) = 16;
	/* A tail moved by others does not move the consumer. */
	*(uint64_t *)(raw + 128) = 16;
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 1);
	*(uint64_t *)(raw + 128) = 24;
	assert_null(ipc_ring_reserve(p.in, 8));
	*(uint64_t *)(raw + 128) = 0;
	*(uint32_t *)(raw + 8) = 2;
	assert_int_equal(ipc_ring_map(&again, p.fd, IPC_RING_CONSUMER), -EPROTONOSUPPORT);
	raw[0] ^= 1;
	assert_int_equal(ipc_ring_map(&again, p.fd, IPC_RING_CONSUMER), -EBADMSG);
	munmap(raw, (64 << 10) + SIZE);
	pair_release(&p);
}

static void ring__accepts_only_sealed_memory_of_the_right_size(void **state)
{
	struct ipc_ring *ring;
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), good;

	assert_int_equal(ipc_ring_create(SIZE, &good), 0);
	assert_int_equal(ftruncate(good, 100), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, (64 << 10) + SIZE), 0);
	assert_int_equal(ipc_ring_map(&ring, fd, IPC_RING_CONSUMER), -EBADMSG);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	/* Zeros: no magic. */
	assert_int_equal(ipc_ring_map(&ring, fd, IPC_RING_CONSUMER), -EBADMSG);
	close(fd);
	assert_int_equal(ipc_ring_create(SIZE + 1, &fd), -EINVAL);
	assert_int_equal(ipc_ring_create(1000, &fd), -EINVAL);
	assert_int_equal(ipc_ring_create((size_t)1 << 40, &fd), -EINVAL);
	close(good);
}

static void ring__kicks_only_who_sleeps_and_once(void **state)
{
	uint64_t end;
	uint32_t type, len;
	const void *data;
	struct pair p;

	pair_init(&p);
	ipc_ring_append(p.in, 1, "a", 1);
	ipc_ring_commit(p.in);
	assert_false(ipc_ring_must_kick(p.in));
	ipc_ring_sleep_begin(p.out);
	assert_true(ipc_ring_must_kick(p.in));
	assert_false(ipc_ring_must_kick(p.in));
	ipc_ring_sleep_begin(p.out);
	ipc_ring_sleep_end(p.out);
	assert_false(ipc_ring_must_kick(p.in));
	/* Towards the producer. */
	assert_int_equal(ipc_ring_peek(p.out, &end, &type, &data, &len), 1);
	ipc_ring_sleep_begin(p.in);
	ipc_ring_release(p.out, end);
	assert_true(ipc_ring_must_kick(p.out));
	assert_false(ipc_ring_must_kick(p.out));
	/* A flag left by a dead one is gone with its successor. */
	ipc_ring_sleep_begin(p.out);
	ipc_ring_unmap(p.out);
	assert_int_equal(ipc_ring_map(&p.out, p.fd, IPC_RING_CONSUMER), 0);
	assert_false(ipc_ring_must_kick(p.in));
	memset(ipc_ring_user(p.in), 7, IPC_RING_USER_SIZE);
	assert_int_equal(((uint8_t *)ipc_ring_user(p.out))[255], 7);
	pair_release(&p);
}

static void wait_for(int event)
{
	struct pollfd pfd = { .fd = event, .events = POLLIN };
	uint64_t v;

	/* A lost wake-up would wait for the whole time: the test fails by it. */
	assert_int_equal(poll(&pfd, 1, 20000), 1);
	assert_int_equal(read(event, &v, 8), 8);
}

static void kick(int event)
{
	const uint64_t one = 1;

	assert_int_equal(write(event, &one, 8), 8);
}

struct race {
	struct pair p;
	int data_event, room_event;
	uint32_t count;
};

static void *produce(void *arg)
{
	struct race *race = arg;
	struct ipc_ring *ring = race->p.in;

	for (uint32_t n = 0; n < race->count; n++) {
		while (!stream_write(ring, n)) {
			ipc_ring_sleep_begin(ring);
			if (!ipc_ring_reserve(ring, stream_len(n)))
				wait_for(race->room_event);
			ipc_ring_sleep_end(ring);
		}
		ipc_ring_commit(ring);
		if (ipc_ring_must_kick(ring))
			kick(race->data_event);
	}
	return NULL;
}

static uint32_t consume(struct race *race)
{
	struct ipc_ring *ring = race->p.out;
	uint32_t bad = 0, type, len;
	const void *data;
	uint64_t end;

	for (uint32_t n = 0; n < race->count; n++) {
		while (ipc_ring_peek(ring, &end, &type, &data, &len) == 0) {
			ipc_ring_sleep_begin(ring);
			if (ipc_ring_peek(ring, &end, &type, &data, &len) == 0)
				wait_for(race->data_event);
			ipc_ring_sleep_end(ring);
		}
		bad += !stream_check(n, type, data, len);
		ipc_ring_release(ring, end);
		if (ipc_ring_must_kick(ring))
			kick(race->room_event);
	}
	return bad;
}

static void race_init(struct race *race, uint32_t count)
{
	pair_init(&race->p);
	race->data_event = eventfd(0, EFD_CLOEXEC);
	race->room_event = eventfd(0, EFD_CLOEXEC);
	race->count = count;
}

static void race_release(struct race *race)
{
	close(race->data_event);
	close(race->room_event);
	pair_release(&race->p);
}

static void ring__loses_no_wakeup_between_threads(void **state)
{
	struct race race;
	pthread_t thread;

	race_init(&race, 200000);
	pthread_create(&thread, NULL, produce, &race);
	assert_int_equal(consume(&race), 0);
	pthread_join(thread, NULL);
	race_release(&race);
}

static void ring__loses_no_wakeup_between_processes(void **state)
{
	struct race race;
	int status;
	pid_t pid;

	race_init(&race, 200000);
	pid = fork();
	if (pid == 0) {
		produce(&race);
		_exit(0);
	}
	assert_int_equal(consume(&race), 0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	race_release(&race);
}

/*
 * The stream goes on where it was, over many deaths of the producer. What comes next is known from
 * the ring alone: a new producer counts on from the user area, where its predecessor noted, before
 * each commit, the position and number that it is about to reach.
 */
struct notes {
	_Atomic uint64_t position[2];
	_Atomic uint32_t next[2];
};

static void produce_until_killed(int fd)
{
	struct ipc_ring *ring;
	struct notes *notes;
	uint64_t random = seed + 1;
	uint32_t n = 0;

	if (ipc_ring_map(&ring, fd, IPC_RING_PRODUCER) < 0)
		_exit(3);
	notes = ipc_ring_user(ring);
	/* Of the two notes the one that is at the head is true. */
	for (int i = 0; i < 2; i++) {
		if (notes->position[i] == ipc_ring_head(ring))
			n = notes->next[i];
	}
	for (unsigned slot = 0;; slot++) {
		uint32_t before = n;
		for (uint64_t k = 1 + next_random(&random) % 4; k && stream_write(ring, n); k--)
			n++;
		if (n == before)
			continue;
		/* The slot that is not the one of the present head. */
		int other = notes->position[0] == ipc_ring_head(ring);
		uint64_t end = ipc_ring_head(ring);
		for (uint32_t i = before; i < n; i++)
			end += ipc_ring_entry_size(stream_len(i));
		notes->position[other] = UINT64_MAX;
		notes->next[other] = n;
		notes->position[other] = end;
		ipc_ring_commit(ring);
	}
}

static void ring__goes_on_after_a_killed_producer(void **state)
{
	uint64_t random = seed + 2, end;
	uint32_t n = 0, type, len;
	const void *data;
	struct pair p;

	pair_init(&p);
	for (unsigned life = 0; life < 150; life++) {
		struct timespec t0, t;
		long run_ns = (long)(next_random(&random) % 3000000);
		pid_t pid = fork();
		if (pid == 0)
			produce_until_killed(p.fd);
		clock_gettime(CLOCK_MONOTONIC, &t0);
		do {
			while (ipc_ring_peek(p.out, &end, &type, &data, &len) == 1) {
				assert_true(stream_check(n, type, data, len));
				n++;
				ipc_ring_release(p.out, end);
			}
			clock_gettime(CLOCK_MONOTONIC, &t);
		} while ((t.tv_sec - t0.tv_sec) * 1000000000 + t.tv_nsec - t0.tv_nsec < run_ns);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	while (ipc_ring_peek(p.out, &end, &type, &data, &len) == 1) {
		assert_true(stream_check(n++, type, data, len));
		ipc_ring_release(p.out, end);
	}
	print_message("%u entries over 150 lives\n", n);
	assert_true(n > 100);
	pair_release(&p);
}

/* Counts what it has seen in the user area; what it had not released its successor sees again. */
static void consume_until_killed(int fd)
{
	_Atomic uint32_t *seen;
	struct ipc_ring *ring;
	uint64_t end;
	uint32_t type, len;
	const void *data;

	if (ipc_ring_map(&ring, fd, IPC_RING_CONSUMER) < 0)
		_exit(3);
	seen = ipc_ring_user(ring);
	for (;;) {
		int r = ipc_ring_peek(ring, &end, &type, &data, &len);
		if (r == 0)
			continue;
		/* Either the next one, or one that was seen and not released. */
		if (r < 0 || !stream_check(type, type, data, len) ||
			(type != *seen && type + 1 != *seen))
			_exit(4);
		if (type == *seen)
			*seen = type + 1;
		ipc_ring_release(ring, end);
	}
}

static void ring__goes_on_after_a_killed_consumer(void **state)
{
	uint64_t random = seed + 3;
	uint32_t n = 0;
	struct pair p;

	pair_init(&p);
	for (unsigned life = 0; life < 150; life++) {
		struct timespec t0, t;
		long run_ns = (long)(next_random(&random) % 3000000);
		int status;
		pid_t pid = fork();
		if (pid == 0)
			consume_until_killed(p.fd);
		clock_gettime(CLOCK_MONOTONIC, &t0);
		do {
			if (stream_write(p.in, n)) {
				n++;
				ipc_ring_commit(p.in);
			}
			clock_gettime(CLOCK_MONOTONIC, &t);
		} while ((t.tv_sec - t0.tv_sec) * 1000000000 + t.tv_nsec - t0.tv_nsec < run_ns);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
	}
	print_message("%u entries over 150 lives\n", n);
	pair_release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring__delivers_in_order_across_the_end),
		cmocka_unit_test(ring__is_full_and_empty_exactly),
		cmocka_unit_test(ring__shows_a_batch_at_once),
		cmocka_unit_test(ring__refuses_what_a_producer_makes_up),
		cmocka_unit_test(ring__accepts_only_sealed_memory_of_the_right_size),
		cmocka_unit_test(ring__kicks_only_who_sleeps_and_once),
		cmocka_unit_test(ring__loses_no_wakeup_between_threads),
		cmocka_unit_test(ring__loses_no_wakeup_between_processes),
		cmocka_unit_test(ring__goes_on_after_a_killed_producer),
		cmocka_unit_test(ring__goes_on_after_a_killed_consumer),
	};
	const char *given = getenv("BAZIL_SEED");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	if (!seed)
		seed = 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
