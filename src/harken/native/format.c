/* Numbers, times and padding, as Python's % operator writes them. */
#include "text.h"

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

/* The letters of numbers are made eight at a time in one word, the first one in its lowest byte, without a branch that depends on them. */
#define ONES 0x0101010101010101u
#define WORDS (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

/* Eight decimal digits (0 to 9 each) of a number below 10^8. */
static inline uint64_t eight_digits(uint32_t value)
{
	uint64_t fours = value / 10000 | (uint64_t)(value % 10000) << 32;
	uint64_t upper = (fours * 10486 >> 20) & 0x0000007F0000007Fu, twos = upper | (fours - 100 * upper) << 16;
	uint64_t tens = (twos * 103 >> 10) & 0x000F000F000F000Fu;

	return tens | (twos - 10 * tens) << 8;
}

/* Writes a number below 10^8; eight bytes are changed. */
static inline uint8_t *put_few(uint8_t *place, uint32_t value)
{
	uint64_t digits = eight_digits(value);
	int skip = __builtin_ctzll(digits | 1ull << 56) & ~7; /* bits of the leading zeros, not those of the last digit */

	digits = (digits | '0' * ONES) >> skip;
	memcpy(place, &digits, 8);
	return place + 8 - skip / 8;
}

/* Writes the digits of a number before end; gives where they begin. */
static uint8_t *decimal_before(uint8_t *end, uint64_t value)
{
	do {
		*--end = (uint8_t)('0' + value % 10);
		value /= 10;
	} while (value);
	return end;
}

/* Writes a number; twenty-four bytes may be changed. */
static inline uint8_t *put_decimal(uint8_t *place, uint64_t value)
{
	uint8_t letters[24], *end = letters + sizeof(letters), *digits;

	if (WORDS && value < 100000000)
		return put_few(place, (uint32_t)value);
	if (WORDS && value < 10000000000000000u) {
		uint64_t lower = eight_digits((uint32_t)(value % 100000000)) | '0' * ONES;

		place = put_few(place, (uint32_t)(value / 100000000));
		memcpy(place, &lower, 8);
		return place + 8;
	}
	digits = decimal_before(end, value);
	memcpy(place, digits, (size_t)(end - digits));
	return place + (end - digits);
}

/* Eight hexadecimal letters. */
static inline uint64_t eight_letters(uint32_t value, int upper)
{
	uint64_t word = __builtin_bswap32(value);

	word = (word | word << 16) & 0x0000FFFF0000FFFFu;
	word = (word | word << 8) & 0x00FF00FF00FF00FFu;
	word = (word >> 4 & ONES * 0x0F & 0x00FF00FF00FF00FFu) | (word & 0x000F000F000F000Fu) << 8;
	return word + '0' * ONES + ((word + 6 * ONES) >> 4 & ONES) * (upper ? 'A' - '0' - 10 : 'a' - '0' - 10);
}

/* Writes at least so many letters, up to sixteen, and as many as a number has; sixteen bytes may be changed. */
static inline uint8_t *put_hexadecimal(uint8_t *place, uint64_t value, int upper, uint64_t least)
{
	uint64_t words[4] = { eight_letters((uint32_t)(value >> 32), upper), eight_letters((uint32_t)value, upper), 0, 0 };
	uint64_t count = (67 - (uint64_t)__builtin_clzll(value | 1)) / 4;

	if (count < least)
		count = least;
	memcpy(place, (const uint8_t *)words + 16 - count, 16);
	return place + count;
}

/* Writes the digits before end; gives where they begin. */
static uint8_t *digits_before(uint8_t *end, uint64_t value, int base, int upper)
{
	const char *letters = upper ? "0123456789ABCDEF" : "0123456789abcdef";

	if (base == 10)
		return decimal_before(end, value);
	do {
		*--end = (uint8_t)letters[value & 15];
		value >>= 4;
	} while (value);
	return end;
}

/* Numbers without marks, and those in hexadecimal that are filled up with zeros; 0 if this is another one. */
static inline int put_plain(struct line *line, const struct op *op, uint64_t value, int base)
{
	if (line->end - line->at < 24 || op->place || op->flags & (PLUS | BLANK))
		return 0;
	if (base == 10) {
		if (op->width)
			return 0;
		if (op->flags & SIGNED && value >> 63) {
			*line->at++ = '-';
			value = -value;
		}
		line->at = put_decimal(line->at, value);
		return 1;
	}
	if (!WORDS || op->flags & (PREFIX | SIGNED) || op->width > 16 || (op->width && (op->flags & (ZERO | LEFT)) != ZERO))
		return 0;
	line->at = put_hexadecimal(line->at, value, op->flags & UPPER_CASE, op->width);
	return 1;
}

/* A number with sign, prefix, precision and width, in Python's order of them. */
int put_number(struct line *line, const struct op *op, uint64_t value, int base)
{
	uint8_t letters[24], head[4];
	uint8_t *end = letters + sizeof(letters), *digits;
	uint64_t size, heads = 0, zeros = 0, blanks, width = op->width;
	int negative = op->flags & SIGNED && value >> 63;

	if (put_plain(line, op, value, base))
		return 0;
	digits = digits_before(end, negative ? -value : value, base, op->flags & UPPER_CASE);
	size = (uint64_t)(end - digits);
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
	uint8_t digits[40];
	uint64_t value, seconds, rest, at, count = job->digits < sizeof(digits) ? job->digits : sizeof(digits) - 1;

	if (!job->second)
		return put_number(line, &op, time, 10);
	if (job->unit == 1000 && job->second == 1000000) { /* the usual ones, by which the compiler need not divide */
		value = time / 1000 + (time % 1000 >= 500);
		seconds = value / 1000000;
		rest = value - seconds * 1000000;
	} else {
		value = job->unit > 1 ? time / job->unit : time;
		if (job->unit > 1 && time % job->unit >= job->unit - job->unit / 2)
			value++;
		seconds = value / job->second;
		rest = value % job->second;
	}
	op.width = seconds < 10000 ? 5 : 0;
	if (put_number(line, &op, seconds, 10))
		return FULL;
	if (WORDS && count == 6 && line->end - line->at >= 9) {
		value = eight_digits((uint32_t)rest) >> 16 | '0' * ONES;
		*line->at++ = '.';
		memcpy(line->at, &value, 8);
		line->at += 6;
		return 0;
	}
	for (at = count; at > 0; at--, rest /= 10)
		digits[at] = (uint8_t)('0' + rest % 10);
	digits[0] = '.';
	return put(line, digits, count + 1);
}
