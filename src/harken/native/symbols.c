/* The lines of samples and of their call chains, as perf script -F ip,sym,dso prints them.
 *
 * Python lays out what it knows of processes and files, and makes what is not plain; the loop over samples is here.  When something is
 * missing, nothing more is written, but the needs of some more samples are found too, so that Python is not asked for each. */
#include <string.h>
#include "symbols.h"

#define KERNEL (UINT64_C(1) << 63)
#define CONTEXT_USER ((uint64_t)-512)
#define CONTEXT_MAX ((uint64_t)-4095)
#define UNKNOWN "[unknown]"
#define DIGITS 16

static uint8_t *copy(uint8_t *at, const void *text, uint64_t size)
{
	memcpy(at, text, size);
	return at + size;
}

/* Eight digits at once: each half of a byte becomes a byte, and that a digit. */
static void put_digits(uint8_t *at, uint64_t number)
{
	number = (number << 16 | number) & UINT64_C(0x0000FFFF0000FFFF);
	number = (number << 8 | number) & UINT64_C(0x00FF00FF00FF00FF);
	number = (number << 4 | number) & UINT64_C(0x0F0F0F0F0F0F0F0F);
	number += UINT64_C(0x3030303030303030) + ('a' - '0' - 10) * ((number + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	number = __builtin_bswap64(number);
#endif
	memcpy(at, &number, 8);
}

/* A number in hexadecimal, right-justified. */
static uint8_t *hexadecimal(uint8_t *at, uint64_t number)
{
	int blanks = __builtin_clzll(number | 1) / 4;

	put_digits(at, number >> 32);
	put_digits(at + 8, number & UINT32_MAX);
	for (int place = 0; place < blanks; place++)
		at[place] = ' ';
	return at + DIGITS;
}

/* +0x12 */
static uint8_t *put_distance(uint8_t *at, uint64_t number)
{
	uint8_t digits[DIGITS];
	uint64_t first = 0;

	hexadecimal(digits, number);
	while (digits[first] == ' ')
		first++;
	at = copy(at, "+0x", 3);
	return copy(at, digits + first, DIGITS - first);
}

static int put_frame(struct job *job, const struct frame *frame)
{
	uint64_t name_size = frame->name ? frame->name_size : sizeof(UNKNOWN) - 1;
	uint8_t *at = job->out + job->out_used;

	if (job->asking)
		return DONE;
	/* first byte, address, blank, name, distance, module */
	if (job->out_size - job->out_used < 2 * DIGITS + 5 + name_size + frame->module_size)
		return FULL;
	*at++ = (uint8_t)job->before;
	at = hexadecimal(at, frame->shown);
	if (job->with_symbol) {
		*at++ = ' ';
		at = copy(at, frame->name ? (const void *)frame->name : UNKNOWN, name_size);
		if (job->with_offset && frame->name)
			at = put_distance(at, frame->distance);
	}
	at = copy(at, frame->module, frame->module_size);
	job->out_used = (uint64_t)(at - job->out);
	return DONE;
}

static int put_newline(struct job *job)
{
	if (job->asking)
		return DONE;
	if (job->out_used == job->out_size)
		return FULL;
	job->out[job->out_used++] = '\n';
	return DONE;
}

/* The address of a sample; marks of call chains are none. */
static int put_address(struct job *job, uint64_t space, uint64_t address)
{
	struct frame frame = {0};
	int outcome;

	if (address >= CONTEXT_MAX)
		return DONE;
	if (address >= KERNEL)
		outcome = symbols_of_kernel(job, address, &frame);
	else
		outcome = symbols_of_user(job, &job->spaces[space], space, address, 0, &frame);
	return outcome ? outcome : put_frame(job, &frame);
}

/* A call chain: a line for each address; those of the kernel that follow addresses of the process are stray values of frame pointers. */
static int put_chain(struct job *job, uint64_t space, const uint64_t *words, uint64_t count)
{
	int after_user = 0, result = put_newline(job);

	for (uint64_t place = 0; place < count && (result == DONE || result == ASK); place++) {
		uint64_t address = words[place];
		struct frame frame = {0};
		int outcome;

		if (address >= CONTEXT_MAX) {
			after_user = address == CONTEXT_USER;
			continue;
		}
		if (address < KERNEL) {
			after_user = address >> 56 != 1;  /* what ends a chain in Python */
			outcome = symbols_of_user(job, &job->spaces[space], space, address, 1, &frame);
		} else if (after_user) {
			outcome = symbols_of_nothing(job, address, &frame);
		} else {
			outcome = symbols_of_kernel(job, address, &frame);
		}
		if (outcome == DONE && result == DONE)
			outcome = put_frame(job, &frame);
		result = outcome ? outcome : result;
	}
	return result ? result : put_newline(job);
}

static int put_sample(struct job *job, uint64_t sample)
{
	uint64_t space = job->spaces_of[sample];

	if (space >= job->space_count)
		return BROKEN;
	if (!job->starts)
		return put_address(job, space, job->addresses[sample]);
	if (job->starts[sample] > job->word_count || job->lengths[sample] > job->word_count - job->starts[sample])
		return BROKEN;
	return put_chain(job, space, job->words + job->starts[sample], job->lengths[sample]);
}

/* Writes as many samples as there is room for.  FULL: not even one; ASK: the needs have to be met first. */
EXPORT int harken_symbols_lines(struct job *job)
{
	uint64_t first = job->at, stop = job->count - first < job->step ? job->count : first + job->step;

	job->out_used = job->need_count = job->asking = 0;
	for (uint64_t index = first; index < stop && job->need_count < job->need_room; index++) {
		uint64_t sample = job->order ? job->order[index] : index, used = job->out_used;
		int outcome = sample < job->count ? put_sample(job, sample) : BROKEN;

		if (outcome == BROKEN)
			return BROKEN;
		if (outcome == ASK)
			job->asking = 1;
		if (outcome || job->asking)
			job->out_used = used;
		if (outcome == FULL)
			return job->at == first ? FULL : DONE;
		if (!job->asking) {
			job->ends[index - first] = (uint32_t)job->out_used;
			job->at = index + 1;
		}
	}
	return job->asking ? ASK : DONE;
}

/* What tells whether Python's structures are these. */
EXPORT uint64_t harken_symbols_sizes(void)
{
	return sizeof(struct job) | sizeof(struct names) << 16 | sizeof(struct place) << 32 | sizeof(struct space) << 48;
}
