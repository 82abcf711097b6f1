/* The lines of ftrace's records of several CPUs in the order of time.
 *
 * Python gives the records (ring.c found them), a program for each event (program.c runs them) and a table of texts that it has made:
 * heads of lines by task, CPU and flags, names of functions, of flags.  What is not in the table ends the call with MISS; Python puts it in
 * and calls again.  Nothing of a line is kept that is not complete, so a call may end at any time and the next one begins with the line. */
#include "heap.h"
#include "text.h"

/* The record of a stream; 0, or BROKEN if it is not in its buffer. */
static int take(struct line *line, struct job *job, struct stream *stream, uint64_t at)
{
	uint64_t start = (uint64_t)stream->starts[at], size = (uint64_t)stream->sizes[at];

	if (start > stream->length || size > stream->length - start)
		return BROKEN;
	line->job = job;
	line->stream = stream;
	line->record = stream->buffer;
	line->length = stream->length;
	line->start = start;
	line->stop = start + size;
	line->time = stream->times[at];
	return 0;
}

static const struct event *event_of(const struct job *job, uint16_t type)
{
	uint16_t number = job->index[type];

	return number && number <= job->event_count ? &job->events[number - 1] : NULL;
}

/* Task, CPU and flags; a record that is too short for them has what lies behind it. */
static int put_head(struct line *line)
{
	struct piece piece;
	uint64_t word = 0, key;
	int result;

	if (line->length >= 8 && line->start <= line->length - 8)
		memcpy(&word, line->record + line->start, 8);
	key = (word >> 32) << 32 | (line->stream->number & 0xFFFF) << 16 | (word >> 16 & 0xFF) << 8 | (word >> 24 & 0xFF);
	result = find_number(line, 0, key, &piece);
	return result ? result : put_piece(line, &piece);
}

/* The lines that say what was lost before a record, from a mark on. */
static int put_marks(struct line *line, const struct stream *stream, uint64_t at, uint64_t *marks)
{
	const struct job *job = line->job;

	for (; *marks < stream->mark_count && stream->marks[*marks].index <= at; ++*marks) {
		const struct span *span = &stream->marks[*marks];

		if (span->start > job->foreign_size || span->size > job->foreign_size - span->start)
			return BROKEN;
		if (put(line, job->foreign + span->start, span->size))
			return FULL;
	}
	return 0;
}

/* Fills a short record up with zeros. */
static int fill_up(struct line *line, uint64_t needs)
{
	uint64_t size = line->stop - line->start;

	if (size >= needs)
		return 0;
	if (needs > line->job->scratch_size)
		return BROKEN;
	memcpy(line->job->scratch, line->record + line->start, size);
	memset(line->job->scratch + size, 0, needs - size);
	line->record = line->job->scratch;
	line->start = 0;
	line->stop = line->length = needs;
	return 0;
}

/* All of a line but the marks before it. */
static int put_line(struct line *line, const struct event *event, const struct line *leave)
{
	const struct job *job = line->job;
	uint8_t *text;
	int result = put_head(line);

	if (!result)
		result = put_literal(line, job->before, job->before_size);
	if (!result)
		result = put_time(line, line->time);
	if (!result)
		result = put_literal(line, job->after, job->after_size);
	text = line->at;
	if (!result && event->kind == KIND_TEXT)
		result = fill_up(line, event->needs);
	if (!result)
		result = run_program(line, event->program);
	if (!result && event->kind == KIND_ENTRY)
		result = put_entry(line, leave);
	else if (!result && event->kind == KIND_EXIT)
		result = put_exit(line);
	if (result)
		return result;
	if (event->ended && line->at > text && line->at[-1] == '\n')
		line->at--;
	return put(line, "\n", 1);
}

/* ---- the order of time: of records at the same time that of the lower stream comes first */

static int earlier(const void *all, uint32_t one, uint32_t two)
{
	const struct job *job = all;
	uint64_t a = job->streams[one].key, b = job->streams[two].key;

	return a < b || (a == b && one < two);
}

static void sink(struct job *job, uint64_t at)
{
	heap_settle(job->heap, job->heap_size, at, earlier, job);
}

