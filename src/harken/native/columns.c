/* Records as columns: sorted by events, their integers, and their texts as numbers of the different ones. */
#include <string.h>
#include "table.h"

struct records {
	const uint64_t *times;
	const int64_t *starts;
	const int64_t *sizes;
	const uint16_t *types;
	uint64_t count;
};

/* Puts each event's records together.
 *
 * places has for each event id where its records begin in the columns that are made, or all ones for events that are left out; it is
 * changed.  room is how many records the columns hold.  0, or -1 if places are wrong. */
EXPORT int harken_split(const struct records *from, uint64_t *places, uint64_t *times, int64_t *starts, int64_t *sizes, uint64_t room)
{
	uint64_t at;

	for (at = 0; at < from->count; at++) {
		uint64_t place = places[from->types[at]];

		if (place == ~0ull)
			continue;
		if (place >= room)
			return -1;
		times[place] = from->times[at];
		starts[place] = from->starts[at];
		sizes[place] = from->sizes[at];
		places[from->types[at]]++;
	}
	return 0;
}

/* The indexes of an event's records, up to room of them. */
EXPORT uint64_t harken_places(const uint16_t *types, uint64_t count, uint16_t type, uint64_t *places, uint64_t room)
{
	uint64_t at, found = 0;

	for (at = 0; at < count && found < room; at++)
		if (types[at] == type)
			places[found++] = at;
	return found;
}

/* Finds records of an event whose number in a field was not met before.
 *
 * Numbers that were met are kept in the table, under the memo.  Goes on at *at, writes up to room indexes of records to news and gives how
 * many; *at stays in front of the end if there is more, or the table is full. */
EXPORT uint64_t harken_news(struct table *table, uint32_t memo, const uint8_t *buffer, uint64_t length, const struct records *records,
			    uint16_t type, uint64_t offset, uint64_t *at, uint64_t *news, uint64_t room)
{
	uint8_t key[8];
	uint64_t found = 0;

	memcpy(key, &memo, 4);
	for (; *at < records->count && found < room; ++*at) {
		uint64_t start = (uint64_t)records->starts[*at], size = (uint64_t)records->sizes[*at];

		if (records->types[*at] != type || start > length || size > length - start || size < 4 || offset > size - 4)
			continue;
		memcpy(key + 4, buffer + start + offset, 4);
		if (table_find(table, key, sizeof(key)))
			continue;
		if (harken_table_put(table, key, sizeof(key), key, 0, 0))
			break;
		news[found++] = *at;
	}
	return found;
}

/* A field of numbers: width bytes of each record into out; zeros for records that are too short. */
struct column {
	uint64_t offset, width;
	uint8_t *out;
};

static void gather_one(const uint8_t *record, uint64_t room, const struct column *column, uint64_t at)
{
	uint8_t *out = column->out + at * column->width;

	if (column->offset > room || column->width > room - column->offset) {
		memset(out, 0, column->width);
		return;
	}
	switch (column->width) { /* of a known width a copy is one move */
	case 1: memcpy(out, record + column->offset, 1); break;
	case 2: memcpy(out, record + column->offset, 2); break;
	case 4: memcpy(out, record + column->offset, 4); break;
	case 8: memcpy(out, record + column->offset, 8); break;
	case 48: memcpy(out, record + column->offset, 48); break; /* the arguments of a system call */
	default: memcpy(out, record + column->offset, column->width);
	}
}

/* Records of one event lie far apart: those that come next are fetched while others are read.  A wrong address is of no consequence. */
static inline void fetch(const uint8_t *buffer, const int64_t *starts, uint64_t count, uint64_t at)
{
	uintptr_t place;

	if (at >= count)
		return;
	place = (uintptr_t)buffer + (uintptr_t)starts[at];
	__builtin_prefetch((const void *)place);
	__builtin_prefetch((const void *)(place + 64));
}

/* So many records' fields are taken one field after the other, while the records are in the cache. */
#define BLOCK 64

#define EACH(width) \
	for (at = from; at < to; at++) \
		memcpy(out + at * (width), buffer + starts[at] + offset, width); \
	break

/* One field of records that all have it. */
static void gather_block(const uint8_t *buffer, const int64_t *starts, uint64_t from, uint64_t to, const struct column *column)
{
	uint8_t *out = column->out;
	uint64_t at, offset = column->offset, width = column->width;

	switch (width) { /* of a known width a copy is one move */
	case 1: EACH(1);
	case 2: EACH(2);
	case 4: EACH(4);
	case 8: EACH(8);
	default: EACH(width);
	}
}

/* Takes some fields out of records; 0, or -1 if a record is not in the buffer. */
EXPORT int harken_gather(const uint8_t *buffer, uint64_t length, const int64_t *starts, const int64_t *sizes, uint64_t count,
			 const struct column *columns, uint64_t column_count)
{
	uint64_t from, to, at, which, needs = 0;

	for (which = 0; which < column_count; which++) {
		const struct column *column = &columns[which];

		if (column->width > UINT32_MAX || column->offset > UINT32_MAX)
			return -1;
		if (needs < column->offset + column->width)
			needs = column->offset + column->width;
	}
	for (from = 0; from < count; from = to) {
		int whole = 1;

		to = count - from > BLOCK ? from + BLOCK : count;
		for (at = from; at < to; at++) {
			uint64_t start = (uint64_t)starts[at], size = (uint64_t)sizes[at];

			if (start > length || size > length - start)
				return -1;
			whole &= size >= needs;
			fetch(buffer, starts, count, at + BLOCK);
		}
		for (which = 0; which < column_count && whole; which++)
			gather_block(buffer, starts, from, to, &columns[which]);
		for (at = from; at < to && !whole; at++)
			for (which = 0; which < column_count; which++)
				gather_one(buffer + starts[at], (uint64_t)sizes[at], &columns[which], at);
	}
	return 0;
}

