/* Where the records of a BTF type section are, of what kind each is, and where its name is in the strings.
 *
 * formats/btf_layout.py does the same in Python, and says what is wrong with a section that is refused here. */
#include "native.h"

#include <string.h>

#define KINDS 20

/* How many records there are, or -1 if the section is refused: an unknown kind, a record that is cut off, more records than there is room.
 * ``fixed`` and ``items``: for each kind the words behind the first three, and the words of each of its items. */
EXPORT int harken_btf_walk(const uint32_t *words, uint64_t count, const uint8_t fixed[KINDS], const uint8_t items[KINDS],
			   uint32_t *positions, uint8_t *kinds, uint64_t room)
{
	uint64_t position = 0, found = 0;

	while (position + 2 < count) {
		uint32_t info = words[position + 1], kind = info >> 24 & 0x1f;

		if (kind == 0 || kind >= KINDS || found == room || position > UINT32_MAX)
			return -1;
		positions[found] = (uint32_t)position;
		kinds[found++] = (uint8_t)kind;
		position += 3 + fixed[kind] + (uint64_t)items[kind] * (info & 0xffff);
	}
	return position == count ? (int)found : -1;
}

/* The word at each position; 0 if one lies outside. */
EXPORT int harken_btf_words(const uint32_t *words, uint64_t count, const uint32_t *positions, uint64_t found, uint32_t *values)
{
	for (uint64_t number = 0; number < found; number++) {
		if (positions[number] >= count)
			return 0;
		values[number] = words[positions[number]];
	}
	return 1;
}

/* Looking for many names at once. */

struct wanted {
	const uint8_t *names;	 /* NUL behind each */
	const uint32_t *starts;	 /* of names, and one more: where the last ends */
	uint64_t count, mask;	 /* of names; size of table less 1: a power of two, at least twice as many */
	uint32_t *table;	 /* zeros: names + 1, by hash */
	uint8_t *marks;		 /* zeros: a bit per byte of strings */
	uint32_t *places;	 /* pairs of an offset and a name, ascending */
	uint64_t room;		 /* for so many pairs */
};

static uint32_t hash_of(const uint8_t *text, uint64_t length)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (uint64_t at = 0; at < length; at++)
		hash = (hash ^ text[at]) * 16777619u;
	return hash ^ hash >> 15;
}

/* Number of pairs in places, or -1 if there is no room for them. */
static int64_t look_up(const struct wanted *wanted, const uint8_t *strings, uint64_t length)
{
	uint64_t shortest = UINT64_MAX, longest = 0, at = 0;
	uint32_t found = 0;
	uint8_t first[256] = {0};

	for (uint32_t name = 0; name < wanted->count; name++) {
		const uint8_t *text = wanted->names + wanted->starts[name];
		uint64_t size = wanted->starts[name + 1] - wanted->starts[name] - 1;
		uint64_t slot = hash_of(text, size) & wanted->mask;

		if (!size)
			continue;
		while (wanted->table[slot])
			slot = (slot + 1) & wanted->mask;
		wanted->table[slot] = name + 1;
		first[text[0]] = 1;
		shortest = size < shortest ? size : shortest;
		longest = size > longest ? size : longest;
	}
	while (at < length) {
		const uint8_t *text = strings + at, *end = memchr(text, 0, length - at);
		uint64_t size = end ? (uint64_t)(end - text) : length - at;

		if (end && size >= shortest && size <= longest && first[text[0]]) {
			uint64_t slot = hash_of(text, size) & wanted->mask;
			uint32_t name;

			for (; (name = wanted->table[slot]); slot = (slot + 1) & wanted->mask) {
				uint32_t start = wanted->starts[name - 1];

				if (wanted->starts[name] - start - 1 != size || memcmp(wanted->names + start, text, size))
					continue;
				if (found == wanted->room)
					return -1;
				wanted->places[2 * found] = (uint32_t)at;
				wanted->places[2 * found++ + 1] = name - 1;
				wanted->marks[at >> 3] |= (uint8_t)(1 << (at & 7));
				break;
			}
		}
		at += size + 1;
	}
	return found;
}

