/* Fields of records as columns: what is done to a few records at once, while they are in the cache. */
#ifndef HARKEN_COLUMNS_H
#define HARKEN_COLUMNS_H

#include <string.h>
#include "table.h"

/* So many records' fields are taken one field after the other. */
#define BLOCK 64

/* A field of numbers: width bytes of each record into out; zeros for records that are too short. */
struct column {
	uint64_t offset, width;
	uint8_t *out;
};

#define EACH(width) \
	for (at = 0; at < count; at++) \
		memcpy(out + at * (width), buffer + starts[at] + offset, width); \
	break

/* One field of records that all have it, from a row on. */
static inline void gather_block(const uint8_t *buffer, const int64_t *starts, uint64_t count, const struct column *column, uint64_t row)
{
	uint64_t at, offset = column->offset, width = column->width;
	uint8_t *out = column->out + row * width;

	switch (width) { /* of a known width a copy is one move */
	case 1: EACH(1);
	case 2: EACH(2);
	case 4: EACH(4);
	case 8: EACH(8);
	case 48: EACH(48); /* the arguments of a system call */
	default: EACH(width);
	}
}

#undef EACH

/* One field of one record, which may lack it. */
static inline void gather_one(const uint8_t *record, uint64_t room, const struct column *column, uint64_t row)
{
	uint8_t *out = column->out + row * column->width;

	if (column->offset > room || column->width > room - column->offset)
		memset(out, 0, column->width);
	else
		memcpy(out, record + column->offset, column->width);
}

/* Some fields of a block of records that are all in the buffer; whole: none of them is too short. */
static inline void gather_fields(const uint8_t *buffer, const int64_t *starts, const int64_t *sizes, uint64_t count, int whole,
				 const struct column *columns, uint64_t column_count, uint64_t row)
{
	uint64_t at, which;

	for (which = 0; which < column_count && whole; which++)
		gather_block(buffer, starts, count, &columns[which], row);
	for (at = 0; at < count && !whole; at++)
		for (which = 0; which < column_count; which++)
			gather_one(buffer + starts[at], (uint64_t)sizes[at], &columns[which], row + at);
}

/* Where a text is in a record: at a fixed place, or where a number (__data_loc, __rel_loc) says. */
struct place {
	uint64_t offset, size;
	uint64_t width;  /* bytes of the number: 2 or 4; 0 for a fixed place */
	uint64_t base;   /* what the number counts from */
};

/* The different texts of a field. */
struct texts {
	uint32_t *slots;     /* number of the text plus 1; zero at first; more than twice as many as there are texts, a power of two */
	uint64_t slot_count;
	uint64_t *places;    /* of each text: where in the buffer, and its size */
	uint64_t count;
};

static inline uint32_t number_of(struct texts *texts, const uint8_t *buffer, uint64_t start, uint64_t size)
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
static inline uint64_t text_of(const uint8_t *record, uint64_t room, const struct place *place, uint64_t *size)
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

#endif
