/* All of a recording as columns, in one pass over its pages.
 *
 * The pages of each CPU are read one after the other, the CPUs in the order of time; the last few records of each event wait until there is
 * a block of them and then give their fields, while they are in the cache.  Python has counted the records before (harken_recording_count)
 * and gives memory for that many; should the file have changed in between, no more than that is written. */
#include "columns.h"
#include "heap.h"
#include "ring.h"

#define SEEN 256 /* short texts that are remembered by their bytes */

enum { DONE, GROW, BROKEN };

struct seen {
	uint64_t low, high, number; /* plus 1 */
};

/* A field of texts. */
struct text {
	struct place place;
	struct texts texts;
	uint64_t room;       /* texts that fit into the two */
	uint32_t *numbers;   /* of each record's text */
	struct seen *seen;
};

/* An event and its columns, which have room for count records; starts and sizes only if they are asked for. */
struct kind {
	uint64_t *times;
	uint16_t *cpus;
	int64_t *starts;
	int64_t *sizes;
	const struct column *columns;
	uint64_t column_count;
	struct text *texts;
	uint64_t text_count;
	uint64_t count;
	uint64_t needs;      /* bytes that the fields take: records may be shorter */
	uint64_t done;       /* rows that are complete, */
	uint64_t waiting;    /* and those behind them of which only time and CPU are there */
	uint64_t least;      /* size of the shortest of these */
	int64_t waiting_starts[BLOCK];
	int64_t waiting_sizes[BLOCK];
};

/* The pages of a CPU, and the records of the one that is being read: room for as many as ring.h says. */
struct source {
	uint64_t next, stop, cpu;
	uint64_t *times;
	int64_t *starts;
	int64_t *sizes;
	uint16_t *types;
	uint64_t count, at;
};

struct recording {
	const uint8_t *data;
	uint64_t length;
	struct layout layout;
	struct source *sources;
	uint64_t source_count;
	uint32_t *heap;          /* sources that have records, that of the earliest first */
	uint64_t heap_size;
	const uint16_t *index;   /* event id -> number of its kind plus 1 */
	struct kind *kinds;
	uint64_t kind_count;
	struct text *full;       /* after GROW: whose texts need more room */
};

/* Reads on to the next page that has records; 0 at the end. */
static int next_page(const struct recording *recording, struct source *source)
{
	struct found found = { source->times, source->starts, source->sizes, source->types, 0, NULL, 0 };
	uint64_t lost[2];

	while (source->stop - source->next >= recording->layout.data && source->next < source->stop) {
		uint64_t size = source->stop - source->next, base = source->next;

		found.lost = lost;
		found.lost_count = 0;
		read_page(recording->data, source->stop, base, &recording->layout, &found);
		source->next += size < recording->layout.page_size ? size : recording->layout.page_size;
		source->at = 0;
		source->count = found.count;
		if (found.count)
			return 1;
	}
	return 0;
}

static int check(const struct recording *recording)
{
	uint64_t which;

	if (layout_check(&recording->layout))
		return -1;
	for (which = 0; which < recording->source_count; which++) {
		const struct source *source = &recording->sources[which];

		if (source->stop > recording->length || source->next > source->stop)
			return -1;
	}
	return 0;
}

/* Counts the records of each event: DONE, or BROKEN if the recording is none, or a CPU's records are not in the order of time.
 *
 * counts has 65,536 places; present as many, for the ids that were found, known for how many those are. */
EXPORT int harken_recording_count(struct recording *recording, uint64_t *counts, uint16_t *present, uint64_t *known)
{
	uint64_t which, at;

	if (check(recording))
		return BROKEN;
	for (which = 0; which < recording->source_count; which++) {
		struct source source = recording->sources[which];
		uint64_t latest = 0;

		while (next_page(recording, &source)) {
			for (at = 0; at < source.count; at++) {
				uint16_t type = source.types[at];

				if (source.times[at] < latest)
					return BROKEN;
				latest = source.times[at];
				if (!counts[type]++ && *known < 65536)
					present[(*known)++] = type;
			}
		}
	}
	return DONE;
}

/* The eight bytes of a text up to its first zero byte, and whether there is one. */
static uint64_t word_of(const uint8_t *text, int *ended)
{
	const uint64_t ones = 0x0101010101010101u;
	uint64_t word, zeros;

	memcpy(&word, text, 8);
	zeros = (word - ones) & ~word & (ones << 7); /* the lowest bit is that of the first zero byte */
	*ended = zeros != 0;
	return zeros ? word & (((zeros & -zeros) >> 7) - 1) : word;
}

/* The number of a text of up to sixteen bytes in a fixed place: the name of a task, nearly always one of a few. */
static uint32_t short_number(struct text *text, const uint8_t *buffer, uint64_t record)
{
	uint64_t start = record + text->place.offset, low, high = 0, size = 0;
	struct seen *seen;
	int ended;

	low = word_of(buffer + start, &ended);
	if (!ended)
		high = word_of(buffer + start + 8, &ended);
	seen = &text->seen[((low ^ high * 31) * 0x9E3779B97F4A7C15u >> 32) % SEEN];
	if (seen->number && seen->low == low && seen->high == high)
		return (uint32_t)seen->number - 1;
	text_of(buffer + record, text->place.offset + 16, &text->place, &size);
	seen->low = low;
	seen->high = high;
	seen->number = (uint64_t)number_of(&text->texts, buffer, start, size) + 1;
	return (uint32_t)seen->number - 1;
}

