/* Runs the program of an event: its text, of numbers and texts in the record and of texts that Python made once (memos). */
#include "text.h"

void key_begin(struct line *line, uint32_t memo)
{
	memcpy(line->key, &memo, sizeof(memo));
	line->key_size = sizeof(memo);
}

void key_add(struct line *line, const void *bytes, uint64_t size)
{
	if (size > KEY_MAX || line->key_size + size > KEY_MAX) {
		line->key_size = KEY_MAX + 1;
		return;
	}
	memcpy(line->key + line->key_size, bytes, size);
	line->key_size += (uint32_t)size;
}

/* Looks the line's key up; what is missing is told in the job.  A key that is too long becomes the record's own. */
int find_text(struct line *line, const struct entry **entry)
{
	struct job *job = line->job;
	uint32_t memo;

	memcpy(&memo, line->key, sizeof(memo));
	if (line->key_size > KEY_MAX) {
		uint64_t own[3] = { job->serial, (uint64_t)(line->stream - job->streams), line->stream->at };

		key_begin(line, memo);
		key_add(line, own, sizeof(own));
	}
	*entry = table_find(job->table, line->key, line->key_size);
	if (*entry)
		return 0;
	memcpy(job->key, line->key, line->key_size);
	job->key_size = line->key_size;
	job->miss_memo = memo;
	job->miss_stream = (uint64_t)(line->stream - job->streams);
	job->miss_index = line->stream->at;
	return MISS;
}

int learn_number(struct line *line, uint32_t memo, uint64_t number, struct piece *piece)
{
	const struct entry *entry;
	int result;

	key_begin(line, memo);
	key_add(line, &number, sizeof(number));
	result = find_text(line, &entry);
	if (result)
		return result;
	known_put(line->job->table, memo, number, entry);
	*piece = (struct piece){ entry->text, entry->text_size, entry->id };
	return 0;
}

static int put_memo(struct line *line)
{
	const struct entry *entry;
	struct piece piece;
	uint32_t memo;
	uint64_t number;
	int result;

	if (line->key_size == sizeof(memo) + sizeof(number)) {
		memcpy(&memo, line->key, sizeof(memo));
		memcpy(&number, line->key + sizeof(memo), sizeof(number));
		result = find_number(line, memo, number, &piece);
		return result ? result : put_piece(line, &piece);
	}
	result = find_text(line, &entry);
	return result ? result : put(line, line->job->table->texts + entry->text, entry->text_size);
}

/* What of the memory between two places lies within the record's. */
static const uint8_t *memory(const struct line *line, uint64_t from, uint64_t to, uint64_t *size)
{
	if (from > line->length)
		from = line->length;
	if (to > line->length)
		to = line->length;
	*size = to > from ? to - from : 0;
	return line->record + from;
}

/* The bytes of sixteen that are in front of the first zero byte. */
static inline uint64_t length_16(const uint8_t *text)
{
	const uint64_t ones = 0x0101010101010101u;
	uint64_t low, high, in_low, in_high;

	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) {
		const uint8_t *end = memchr(text, 0, 16);

		return end ? (uint64_t)(end - text) : 16;
	}
	memcpy(&low, text, 8);
	memcpy(&high, text + 8, 8);
	in_low = (low - ones) & ~low & ones << 7; /* the lowest bit is that of the first zero byte */
	in_high = (high - ones) & ~high & ones << 7;
	return in_low ? (uint64_t)__builtin_ctzll(in_low) / 8 : in_high ? 8 + (uint64_t)__builtin_ctzll(in_high) / 8 : 16;
}

