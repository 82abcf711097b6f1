/* Names of the stubs of the procedure linkage table, of 64-bit x86 files.
 *
 * symbols/symbol_table_stubs.py does the same in Python, and says why.  The caller has looked which machine the file is of. */
#include <string.h>
#include "perf.h"

#define LONGEST 4096
#define GLOBAL_FUNCTION 0x12
#define SUFFIX "@plt"

struct stubs {
	/* where stubs start, how long they are, through which place they jump */
	uint64_t *starts, *slots;
	uint8_t *sizes;             /* 0: behind the last address */
	uint64_t count, room;
	uint64_t nowhere;           /* whether there are some that jump through no place that there is */
	/* different places, ascending, and for each stub the number of its */
	uint64_t *places;
	uint32_t *of_stub;
	uint64_t place_count;
	/* of each place: start and size of the name, 0 for none; whether the file's own code finds what stands there */
	uint32_t *names, *sizes_of_names;
	uint8_t *resolved;
	uint64_t named_count, resolved_count;
};

struct dynamic {
	const uint8_t *symbols;     /* entries of 24 bytes */
	uint64_t size;
	const uint8_t *strings;
	uint64_t string_size;
	uint64_t relative;          /* the type of relocations that are resolved so */
};

/* jmp *distance(%rip): ff 25 and four bytes */
static const uint8_t *find_jump(const uint8_t *from, const uint8_t *end)
{
	while (end - from >= 2 && (from = memchr(from, 0xFF, (size_t)(end - from - 1))))
		if (*++from == 0x25)
			return from - 1;
	return NULL;
}

/* Adds the stubs of a section, as many as there is room for. */
EXPORT void harken_stubs_jumps(struct stubs *stubs, const uint8_t *code, uint64_t size, uint64_t address)
{
	const uint8_t *at = find_jump(code, code + size);
	uint64_t step = at == code && size >= 8 && code[6] == 0x66 && code[7] == 0x90 ? 8 : 16;

	while (at && code + size - at >= 6 && stubs->count < stubs->room) {
		uint64_t place = (uint64_t)(at - code), start = place / step * step, base = address + place + 6, slot;
		int32_t distance;
		int beyond = base < address;

		memcpy(&distance, at + 2, sizeof(distance));
		slot = base + (uint64_t)(int64_t)distance;
		beyond += distance < 0 ? -(slot > base) : slot < base;
		if (beyond) {
			stubs->nowhere = 1;
		} else {
			stubs->starts[stubs->count] = address + start;
			stubs->slots[stubs->count] = slot;
			stubs->sizes[stubs->count++] = address + start >= address ? (uint8_t)step : 0;
		}
		at = start + step < size ? find_jump(code + start + step, code + size) : NULL;
	}
}

/* Finds the different places.  order and spare have room for as many as there are stubs. */
EXPORT void harken_stubs_places(struct stubs *stubs, uint32_t *order, uint32_t *spare)
{
	for (uint64_t index = 0; index < stubs->count; index++)
		order[index] = (uint32_t)index;
	harken_perf_order((const uint8_t *)stubs->slots, 8, stubs->count, order, spare);
	stubs->place_count = stubs->named_count = stubs->resolved_count = 0;
	for (uint64_t place = 0; place < stubs->count; place++) {
		uint64_t slot = stubs->slots[order[place]];

		if (!stubs->place_count || stubs->places[stubs->place_count - 1] != slot)
			stubs->places[stubs->place_count++] = slot;
		stubs->of_stub[order[place]] = (uint32_t)stubs->place_count - 1;
	}
}

/* The number of a place plus 1; 0: it is none. */
static uint64_t number_of(const struct stubs *stubs, uint64_t place)
{
	uint64_t low = 0, high = stubs->place_count;

	if (!high || place < stubs->places[0] || place > stubs->places[high - 1])
		return 0;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		if (stubs->places[middle] <= place)
			low = middle;
		else
			high = middle;
	}
	return stubs->places[low] == place ? low + 1 : 0;
}

/* Applies relocations: rows of so many words, of which the first is a place. */
EXPORT void harken_stubs_relocate(struct stubs *stubs, const struct dynamic *dynamic, const uint64_t *rows, uint64_t count, uint64_t width)
{
	for (uint64_t row = 0; row < count; row++) {
		uint64_t number = number_of(stubs, rows[width * row]), symbol = rows[width * row + 1] >> 32, left;
		uint32_t start;
		const uint8_t *end;

		if (!number--)
			continue;
		if (!symbol && (rows[width * row + 1] & UINT32_MAX) == dynamic->relative) {
			stubs->resolved_count += !stubs->resolved[number];
			stubs->resolved[number] = 1;
		}
		if (!symbol || (symbol + 1) * 24 > dynamic->size)
			continue;
		memcpy(&start, dynamic->symbols + symbol * 24, sizeof(start));
		if (!start || start >= dynamic->string_size)
			continue;
		left = dynamic->string_size - start;
		end = memchr(dynamic->strings + start, 0, left < LONGEST ? left : LONGEST);
		if (!end || end == dynamic->strings + start)
			continue;
		stubs->named_count += !stubs->names[number];
		stubs->names[number] = start;
		stubs->sizes_of_names[number] = (uint32_t)(end - dynamic->strings - start);
	}
}

/* How many bytes the names of stubs take. */
EXPORT uint64_t harken_stubs_size(const struct stubs *stubs)
{
	uint64_t size = 1;

	for (uint64_t index = 0; index < stubs->count; index++)
		if (stubs->sizes[index] && stubs->names[stubs->of_stub[index]])
			size += stubs->sizes_of_names[stubs->of_stub[index]] + sizeof(SUFFIX);
	return size;
}

/* Adds a symbol for every stub that has a name; there is room for all of them, and for all names in text.  Returns how many. */
EXPORT uint64_t harken_stubs_add(const struct stubs *stubs, const uint8_t *strings, uint64_t base, uint64_t *values, uint64_t *sizes,
				 uint8_t *infos, uint64_t *names, uint8_t *text)
{
	uint64_t count = 0, at = 0;

	text[at++] = 0;
	for (uint64_t index = 0; index < stubs->count; index++) {
		uint64_t place = stubs->of_stub[index], size = stubs->sizes_of_names[place];

		if (!stubs->sizes[index] || !stubs->names[place])
			continue;
		values[count] = stubs->starts[index];
		sizes[count] = stubs->sizes[index];
		infos[count] = GLOBAL_FUNCTION;
		names[count++] = base | at;
		memcpy(text + at, strings + stubs->names[place], size);
		memcpy(text + at + size, SUFFIX, sizeof(SUFFIX));
		at += size + sizeof(SUFFIX);
	}
	return count;
}
