/* Records as columns: sorted by events, their integers, and their texts as numbers of the different ones. */
#include "columns.h"

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
	uint8_t key[12] = { 0 };
	uint64_t found = 0;

	memcpy(key, &memo, 4);
	for (; *at < records->count && found < room; ++*at) {
		uint64_t start = (uint64_t)records->starts[*at], size = (uint64_t)records->sizes[*at];
		const struct entry *entry;
		uint32_t number;

		if (records->types[*at] != type || start > length || size > length - start || size < 4 || offset > size - 4)
			continue;
		memcpy(key + 4, buffer + start + offset, 4);
		memcpy(&number, key + 4, 4);
		if (known_find(table, memo, number))
			continue;
		entry = table_find(table, key, sizeof(key));
		if (entry) {
			known_put(table, memo, number, entry);
			continue;
		}
		if (harken_table_put(table, key, sizeof(key), key, 0, 0))
			break;
		news[found++] = *at;
	}
	return found;
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
		gather_fields(buffer, starts + from, sizes + from, to - from, whole, columns, column_count, from);
	}
	return 0;
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