/* A C string in the record.  Python counts characters: where bytes are not that, it makes the text itself. */
static int put_string(struct line *line, const struct op *op, uint64_t from, uint64_t to)
{
	uint64_t size, blanks;
	const uint8_t *text = memory(line, from, to, &size);
	const uint8_t *end;

	if (size == 16 && !op->width && !op->place && line->end - line->at >= 16) { /* the name of a task */
		memcpy(line->at, text, 16);
		line->at += length_16(text);
		return 0;
	}
	end = memchr(text, 0, size);
	if (end)
		size = (uint64_t)(end - text);
	if (!op->width && !op->place)
		return put(line, text, size);
	if (!is_ascii(text, size)) {
		key_begin(line, (uint32_t)op->value);
		key_add(line, text, size);
		return put_memo(line);
	}
	if (op->place && op->place - 1 < size)
		size = op->place - 1;
	blanks = size < op->width ? op->width - size : 0;
	if (!(op->flags & LEFT) && put_byte(line, ' ', blanks))
		return FULL;
	if (put(line, text, size))
		return FULL;
	return op->flags & LEFT ? put_byte(line, ' ', blanks) : 0;
}

static int put_foreign(struct line *line)
{
	const struct job *job = line->job;
	const struct stream *stream = line->stream;
	const struct span *span = &stream->texts[stream->text_at];

	if (stream->text_at >= stream->text_count || span->index != stream->at)
		return BROKEN;
	if (span->start > job->foreign_size || span->size > job->foreign_size - span->start)
		return BROKEN;
	return put(line, job->foreign + span->start, span->size);
}

static uint64_t compute(uint8_t code, uint64_t a, uint64_t b)
{
	switch (code) {
	case OP_ADD: return a + b;
	case OP_SUB: return a - b;
	case OP_MUL: return a * b;
	case OP_AND: return a & b;
	case OP_OR: return a | b;
	case OP_XOR: return a ^ b;
	case OP_SHL: return a << (b & 63);
	case OP_SHR: return a >> (b & 63);
	case OP_DIV: return b ? a / b : 0;
	case OP_MOD: return b ? a % b : 0;
	case OP_EQ: return a == b;
	case OP_NE: return a != b;
	case OP_LT: return a < b;
	case OP_LE: return a <= b;
	case OP_LTS: return (int64_t)a < (int64_t)b;
	case OP_LES: return (int64_t)a <= (int64_t)b;
	case OP_MIN: return a < b ? a : b;
	case OP_MINS: return (int64_t)a < (int64_t)b ? a : b;
	case OP_MAX: return a > b ? a : b;
	default: return (int64_t)a > (int64_t)b ? a : b; /* OP_MAXS */
	}
}

/* Operations on numbers; 0, or BROKEN for a program that nobody made. */
static int calculate(struct line *line, const struct op *op)
{
	uint64_t *top = &line->stack[line->top];

	if (op->code == OP_NEG || op->code == OP_NOT || op->code == OP_EXTEND) {
		if (line->top < 1)
			return BROKEN;
		if (op->code == OP_EXTEND)
			top[-1] = load((const uint8_t *)&top[-1], op->flags & 8 ? 8 : op->flags & 7, 1);
		else
			top[-1] = op->code == OP_NEG ? -top[-1] : !top[-1];
		return 0;
	}
	if (line->top < 2)
		return BROKEN;
	top[-2] = compute(op->code, top[-2], top[-1]);
	line->top--;
	return 0;
}

static inline int push(struct line *line, uint64_t value)
{
	if (line->top >= STACK)
		return BROKEN;
	line->stack[line->top++] = value;
	return 0;
}

/* A number of the record; 0 if it lies outside. */
static inline uint64_t loaded(const struct line *line, const struct op *op)
{
	uint32_t size = op->flags & 15;

	if (size > 8 || op->place > line->length - line->start || size > line->length - line->start - op->place)
		return 0;
	return load(line->record + line->start + op->place, size, op->flags & SIGNED);
}

/* The two ends of a text whose place is in the lower half of a number, and its size in the upper one. */
static int push_dynamic(struct line *line, const struct op *op)
{
	uint64_t where = loaded(line, op), from = line->start + (where & 0xFFFF), to = from + (where >> 16);

	return push(line, from) || push(line, to < line->stop ? to : line->stop) ? BROKEN : 0;
}

