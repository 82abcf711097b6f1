/* The lines of samples and of their call chains, as perf script -F ip,sym,dso prints them.
 *
 * Python lays out what it knows of processes and files, and makes what is not plain; the loop over samples is here.  It takes some ten
 * thousand of them at a time: their different addresses are numbered, sorted, and each one's text is made; then texts are put behind one
 * another.  When something is missing, it is looked for what else is, so that Python is not asked for each. */
#include <string.h>
#include "symbols.h"

#define UNKNOWN "[unknown]"
#define DIGITS 16
#define AHEAD 16 /* texts lie anywhere: memory is told to bring them before they are copied */

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

/* The text of an address. */
static int make_text(struct job *job, const struct frame *frame, struct text *text)
{
	uint64_t name_size = frame->name ? frame->name_size : sizeof(UNKNOWN) - 1;
	uint8_t *at = job->texts + job->text_used;

	/* first byte, address, blank, name, distance, module */
	if (job->text_room > UINT32_MAX || job->text_room - job->text_used < 2 * DIGITS + 5 + name_size + frame->module_size + SLACK)
		return CROWDED;
	*at++ = (uint8_t)job->before;
	at = hexadecimal(at, frame->shown);
	if (job->with_symbol) {
		*at++ = ' ';
		at = copy(at, frame->name ? (const void *)frame->name : UNKNOWN, name_size);
		if (job->with_offset && frame->name)
			at = put_distance(at, frame->distance);
	}
	at = copy(at, frame->module, frame->module_size);
	text->start = (uint32_t)job->text_used;
	text->size = (uint32_t)((uint64_t)(at - job->texts) - job->text_used);
	job->text_used += text->size;
	return DONE;
}

static int name_address(struct job *job, struct near *near, const struct key *key)
{
	uint64_t address = key->address, space = key->space;
	struct frame frame = {0};
	int outcome;

	if (space == KERNEL_SPACE)
		outcome = symbols_of_kernel(job, near, address, &frame);
	else if (space == NOWHERE)
		outcome = symbols_of_nothing(job, address, &frame);
	else
		outcome = symbols_of_user(job, near, space, address, &frame);
	return outcome ? outcome : make_text(job, &frame, &job->key_texts[key->number]);
}

/* Makes the texts that are pending.  ASK: those for which something is missing stay so. */
static int name_all(struct job *job)
{
	struct near near[3] = {{NOTHING, 0, NULL, 0}, {NOTHING, 0, NULL, 0}, {NOTHING, 0, NULL, 0}};
	uint64_t left = 0;

	for (uint64_t place = 0; place < job->pending_count; place++) {
		int outcome = name_address(job, near, &job->pending[place]);

		if (outcome == ASK)
			job->pending[left++] = job->pending[place];
		else if (outcome)
			return outcome;
	}
	job->pending_count = left;
	return left ? ASK : DONE;
}

/* A text, in steps: it is followed by more bytes, and there is room for them. */
static uint8_t *put_text(uint8_t *at, const uint8_t *text, uint64_t size)
{
	for (uint64_t place = 0; place < size; place += SLACK)
		memcpy(at + place, text + place, SLACK);
	return at + size;
}

/* The lines of the next sample. */
static int put_sample(struct job *job)
{
	const uint32_t *ids = job->ids + job->id_at + 1, count = ids[-1], *last = job->ids + job->id_count;
	uint8_t *at = job->out + job->out_used, *end = job->out + job->out_size;

	if (end - at < SLACK)
		return FULL;
	if (job->starts)
		*at++ = '\n';
	for (uint32_t place = 0; place < count; place++) {
		struct text text = job->key_texts[ids[place]];

		if ((uint64_t)(end - at) < (uint64_t)text.size + 2 * SLACK)
			return FULL;
		if (last - (ids + place) > AHEAD && ids[place + AHEAD] < job->key_count)
			__builtin_prefetch(job->texts + job->key_texts[ids[place + AHEAD]].start);
		at = put_text(at, job->texts + text.start, text.size);
	}
	if (job->starts)
		*at++ = '\n';
	job->id_at += count + UINT64_C(1);
	job->out_used = (uint64_t)(at - job->out);
	return DONE;
}

/* Texts for the samples that follow; the table is emptied if it has no room for them. */
static int prepare(struct job *job)
{
	int outcome;

	while ((outcome = symbols_collect(job)) == FULL) {
		if (!job->first_key)
			return BROKEN;
		symbols_forget(job);
	}
	return outcome;
}

/* Without room for the texts of the samples: with an empty table, then of less samples. */
static int make_room(struct job *job)
{
	uint64_t samples = job->stop - job->at, was_empty = !job->first_key;

	symbols_forget(job);
	job->stop = job->at;
	job->pending_count = 0;
	if (was_empty && samples < 2)
		return CROWDED;
	if (was_empty)
		job->step = (samples + 3) / 4;
	return prepare(job);
}

/* Writes as many samples as there is room for.  FULL: not even one; ASK: the needs have to be met first. */
EXPORT int harken_symbols_lines(struct job *job)
{
	uint64_t first = job->at;
	int outcome = DONE;

	job->out_used = job->need_count = 0;
	if (job->at == job->stop && job->at < job->count)
		outcome = prepare(job);
	while (outcome == DONE && job->pending_count && (outcome = name_all(job)) == CROWDED)
		outcome = make_room(job);
	if (outcome != DONE)
		return outcome;
	while (job->at < job->stop && job->at - first < job->most && (outcome = put_sample(job)) == DONE)
		job->ends[job->at++ - first] = (uint32_t)job->out_used;
	return job->at == first ? outcome : DONE;
}

/* What tells whether Python's structures are these. */
EXPORT uint64_t harken_symbols_sizes(void)
{
	return sizeof(struct job) | sizeof(struct names) << 16 | sizeof(struct place) << 32 | sizeof(struct table) << 48;
}
