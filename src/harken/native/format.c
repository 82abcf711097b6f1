/* Numbers, times and padding, as Python's % operator writes them. */
#include <string.h>
#include "text.h"

int put(struct line *line, const void *text, uint64_t size)
{
	if (size > (uint64_t)(line->end - line->at))
		return FULL;
	memcpy(line->at, text, size);
	line->at += size;
	return 0;
}

int put_byte(struct line *line, uint8_t byte, uint64_t count)
{
	if (count > (uint64_t)(line->end - line->at))
		return FULL;
	memset(line->at, byte, count);
	line->at += count;
	return 0;
}

int is_ascii(const uint8_t *text, uint64_t size)
{
	uint64_t at;

	for (at = 0; at < size; at++)
		if (text[at] & 0x80)
			return 0;
	return 1;
}

/* Writes the digits before end; gives where they begin. */
static uint8_t *digits_of(uint8_t *end, uint64_t value, int base, int upper)
{
	const char *letters = upper ? "0123456789ABCDEF" : "0123456789abcdef";

	if (base == 16) {
		do {
			*--end = (uint8_t)letters[value & 15];
			value >>= 4;
		} while (value);
		return end;
	}
	while (value >= 100) {
		uint64_t rest = value / 100;
		uint32_t two = (uint32_t)(value - rest * 100);

		*--end = (uint8_t)('0' + two % 10);
		*--end = (uint8_t)('0' + two / 10);
		value = rest;
	}
	if (value >= 10) {
		*--end = (uint8_t)('0' + value % 10);
		value /= 10;
	}
	*--end = (uint8_t)('0' + value);
	return end;
}

/* A number with sign, prefix, precision and width, in Python's order of them. */
int put_number(struct line *line, const struct op *op, uint64_t value, int base)
{
	uint8_t letters[24], head[4];
	uint8_t *end = letters + sizeof(letters), *digits;
	uint64_t size, heads = 0, zeros = 0, blanks, width = op->width;
	int negative = op->flags & SIGNED && value >> 63;

	digits = digits_of(end, negative ? -value : value, base, op->flags & UPPER_CASE);
	size = (uint64_t)(end - digits);
	if (!op->width && !op->place && !(op->flags & (PLUS | BLANK | PREFIX)) && !negative)
		return put(line, digits, size);
	if (negative || op->flags & (PLUS | BLANK))
		head[heads++] = negative ? '-' : op->flags & PLUS ? '+' : ' ';
	if (op->flags & PREFIX && base == 16) {
		head[heads++] = '0';
		head[heads++] = op->flags & UPPER_CASE ? 'X' : 'x';
	}
	if (op->place && op->place - 1 > size)
		zeros = op->place - 1 - size;
	if (op->flags & ZERO && !(op->flags & LEFT) && heads + zeros + size < width)
		zeros = width - heads - size;
	blanks = heads + zeros + size < width ? width - heads - zeros - size : 0;
	if (!(op->flags & LEFT) && put_byte(line, ' ', blanks))
		return FULL;
	if (put(line, head, heads) || put_byte(line, '0', zeros) || put(line, digits, size))
		return FULL;
	return op->flags & LEFT ? put_byte(line, ' ', blanks) : 0;
}

/* "%5d.%06d" of a time, or "%12d" of a counter. */
int put_time(struct line *line, uint64_t time)
{
	const struct job *job = line->job;
	struct op op = { .width = 12 };
	uint8_t digits[24];
	uint64_t value, rest, at;

	if (!job->second)
		return put_number(line, &op, time, 10);
	value = time / job->unit;
	if (job->unit > 1 && time % job->unit >= job->unit - job->unit / 2)
		value++;
	rest = value % job->second;
	op.width = 5;
	if (put_number(line, &op, value / job->second, 10))
		return FULL;
	for (at = job->digits; at > 0; at--) {
		digits[at] = (uint8_t)('0' + rest % 10);
		rest /= 10;
	}
	digits[0] = '.';
	return put(line, digits, job->digits + 1);
}
