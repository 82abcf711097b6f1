/* Records of perf.data in bulk: where they start, fields of all samples as columns, their order in time, which process they are of.
 *
 * Records are of this machine's byte order and whole words.  formats/perf_data_columns.py says what a record is and does the same in
 * Python; it also goes on where this stops. */
#include <stdlib.h>
#include <string.h>
#include "native.h"

#define SAMPLE 9         /* PERF_RECORD_SAMPLE */
#define TRACING_DATA 66  /* of perf itself: followed by data that their size does not count */
#define AUXTRACE 71

struct walk {
	const uint64_t *words;
	uint64_t place, end;        /* in words; place is where it has come to */
	uint32_t *samples, *others; /* room for a place for each word up to the end */
	uint64_t sample_count, other_count;
	uint64_t least;             /* words of the shortest sample */
};

static uint32_t kind_of(uint64_t head)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (uint32_t)head;
#else
	return (uint32_t)(head >> 32);
#endif
}

static uint32_t size_of(uint64_t head)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (uint32_t)(head >> 48);
#else
	return (uint32_t)(head & 0xFFFF);
#endif
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
			walk->others[walk->other_count++] = (uint32_t)place;
		}
		place += size;
	}
	walk->place = place;
}

/* A word of every sample, of which every one has that many: the caller knows the shortest. */
EXPORT void harken_perf_words(const uint64_t *words, const uint32_t *places, uint64_t count, uint64_t word, uint64_t *into)
{
	for (uint64_t index = 0; index < count; index++)
		into[index] = words[places[index] + word];
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

/* The order of times: indexes of the earliest, the next one, ...; of equal ones the first comes first.  spare has room for as many.
 *
 * Sorted by bytes, the lowest first, and only by those that are not the same in all of them. */
EXPORT void harken_perf_order(const uint64_t *times, uint64_t count, uint32_t *order, uint32_t *spare)
{
	uint64_t different = 0;
	uint32_t *from = order, *to = spare;

	for (uint64_t index = 0; index < count; index++) {
		order[index] = (uint32_t)index;
		different |= times[index] ^ times[0];
	}
	for (unsigned int shift = 0; shift < 64; shift += 8) {
		uint32_t starts[257] = {0}, *swap;

		if (!(different >> shift & 255))
			continue;
		for (uint64_t index = 0; index < count; index++)
			starts[(times[index] >> shift & 255) + 1]++;
		for (unsigned int value = 0; value < 256; value++)
			starts[value + 1] += starts[value];
		for (uint64_t index = 0; index < count; index++)
			to[starts[times[from[index]] >> shift & 255]++] = from[index];
		swap = from;
		from = to;
		to = swap;
	}
	if (from != order)
		memcpy(order, from, count * sizeof(*order));
}

/* Values that stand beside equal ones: where each run ends.  Returns how many runs there are. */
EXPORT uint64_t harken_perf_runs(const uint32_t *values, uint64_t count, uint32_t *ends)
{
	uint64_t runs = 0;

	for (uint64_t index = 1; index <= count; index++)
		if (index == count || values[index] != values[index - 1])
			ends[runs++] = (uint32_t)index;
	return runs;
}