static uint32_t name_at(const struct wanted *wanted, uint32_t found, uint32_t offset)
{
	uint32_t low = 0, high = found;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (wanted->places[2 * middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	return wanted->places[2 * low + 1];
}

struct types {
	const uint32_t *words, *positions;
	const uint8_t *kinds, *fixed, *strings;
	uint64_t count, found, length; /* of words, of records, of strings */
};

#define ENUM 6
#define DECL_TAG 17
#define ENUM64 19

/* Bounds of the enumerators of a record: words from the returned one on, ``step`` apart, ``items`` of them; 0 if it has none. */
static uint64_t enumerators(const struct types *types, uint64_t record, uint32_t *step, uint32_t *items)
{
	uint32_t kind = types->kinds[record];
	uint64_t place = types->positions[record];

	if ((kind != ENUM && kind != ENUM64) || place + 2 >= types->count)
		return 0;
	*step = kind == ENUM ? 2 : 3;
	*items = types->words[place + 1] & 0xffff;
	place += 3 + types->fixed[kind];
	return place + (uint64_t)*step * *items <= types->count ? place : 0;
}

/* The records that have one of the names, and the enums that have an enumerator of one: triples of the name, the record (the first is 0) and
 * whether it is an enum's.  Their number, or -1 if there is not enough room. */
EXPORT int harken_btf_find(const struct types *types, const struct wanted *wanted, uint32_t *rows, uint64_t room)
{
	int64_t known = look_up(wanted, types->strings, types->length);
	uint64_t made = 0;

	if (known <= 0)
		return (int)known;
	for (uint64_t record = 0; record < types->found; record++) {
		uint32_t step, items, offset;
		uint64_t place = types->positions[record];

		if (place >= types->count)
			return -1;
		offset = types->words[place];
		if (offset < types->length && wanted->marks[offset >> 3] >> (offset & 7) & 1) {
			if (made == room)
				return -1;
			rows[3 * made] = name_at(wanted, (uint32_t)known, offset);
			rows[3 * made + 1] = (uint32_t)record;
			rows[3 * made++ + 2] = 0;
		}
		place = enumerators(types, record, &step, &items);
		for (; place && items; items--, place += step) {
			offset = types->words[place];
			if (offset >= types->length || !(wanted->marks[offset >> 3] >> (offset & 7) & 1))
				continue;
			if (made == room)
				return -1;
			rows[3 * made] = name_at(wanted, (uint32_t)known, offset);
			rows[3 * made + 1] = (uint32_t)record;
			rows[3 * made++ + 2] = 1;
		}
	}
	return (int)made;
}

/* The keys of formats/btf_index.py. */

#define MAX_NAME 1024

static void crc_table(uint32_t table[256])
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t value = byte;

		for (int bit = 0; bit < 8; bit++)
			value = value & 1 ? 0xedb88320u ^ value >> 1 : value >> 1;
		table[byte] = value;
	}
}

/* The key of a name and a type; 0 if the name lies outside or is too long (ids begin with 1). */
static uint64_t key_of(const struct types *types, const uint32_t table[256], uint32_t offset, uint64_t id)
{
	const uint8_t *text = types->strings + offset, *end;
	uint32_t value = 0xffffffffu;

	if (offset >= types->length)
		return 0;
	end = memchr(text, 0, types->length - offset > MAX_NAME ? MAX_NAME + 1 : types->length - offset);
	if (!end)
		return 0;
	while (text < end)
		value = table[(value ^ *text++) & 0xff] ^ value >> 8;
	return (uint64_t)(value ^ 0xffffffffu) << 32 | id;
}

/* Sorts by the upper half; what is equal there keeps its order. */
static void sort_keys(uint64_t *keys, uint64_t *spare, uint64_t count)
{
	static const int shifts[3] = {32, 43, 54};
	uint64_t *from = keys, *to = spare;

	for (int turn = 0; turn < 3; turn++) {
		uint64_t places[2048] = {0}, sum = 0, *other = from;
		int shift = shifts[turn];

		for (uint64_t at = 0; at < count; at++)
			places[from[at] >> shift & 2047]++;
		for (int digit = 0; digit < 2048; digit++) {
			uint64_t many = places[digit];

			places[digit] = sum;
			sum += many;
		}
		for (uint64_t at = 0; at < count; at++)
			to[places[from[at] >> shift & 2047]++] = from[at];
		from = to;
		to = other;
	}
	memcpy(keys, spare, count * sizeof(*keys)); /* an odd number of turns */
}

/* Keys of all names and of all enumerators, each sorted, and the ids of declaration tags; their numbers go to ``counts``.
 * ``first`` is the first record's id.  ``names`` and ``spare`` have room for as many as there are records or enumerators, ``values`` for
 * ``room`` and ``tags`` for as many as there are records.  0 if a name is wrong, or there is not enough room. */
EXPORT int harken_btf_keys(const struct types *types, uint64_t first, uint64_t *names, uint64_t *values, uint64_t room, uint32_t *tags,
			   uint64_t *spare, uint64_t counts[3])
{
	uint32_t table[256];

	crc_table(table);
	counts[0] = counts[1] = counts[2] = 0;
	for (uint64_t record = 0; record < types->found; record++) {
		uint64_t place = types->positions[record], id = first + record, key;
		uint32_t step, items;

		if (place >= types->count)
			return 0;
		if (types->words[place]) {
			key = key_of(types, table, types->words[place], id);
			if (!key)
				return 0;
			names[counts[0]++] = key;
		}
		if (types->kinds[record] == DECL_TAG)
			tags[counts[2]++] = (uint32_t)id;
		place = enumerators(types, record, &step, &items);
		for (; place && items; items--, place += step) {
			key = key_of(types, table, types->words[place], id);
			if (!key || counts[1] == room)
				return 0;
			values[counts[1]++] = key;
		}
	}
	sort_keys(names, spare, counts[0]);
	sort_keys(values, spare, counts[1]);
	return 1;
}