/* Records of one event and CPU, in the order of time. */
struct run {
	const uint64_t *times;
	const int64_t *starts;
	const int64_t *sizes;
	uint64_t count, at;
	int64_t shift;   /* is added to starts */
	uint64_t cpu;
};

static int sooner(const struct run *runs, uint32_t one, uint32_t two)
{
	uint64_t a = runs[one].times[runs[one].at], b = runs[two].times[runs[two].at];

	return a < b || (a == b && one < two);
}

static void settle(const struct run *runs, uint32_t *heap, uint64_t size, uint64_t at)
{
	for (;;) {
		uint64_t least = at, child = 2 * at + 1;
		uint32_t swap = heap[at];

		if (child < size && sooner(runs, heap[child], heap[least]))
			least = child;
		if (child + 1 < size && sooner(runs, heap[child + 1], heap[least]))
			least = child + 1;
		if (least == at)
			return;
		heap[at] = heap[least];
		heap[least] = swap;
		at = least;
	}
}

/* Puts runs together in the order of time, at equal times that of the lower run first.
 *
 * heap has room for run_count numbers, the columns for all records.  0, or -1 if a run is not in the order of time. */
EXPORT int harken_merge(struct run *runs, uint32_t run_count, uint32_t *heap, uint64_t *times, uint16_t *cpus, int64_t *starts, int64_t *sizes)
{
	uint64_t size = 0, at = 0;
	uint32_t which;

	for (which = 0; which < run_count; which++) {
		runs[which].at = 0;
		if (runs[which].count)
			heap[size++] = which;
	}
	for (at = size; at-- > 0;)
		settle(runs, heap, size, at);
	for (at = 0; size; at++) {
		struct run *run = &runs[heap[0]];
		uint64_t time = run->times[run->at];

		times[at] = time;
		cpus[at] = (uint16_t)run->cpu;
		starts[at] = run->starts[run->at] + run->shift;
		sizes[at] = run->sizes[run->at];
		if (++run->at == run->count)
			heap[0] = heap[--size];
		else if (run->times[run->at] < time)
			return -1;
		settle(runs, heap, size, 0);
	}
	return 0;
}

/* Where a text is in a record: at a fixed place, or where a number (__data_loc, __rel_loc) says. */
struct place {
	uint64_t offset, size;
	uint64_t width;  /* bytes of the number: 2 or 4; 0 for a fixed place */
	uint64_t base;   /* what the number counts from */
};

/* The different texts: room for as many as there are records. */
struct texts {
	uint32_t *slots;     /* number of the text plus 1; zero at first; more than twice as many as records, a power of two */
	uint64_t slot_count;
	uint64_t *places;    /* of each text: where in the buffer, and its size */
	uint64_t count;
};

static uint32_t number_of(struct texts *texts, const uint8_t *buffer, uint64_t start, uint64_t size)
{
	uint64_t slot = hash_of(buffer + start, size) & (texts->slot_count - 1);

	for (; texts->slots[slot]; slot = (slot + 1) & (texts->slot_count - 1)) {
		const uint64_t *place = &texts->places[2 * (uint64_t)(texts->slots[slot] - 1)];

		if (place[1] == size && !memcmp(buffer + place[0], buffer + start, size))
			return texts->slots[slot] - 1;
	}
	texts->places[2 * texts->count] = start;
	texts->places[2 * texts->count + 1] = size;
	texts->slots[slot] = (uint32_t)++texts->count;
	return (uint32_t)texts->count - 1;
}

/* The part of a record that a text is in, up to its first zero byte. */
static uint64_t text_of(const uint8_t *record, uint64_t room, const struct place *place, uint64_t *size)
{
	uint64_t start = place->offset, length = place->size;
	const uint8_t *end;

	if (place->width) {
		uint32_t where = 0;

		if (start <= room && place->width <= room - start)
			memcpy(&where, record + start, place->width);
		start = place->base + (where & 0xFFFF);
		length = where >> 16;
	}
	if (start > room)
		start = room;
	if (length > room - start)
		length = room - start;
	end = memchr(record + start, 0, length);
	*size = end ? (uint64_t)(end - record) - start : length;
	return start;
}

/* Numbers the texts of a field; 0, or -1 if a record is not in the buffer or the numbers do not fit. */
EXPORT int harken_texts(const uint8_t *buffer, uint64_t length, const int64_t *starts, const int64_t *sizes, uint64_t count,
			const struct place *place, struct texts *texts, uint32_t *numbers)
{
	uint64_t at;

	if (place->width > 4 || texts->slot_count <= count || texts->slot_count & (texts->slot_count - 1) || count >= UINT32_MAX)
		return -1;
	for (at = 0; at < count; at++) {
		uint64_t start = (uint64_t)starts[at], size = (uint64_t)sizes[at], from, used;

		if (start > length || size > length - start)
			return -1;
		fetch(buffer, starts, count, at + 12);
		from = text_of(buffer + start, size, place, &used);
		numbers[at] = number_of(texts, buffer, start + from, used);
	}
	return 0;
}
