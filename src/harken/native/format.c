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

static const char hundred[] =
	"0001020304050607080910111213141516171819202122232425262728293031323334"
	"3536373839404142434445464748495051525354555657585960616263646566676869"
	"707172737475767778798081828384858687888990919293949596979899";

static uint8_t *decimal_before(uint8_t *end, uint64_t value)
{
	while (value >= 100) {
		uint64_t rest = value / 100;

		end -= 2;
		memcpy(end, hundred + 2 * (value - rest * 100), 2);
		value = rest;
	}
	if (value >= 10) {
		end -= 2;
		memcpy(end, hundred + 2 * value, 2);
		return end;
	}
	*--end = (uint8_t)('0' + value);
	return end;
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

/* A number with sign, prefix, precision and width, in Python's order of them. */
int put_number(struct line *line, const struct op *op, uint64_t value, int base)
{
	uint8_t letters[24], head[4];
	uint8_t *end = letters + sizeof(letters), *digits;
	uint64_t size, heads = 0, zeros = 0, blanks, width = op->width;
	int negative = op->flags & SIGNED && value >> 63;

	digits = digits_before(end, negative ? -value : value, base, op->flags & UPPER_CASE);
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
	uint8_t digits[40];
	uint64_t value, rest, at, count = job->digits < sizeof(digits) ? job->digits : sizeof(digits) - 1;

	if (!job->second)
		return put_number(line, &op, time, 10);
	value = job->unit > 1 ? time / job->unit : time;
	if (job->unit > 1 && time % job->unit >= job->unit - job->unit / 2)
		value++;
	rest = value % job->second;
	op.width = 5;
	if (put_number(line, &op, value / job->second, 10))
		return FULL;
	for (at = count; at > 1; at -= 2) {
		uint64_t next = rest / 100;

		memcpy(digits + at - 1, hundred + 2 * (rest - next * 100), 2);
		rest = next;
	}
	if (at)
		digits[at] = (uint8_t)('0' + rest % 10);
	digits[0] = '.';
	return put(line, digits, count + 1);
}