/* Operations that put numbers on the stack. */
static int produce(struct line *line, const struct op *op)
{
	switch (op->code) {
	case OP_CONST:
		return push(line, op->value);
	case OP_START:
		return push(line, line->start + op->value);
	case OP_STOP:
		return push(line, line->stop);
	case OP_GET:
		return push(line, line->variables[op->place % VARIABLES]);
	case OP_DYNAMIC:
		return push_dynamic(line, op);
	default: /* OP_LOAD */
		return push(line, loaded(line, op));
	}
}

/* Operations that take numbers from the stack to write or to remember; their operands are on it. */
static int consume(struct line *line, const struct op *op)
{
	const uint64_t *top = &line->stack[line->top];
	uint64_t size;
	const uint8_t *place;

	switch (op->code) {
	case OP_SET:
		line->variables[op->place % VARIABLES] = top[-1];
		return 0;
	case OP_DROP:
		line->top--;
		return 0;
	case OP_DEC:
	case OP_HEX:
		line->top--;
		return put_number(line, op, top[-1], op->code == OP_HEX ? 16 : 10);
	case OP_KEY_INT:
		line->top--;
		key_add(line, &top[-1], 8);
		return 0;
	case OP_STRING:
		line->top -= 2;
		return put_string(line, op, top[-2], top[-1]);
	default: /* OP_KEY_MEMORY */
		line->top -= 2;
		place = memory(line, top[-2], top[-1], &size);
		key_add(line, &size, sizeof(size));
		key_add(line, place, size);
		return 0;
	}
}

static int write_text(struct line *line, const struct op *op)
{
	switch (op->code) {
	case OP_TEXT:
		return put_literal(line, op->value, op->place);
	case OP_KEY:
		key_begin(line, (uint32_t)op->value);
		return 0;
	case OP_MEMO:
		return put_memo(line);
	case OP_FOREIGN:
		return put_foreign(line);
	default:
		return put_function(line, op->code == OP_REPEATS);
	}
}

/* Any operation but jumps. */
static int step(struct line *line, const struct op *op)
{
	uint32_t takes = op->code == OP_STRING || op->code == OP_KEY_MEMORY ? 2 : 1;

	if (op->code >= OP_ADD && op->code <= OP_MAXS)
		return calculate(line, op);
	if (op->code == OP_CONST || (op->code >= OP_LOAD && op->code <= OP_STOP) || op->code == OP_GET || op->code == OP_DYNAMIC)
		return produce(line, op);
	if (op->code != OP_SET && op->code != OP_DROP && (op->code < OP_DEC || op->code > OP_STRING) &&
	    op->code != OP_KEY_INT && op->code != OP_KEY_MEMORY)
		return write_text(line, op);
	return line->top < takes ? BROKEN : consume(line, op);
}

/* Runs from an op to the next OP_END.  Jumps lead forward only, so it ends. */
int run_program(struct line *line, uint32_t start)
{
	const struct op *ops = line->job->ops;
	uint64_t at = start, count = line->job->op_count;
	int result = 0;

	line->top = 0;
	for (; at < count && !result; at++) {
		const struct op *op = &ops[at];

		switch (op->code) {
		case OP_END:
			return 0;
		case OP_TEXT: /* the operations that most programs are made of have the short way */
			result = put_literal(line, op->value, op->place);
			break;
		case OP_LOAD:
			if (at + 1 < count && (op[1].code == OP_DEC || op[1].code == OP_HEX)) {
				at++;
				result = put_number(line, &op[1], loaded(line, op), op[1].code == OP_HEX ? 16 : 10);
			} else {
				result = push(line, loaded(line, op));
			}
			break;
		case OP_START:
			result = push(line, line->start + op->value);
			break;
		case OP_STRING:
			if (line->top < 2)
				return BROKEN;
			line->top -= 2;
			result = put_string(line, op, line->stack[line->top], line->stack[line->top + 1]);
			break;
		case OP_JUMP:
		case OP_JUMP_ZERO:
			if (op->place <= at || (op->code == OP_JUMP_ZERO && line->top < 1))
				return BROKEN;
			if (op->code == OP_JUMP || !line->stack[--line->top])
				at = op->place - 1;
			break;
		default:
			result = step(line, op);
		}
	}
	return result ? result : BROKEN;
}