/* Goes on behind the earliest record. */
static void advance(struct job *job)
{
	struct stream *stream = &job->streams[job->heap[0]];
	uint64_t marks = stream->mark_at;

	while (marks < stream->mark_count && stream->marks[marks].index <= stream->at)
		marks++;
	stream->mark_at = marks;
	if (++stream->at >= stream->count) {
		job->heap[0] = job->heap[--job->heap_size];
	} else if (stream->times[stream->at] > stream->key) {
		stream->key = stream->times[stream->at]; /* a record that is earlier than the one before it stays behind it */
	}
	if (job->heap_size)
		sink(job, 0);
}

/* The record behind the earliest one; NULL if there is none. */
static struct stream *second(const struct job *job, uint64_t *at)
{
	struct stream *first = &job->streams[job->heap[0]], *found = NULL;
	uint64_t place;

	for (place = 1; place < 3 && place < job->heap_size; place++) {
		struct stream *other = &job->streams[job->heap[place]];

		if (!found || earlier(job, job->heap[place], (uint32_t)(found - job->streams)))
			found = other;
	}
	*at = found ? found->at : 0;
	if (first->at + 1 < first->count) {
		uint64_t key = first->times[first->at + 1] > first->key ? first->times[first->at + 1] : first->key;

		if (!found || key < found->key || (key == found->key && first < found)) {
			*at = first->at + 1;
			return first;
		}
	}
	return found;
}

/* The return that ends the call of an entry in the very next record. */
static int find_leave(const struct line *entry, struct line *leave)
{
	struct job *job = entry->job;
	uint64_t at;
	struct stream *stream = second(job, &at);
	const struct event *event = stream ? event_of(job, stream->types[at]) : NULL;

	return event && event->kind == KIND_EXIT && !take(leave, job, stream, at) && same_call(entry, leave);
}

/* The earliest record's line, with that of its return if they are one. */
static int next_line(struct job *job)
{
	struct stream *stream = &job->streams[job->heap[0]];
	const struct event *event = event_of(job, stream->types[stream->at]);
	struct line line, leave;
	uint8_t *start;
	uint64_t marks = stream->mark_at;
	int both, result;

	if (!event || take(&line, job, stream, stream->at))
		return BROKEN;
	line.at = job->out + job->out_used;
	line.end = job->out + job->out_size;
	result = put_marks(&line, stream, stream->at, &marks);
	if (result)
		return result;
	start = line.at;
	both = event->kind == KIND_ENTRY && find_leave(&line, &leave);
	result = put_line(&line, event, both ? &leave : NULL);
	if (result == OMIT)
		line.at = start;
	else if (result)
		return result;
	if (both && leave.stream != stream)
		marks = leave.stream->mark_at;
	if (both && put_marks(&line, leave.stream, leave.stream->at + (leave.stream == stream), &marks))
		return FULL;
	job->out_used = (uint64_t)(line.at - job->out);
	if (event->kind == KIND_TEXT && stream->text_at < stream->text_count && stream->texts[stream->text_at].index == stream->at)
		stream->text_at++;
	advance(job);
	if (both)
		advance(job);
	return 0;
}

/* Puts the streams into their order; heap has room for all of them. */
EXPORT void harken_text_begin(struct job *job)
{
	uint64_t at;

	job->serial++;
	job->heap_size = 0;
	for (at = 0; at < job->stream_count; at++) {
		struct stream *stream = &job->streams[at];

		stream->at = stream->mark_at = stream->text_at = 0;
		if (stream->count) {
			stream->key = stream->times[0];
			job->heap[job->heap_size++] = (uint32_t)at;
		}
	}
	for (at = job->heap_size; at-- > 0;)
		sink(job, at);
}

/* Writes lines until an enum result says why not. */
EXPORT int harken_text_run(struct job *job)
{
	int result = DONE;

	while (job->heap_size && !result)
		result = next_line(job);
	return result;
}

/* The sizes of the structures, by which the caller knows that it means the same ones. */
EXPORT uint64_t harken_text_sizes(void)
{
	return sizeof(struct job) | sizeof(struct stream) << 16 | sizeof(struct table) << 32 | sizeof(struct graph) << 48;
}
