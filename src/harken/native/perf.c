/* Records of perf.data in bulk: where they start, fields of all samples as columns, their order in time, which process they are of.
 *
 * Records are of this machine's byte order and whole words.  formats/perf_data_columns.py says what a record is and does the same in
 * Python; it also goes on where this stops. */
#include <string.h>
#include "perf.h"

#define SAMPLE 9         /* PERF_RECORD_SAMPLE */
#define TRACING_DATA 66  /* of perf itself: followed by data that their size does not count */
#define AUXTRACE 71

struct walk {
	const uint64_t *words;
	uint64_t place, end;        /* in words; place is where it has come to */
	uint32_t *samples;          /* room for a place for each word up to the end, */
	uint32_t *others;           /* which is this: others are written downwards from here */
	uint64_t sample_count, other_count;
	uint64_t least;             /* words of the shortest sample */
};

#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

static uint32_t kind_of(uint64_t head)
{
	return (uint32_t)(BIG_ENDIAN_HERE ? head >> 32 : head);
}

static uint32_t size_of(uint64_t head)
{
	return (uint32_t)(BIG_ENDIAN_HERE ? head & 0xFFFF : head >> 48);
}

/* Up to the end or the first record that is not usual: of no size that can be, followed by data, or cut off. */
EXPORT void harken_perf_walk(struct walk *walk)
{
	const uint64_t *words = walk->words;
	uint64_t place = walk->place, end = walk->end;

	while (place < end) {
		uint64_t head = words[place], size = size_of(head);
		uint32_t kind = kind_of(head);

		if (size < 8 || size & 7 || kind == TRACING_DATA || kind == AUXTRACE || size / 8 > end - place)
			break;
		size /= 8;
		if (kind == SAMPLE) {
			walk->samples[walk->sample_count++] = (uint32_t)place;
			if (size < walk->least)
				walk->least = size;
		} else {
			*(walk->others - ++walk->other_count) = (uint32_t)place;
		}
		place += size;
	}
	walk->place = place;
}

/* Of records those of some kinds: below 64 those of a mask, and from there on all or none.  Their times are so many words before their ends,
 * if they have at least some words; 0 if they do not tell.  Returns how many there are. */
EXPORT uint64_t harken_perf_select(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t mask, uint64_t others,
				   uint64_t back, uint64_t least, uint32_t *found, uint64_t *times)
{
	uint64_t used = 0;

	for (uint64_t index = 0; index < count; index++) {
		uint64_t head = words[places[index]], size = size_of(head) / 8, time = 0;
		uint32_t kind = kind_of(head);

		if (kind < 64 ? !(mask >> kind & 1) : !others)
			continue;
		if (back && size >= least && size >= back)
			time = words[places[index] + size - back];
		found[used] = places[index];
		times[used++] = time != UINT64_MAX ? time : 0;
	}
	return used;
}

/* 32-bit numbers at places. */
EXPORT void harken_perf_halves_at(const uint32_t *halves, const uint32_t *places, uint64_t count, uint32_t *into)
{
	for (uint64_t index = 0; index < count; index++)
		into[index] = halves[places[index]];
}

/* A word of every sample, of which every one has that many: the caller knows the shortest. */
EXPORT void harken_perf_words(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t word, uint64_t *into)
{
	for (uint64_t index = 0; index < count; index++)
		into[index] = words[places[index] + word];
}

/* Two words and half a word of every sample: to go through all of them takes as long as to take one.  NULL: none. */
EXPORT void harken_perf_columns(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t half, uint32_t *halves,
				uint64_t first, uint64_t *firsts, uint64_t second, uint64_t *seconds)
{
	for (uint64_t index = 0; index < count; index++) {
		uint64_t place = places[index];

		if (halves)
			halves[index] = ((const uint32_t *)words)[2 * place + half];
		if (firsts)
			firsts[index] = words[place + first];
		if (seconds)
			seconds[index] = words[place + second];
	}
}

/* The same for the first or second half of a word. */
EXPORT void harken_perf_halves(const uint32_t *halves, const uint32_t *places, uint64_t count, uint64_t half, uint32_t *into)
{
	for (uint64_t index = 0; index < count; index++)
		into[index] = halves[2 * (uint64_t)places[index] + half];
}