static void number_texts(const uint8_t *buffer, const struct kind *kind, struct text *text)
{
	int is_short = text->seen && !text->place.width && text->place.size == 16 && kind->least >= 16 && text->place.offset <= kind->least - 16;
	uint64_t at;

	for (at = 0; at < kind->waiting; at++) {
		uint64_t start = (uint64_t)kind->waiting_starts[at], from, size;
		uint32_t number;

		if (is_short) {
			number = short_number(text, buffer, start);
		} else {
			from = text_of(buffer + start, (uint64_t)kind->waiting_sizes[at], &text->place, &size);
			number = number_of(&text->texts, buffer, start + from, size);
		}
		text->numbers[kind->done + at] = number;
	}
}

/* Takes the fields of the records that wait; GROW, and nothing is changed, if there may be more texts than there is room for. */
static int flush(struct recording *recording, struct kind *kind)
{
	uint64_t which;

	for (which = 0; which < kind->text_count; which++) {
		struct text *text = &kind->texts[which];

		if (text->room - text->texts.count < kind->waiting) {
			recording->full = text;
			return GROW;
		}
	}
	if (kind->starts)
		memcpy(kind->starts + kind->done, kind->waiting_starts, 8 * kind->waiting);
	if (kind->sizes)
		memcpy(kind->sizes + kind->done, kind->waiting_sizes, 8 * kind->waiting);
	gather_fields(recording->data, kind->waiting_starts, kind->waiting_sizes, kind->waiting, kind->least >= kind->needs, kind->columns,
		      kind->column_count, kind->done);
	for (which = 0; which < kind->text_count; which++)
		number_texts(recording->data, kind, &kind->texts[which]);
	kind->done += kind->waiting;
	kind->waiting = 0;
	kind->least = UINT64_MAX;
	return DONE;
}

/* Adds the record that a source has come to; what flush says if that is not possible yet. */
static int add(struct recording *recording, const struct source *source)
{
	uint16_t number = recording->index[source->types[source->at]];
	struct kind *kind;
	uint64_t row, size = (uint64_t)source->sizes[source->at];

	if (!number)
		return DONE;
	if (number > recording->kind_count)
		return BROKEN;
	kind = &recording->kinds[number - 1];
	if (kind->waiting == BLOCK && flush(recording, kind))
		return GROW;
	row = kind->done + kind->waiting;
	if (row >= kind->count)
		return BROKEN;
	kind->times[row] = source->times[source->at];
	kind->cpus[row] = (uint16_t)source->cpu;
	kind->waiting_starts[kind->waiting] = source->starts[source->at];
	kind->waiting_sizes[kind->waiting++] = (int64_t)size;
	if (kind->least > size)
		kind->least = size;
	return DONE;
}

static int sooner(const void *all, uint32_t one, uint32_t two)
{
	const struct source *sources = all;
	uint64_t a = sources[one].times[sources[one].at], b = sources[two].times[sources[two].at];

	return a < b || (a == b && one < two);
}

/* Adds the records of the earliest source up to where another one is earlier. */
static int run(struct recording *recording)
{
	uint32_t *heap = recording->heap;
	struct source *source = &recording->sources[heap[0]];
	uint64_t size = recording->heap_size, last = UINT64_MAX;
	int result;

	if (size > 1) {
		uint32_t other = size > 2 && sooner(recording->sources, heap[2], heap[1]) ? heap[2] : heap[1];

		last = recording->sources[other].times[recording->sources[other].at] - (other < heap[0]);
	}
	do {
		result = add(recording, source);
		if (result)
			return result;
		if (++source->at == source->count && !next_page(recording, source)) {
			heap[0] = heap[--recording->heap_size];
			break;
		}
	} while (source->times[source->at] <= last);
	heap_settle(heap, recording->heap_size, 0, sooner, recording->sources);
	return DONE;
}

/* Begins; heap has room for all sources.  DONE, or BROKEN if the recording contradicts itself. */
EXPORT int harken_recording_begin(struct recording *recording)
{
	uint64_t which;

	if (check(recording))
		return BROKEN;
	recording->heap_size = 0;
	for (which = 0; which < recording->source_count; which++)
		if (next_page(recording, &recording->sources[which]))
			recording->heap[recording->heap_size++] = (uint32_t)which;
	for (which = recording->heap_size; which-- > 0;)
		heap_settle(recording->heap, recording->heap_size, which, sooner, recording->sources);
	for (which = 0; which < recording->kind_count; which++)
		recording->kinds[which].least = UINT64_MAX;
	return DONE;
}

/* Goes on: DONE at the end, GROW if a field's texts need more room, after which it is called again, or BROKEN. */
EXPORT int harken_recording_run(struct recording *recording)
{
	uint64_t which;
	int result = DONE;

	while (recording->heap_size && !result)
		result = run(recording);
	for (which = 0; which < recording->kind_count && !result; which++)
		result = flush(recording, &recording->kinds[which]);
	return result;
}

/* Puts a field's texts into larger memory: slots that are zero, and places for room of them; there are four times as many slots or more. */
EXPORT void harken_recording_grow(const struct recording *recording, uint32_t *slots, uint64_t slot_count, uint64_t *places, uint64_t room)
{
	struct text *text = recording->full;
	struct texts *texts = &text->texts;
	uint64_t count = texts->count, at;

	memcpy(places, texts->places, 16 * count);
	texts->slots = slots;
	texts->slot_count = slot_count;
	texts->places = places;
	for (at = 0; at < count; at++) {
		uint64_t slot = hash_of(recording->data + places[2 * at], places[2 * at + 1]) & (slot_count - 1);

		while (slots[slot])
			slot = (slot + 1) & (slot_count - 1);
		slots[slot] = (uint32_t)at + 1;
	}
	text->room = room;
}
