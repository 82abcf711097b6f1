/* Moves the pages of one CPU's ring buffer into a file until it is told to stop: the loop of a recorder's thread.
 *
 * kernel/ftrace_splice.py does the same in Python, which takes a few thousand instructions more from the kernel's wakeup to the first
 * page that is moved; a small buffer has little more time than that in a slow machine. */
#define _GNU_SOURCE
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* So many bytes of a CPU that is never done are told of at the latest. */
#define OFTEN (1 << 20)

static int failed(struct stream *stream, uint64_t side)
{
	stream->side = side;
	return -errno;
}

/* From the pipe into the file; 0, or an error. */
static int put(struct stream *stream, uint64_t left)
{
	while (left) {
		loff_t at = (loff_t)(stream->start + stream->size);
		ssize_t done = splice((int)stream->reader, NULL, (int)stream->target, &at, left, SPLICE_F_MOVE);

		if (done < 0 && errno == EINTR)
			continue;
		if (!done)
			errno = EIO;
		if (done <= 0)
			return failed(stream, 1);
		stream->size += (uint64_t)done;
		left -= (uint64_t)done;
	}
	return 0;
}

/* Takes more at a time from a buffer that has much. */
static void enlarge(struct stream *stream)
{
	int size = fcntl((int)stream->reader, F_SETPIPE_SZ, 1 << 20);

	stream->room = size > 0 ? (uint64_t)size : stream->room - 1;  /* not asked for again */
}

/* Gives back the room of all but the last bytes that are to be kept, and says in the file's table what is there. */
static int tell(struct stream *stream)
{
	uint64_t words[2];

	if (stream->keep && stream->size > stream->keep) {
		uint64_t gone = (stream->size - stream->keep) / stream->page * stream->page;

		if (gone - stream->gone >= (stream->keep / 4 > 1 << 20 ? stream->keep / 4 : 1 << 20)) {
			/* a file system without holes keeps what it has */
			(void)!fallocate((int)stream->target, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (loff_t)(stream->start + stream->gone),
					 (loff_t)(gone - stream->gone));
			stream->gone = gone;
		}
	}
	words[0] = stream->start + stream->gone;
	words[1] = stream->size - stream->gone;
	if (pwrite((int)stream->target, words, sizeof(words), (loff_t)stream->table) != sizeof(words))
		return failed(stream, 1);
	return 0;
}

/* All full pages: how many bytes were moved, or an error. */
static int64_t drain(struct stream *stream)
{
	uint64_t before = stream->size, told = before;

	for (;;) {
		ssize_t found = splice((int)stream->raw, NULL, (int)stream->writer, NULL, stream->room,
				        SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		int wrong;

		if (found < 0 && errno == EINTR)
			continue;
		if (found < 0 && errno != EAGAIN)
			return failed(stream, 0);
		if (found <= 0)
			break;
		wrong = put(stream, (uint64_t)found);
		if (!wrong && stream->size - told >= OFTEN) {  /* whoever kills harken now finds it in the file */
			wrong = tell(stream);
			told = stream->size;
		}
		if (wrong)
			return wrong;
		if ((uint64_t)found + stream->page <= stream->room)  /* there was no more; who asks again gets little for another call */
			break;
		if (stream->room == 1 << 16)
			enlarge(stream);
	}
	return (int64_t)(stream->size - before);
}

/* Lets this thread run as soon as it is woken, if the scheduler takes wishes of that kind (since Linux 6.12): a task that asks for short
 * turns need not wait until others have had theirs, in which a small buffer is full twice.  Its nice value is not enough for that since 6.6. */
static void hurry(void)
{
#ifdef SYS_sched_setattr
	struct {  /* struct sched_attr of linux/sched/types.h */
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} wish = {sizeof(wish), SCHED_OTHER, 0, 0, 0, 100000, 0, 0};

	if (sched_getscheduler(0) != SCHED_OTHER)  /* it is a real-time task: who asked for that has a reason */
		return;
	wish.nice = getpriority(PRIO_PROCESS, 0);
	(void)!syscall(SYS_sched_setattr, 0, &wish, 0);
#endif
}

/* Returns 0 when it was told to stop, else minus the number of an error. */
EXPORT int harken_record(struct stream *stream)
{
	struct pollfd watched[2] = {{(int)stream->raw, POLLIN, 0}, {(int)stream->ended, POLLIN, 0}};

	if (!stream->page || !stream->room)
		return -EINVAL;
	hurry();
	for (;;) {
		int64_t moved = drain(stream);

		if (moved > 0)
			moved = tell(stream);
		if (moved < 0)
			return (int)moved;
		if (stream->ready) {
			(void)!write((int)stream->ready, "x", 1);
			stream->ready = 0;
		}
		watched[1].revents = 0;
		/* the kernel wakes a reader when the buffer is half full (buffer_percent); slow streams are looked at in every interval */
		if (poll(watched, 2, (int)stream->interval) < 0 && errno != EINTR)
			return failed(stream, 0);
		if (watched[1].revents)
			return 0;
	}
}