/* Where call chains lie: places and lengths in words.  Returns the first sample whose chain does not fit into it, count if all do. */
EXPORT uint64_t harken_perf_chains(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t word, uint32_t *starts,
				   uint32_t *lengths)
{
	for (uint64_t index = 0; index < count; index++) {
		uint64_t place = places[index], size = size_of(words[place]) / 8;

		if (size <= word || words[place + word] > size - word - 1)
			return index;
		starts[index] = (uint32_t)(place + word + 1);
		lengths[index] = (uint32_t)words[place + word];
	}
	return count;
}

#define DIGIT 12 /* bits that are sorted by at once: more, and what is written to lies in too many places */

static inline uint64_t key_of(const uint8_t *keys, uint64_t width, uint64_t index)
{
	uint64_t wide;
	uint32_t narrow;

	if (width == 8) {
		memcpy(&wide, keys + 8 * index, 8);
		return wide;
	}
	memcpy(&narrow, keys + 4 * index, 4);
	return narrow;
}

/* The same order by some bits of the keys. */
static inline void order_by(const uint8_t *keys, uint64_t width, uint64_t count, const uint32_t *from, uint32_t *to, unsigned int shift,
			    unsigned int bits)
{
	uint32_t starts[1 << DIGIT], mask = (UINT32_C(1) << bits) - 1, sum = 0;

	memset(starts, 0, sizeof(*starts) << bits);
	for (uint64_t index = 0; index < count; index++)
		starts[key_of(keys, width, index) >> shift & mask]++;
	for (uint32_t value = 0; value <= mask; value++) {
		uint32_t some = starts[value];

		starts[value] = sum;
		sum += some;
	}
	for (uint64_t index = 0; index < count; index++)
		to[starts[key_of(keys, width, from[index]) >> shift & mask]++] = from[index];
}

/* Puts indexes into the order of the keys, of 4 or 8 bytes, that they stand for; those of equal keys stay in theirs.  spare has room for as
 * many.
 *
 * Sorted by some bits at a time, the lowest first, and only by those that are not the same in all of them. */
EXPORT void harken_perf_order(const uint8_t *keys, uint64_t width, uint64_t count, uint32_t *indexes, uint32_t *spare)
{
	uint32_t *from = indexes, *to = spare;
	uint64_t different = 0, place = 1;
	unsigned int most = count < 1024 ? 8 : DIGIT, shift = 0;

	while (place < count && key_of(keys, width, indexes[place - 1]) <= key_of(keys, width, indexes[place]))
		place++;
	if (place >= count)
		return;
	for (uint64_t index = 0; index < count; index++)
		different |= key_of(keys, width, index) ^ key_of(keys, width, 0);
	while (shift < 64 && different >> shift) {
		unsigned int left, bits;
		uint32_t *swap;

		shift += (unsigned int)__builtin_ctzll(different >> shift);
		left = 64 - (unsigned int)__builtin_clzll(different) - shift;
		bits = left / ((left + most - 1) / most) + (left % ((left + most - 1) / most) != 0);
		if (width == 8)
			order_by(keys, 8, count, from, to, shift, bits);
		else
			order_by(keys, 4, count, from, to, shift, bits);
		shift += bits;
		swap = from;
		from = to;
		to = swap;
	}
	if (from != indexes)
		memcpy(indexes, from, count * sizeof(*indexes));
}

/* Indexes as they are counted. */
EXPORT void harken_perf_count(uint32_t *indexes, uint64_t count)
{
	for (uint64_t index = 0; index < count; index++)
		indexes[index] = (uint32_t)index;
}

/* Words at places. */
EXPORT void harken_perf_words_at(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t *into)
{
	for (uint64_t index = 0; index < count; index++)
		into[index] = words[places[index]];
}

/* Indexes whose values are equal and stand beside one another: where each run ends.  Returns how many runs there are. */
EXPORT uint64_t harken_perf_runs(const uint32_t *values, const uint32_t *indexes, uint64_t count, uint32_t *ends)
{
	uint64_t runs = 0;

	for (uint64_t index = 1; index <= count; index++)
		if (index == count || values[indexes[index]] != values[indexes[index - 1]])
			ends[runs++] = (uint32_t)index;
	return runs;
}
