/* Lines of ftrace's records: what the parts of it share.  src/harken/native/text.py writes the programs. */
#ifndef HARKEN_TEXT_H
#define HARKEN_TEXT_H

#include <string.h>
#include "table.h"

#define STACK 24     /* numbers on a program's stack; the compiler asks for no more */
#define VARIABLES 8
#define MOST_ARGUMENTS 16 /* that are shown: formats.function_arguments.MOST */
#define DEEPEST 1000 /* calls that a graph or function trace is indented by: ftrace_functions.DEEPEST */

/* what a call ends with; the functions that write parts of lines give 0 or what keeps them from it */
enum result {
	DONE,   /* no more records */
	FULL,   /* the next line does not fit into the rest of the output */
	MISS,   /* a text is not in the table: its key is in the job */
	OMIT,   /* the record has no line of its own; never given to the caller */
	BROKEN, /* the job contradicts itself */
};

enum code {
	OP_END, OP_TEXT, OP_CONST, OP_LOAD, OP_START, OP_STOP, OP_SET, OP_GET, OP_DROP,
	OP_ADD, OP_SUB, OP_MUL, OP_AND, OP_OR, OP_XOR, OP_SHL, OP_SHR, OP_DIV, OP_MOD, OP_NEG, OP_NOT, OP_EXTEND,
	OP_EQ, OP_NE, OP_LT, OP_LE, OP_LTS, OP_LES, OP_MIN, OP_MINS, OP_MAX, OP_MAXS,
	OP_JUMP, OP_JUMP_ZERO,
	OP_DEC, OP_HEX, OP_STRING, OP_KEY, OP_KEY_INT, OP_KEY_MEMORY, OP_MEMO, OP_FOREIGN, OP_FUNCTION, OP_REPEATS,
	OP_DYNAMIC, /* where a text is that a number of the record (__data_loc) tells the place and size of */
};

/* flags of OP_DEC, OP_HEX and OP_STRING */
#define LEFT 1
#define ZERO 2
#define PLUS 4
#define BLANK 8
#define SIGNED 16
#define PREFIX 32
#define UPPER_CASE 64

struct op {
	uint8_t code;
	uint8_t flags;   /* OP_LOAD: size, and SIGNED */
	uint16_t width;
	uint32_t place;  /* offset, target of a jump, precision plus 1 */
	uint64_t value;
};

enum kind { KIND_NONE, KIND_TEXT, KIND_ENTRY, KIND_EXIT };

/* one event's way to a line */
struct event {
	uint32_t kind;
	uint32_t program;  /* its first op; the name for graph events */
	uint32_t needs;    /* bytes that the program takes from a record: shorter ones are filled up with zeros */
	uint32_t ended;    /* whether a line break at the text's end is dropped */
};

/* an integer field of a graph event; size 0 if there is none */
struct field {
	uint32_t offset, size, is_signed, unused;
};

/* Arguments of calls, from an offset to the record's end, each of size bytes.  The template with one value is of the memo templates, that with
   two values of the next one, ... up to MOST_ARGUMENTS; 0 for none. */
struct arguments {
	uint32_t templates, offset, size, unused;
};

struct graph {
	struct field func, depth, begin, end, value, back;
	uint32_t needs;    /* shorter records have no line */
	uint32_t calls;    /* memos: name and parentheses, */
	uint32_t tail;     /* comment behind a closing brace, 0 for none */
	uint32_t backs;    /* comment with the return address, 0 for none */
	uint32_t values;   /* return values: 0 none, 1 auto, 2 decimal, 3 hexadecimal */
	uint32_t show_depth, any_cpu;
	struct arguments arguments;
};

/* text that Python made: a part of job->foreign */
struct span {
	uint64_t index, start, size;
};

/* one CPU's records of a window */
struct stream {
	const uint8_t *buffer;
	uint64_t length;
	const uint64_t *times;
	const int64_t *starts;
	const int64_t *sizes;
	const uint16_t *types;
	uint64_t count;
	const struct span *marks;     /* lines that stand before a record, by its index */
	uint64_t mark_count;
	const struct span *texts;     /* of the records that Python made texts for, one after the other */
	uint64_t text_count;
	uint32_t *stack;              /* of the function tracer: numbers of names, as many as DEEPEST; then how many there are */
	uint64_t number;
	/* how far it has come */
	uint64_t at, key, mark_at, text_at;
};

struct job {
	struct stream *streams;
	uint64_t stream_count;
	uint32_t *heap;               /* streams that have records, that of the earliest first */
	uint64_t heap_size;
	const uint16_t *index;        /* event id -> number of its event plus 1 */
	const struct event *events;
	uint64_t event_count;
	const struct op *ops;
	uint64_t op_count;
	const uint8_t *literals;
	uint64_t literal_size;
	const uint8_t *foreign;
	uint64_t foreign_size;
	struct table *table;
	const struct graph *entry, *leave;
	uint8_t *scratch;             /* for records that are short */
	uint64_t scratch_size;
	uint64_t before, before_size, after, after_size; /* literals around the time */
	uint64_t unit, second, digits;
	/* of function and func_repeats: the fields ip, parent_ip; count, top_delta_ts, bottom_delta_ts */
	struct field function[2], repeats[5];
	struct arguments function_arguments;
	uint64_t function_names;      /* memo of their names */
	uint64_t indent, parent;      /* whether to indent, whether to name the caller */
	uint8_t *out;
	uint64_t out_size, out_used;
	uint64_t serial;              /* number of the job, so that a record's own texts are not taken for another's */
	/* the text that is wanted: of a record of a stream */
	uint64_t miss_stream, miss_index, miss_memo, key_size;
	uint8_t key[KEY_MAX];
};

/* a line that is being written */
struct line {
	struct job *job;
	struct stream *stream;
	uint8_t *at, *end;
	const uint8_t *record;        /* the memory that start and stop are places in */
	uint64_t length, start, stop;
	uint64_t time;
	uint64_t stack[STACK], variables[VARIABLES];
	uint32_t top;
	uint32_t key_size;            /* more than KEY_MAX: the key is too long */
	uint8_t key[KEY_MAX];
};

/* Most pieces of a line are short, for which calling memcpy costs more than copying. */
static inline void copy(uint8_t *to, const uint8_t *from, uint64_t size)
{
	if (size > 64) {
		memcpy(to, from, size);
	} else if (size > 32) {
		memcpy(to, from, 32);
		memcpy(to + size - 32, from + size - 32, 32);
	} else if (size >= 16) {
		memcpy(to, from, 16);
		memcpy(to + size - 16, from + size - 16, 16);
	} else if (size >= 8) {
		memcpy(to, from, 8);
		memcpy(to + size - 8, from + size - 8, 8);
	} else if (size >= 4) {
		memcpy(to, from, 4);
		memcpy(to + size - 4, from + size - 4, 4);
	} else if (size) {
		to[0] = from[0];
		to[size / 2] = from[size / 2];
		to[size - 1] = from[size - 1];
	}
}

static inline int put(struct line *line, const void *text, uint64_t size)
{
	if (size > (uint64_t)(line->end - line->at))
		return FULL;
	copy(line->at, text, size);
	line->at += size;
	return 0;
}

static inline int put_literal(struct line *line, uint64_t start, uint64_t size)
{
	const struct job *job = line->job;

	if (start > job->literal_size || size > job->literal_size - start)
		return BROKEN;
	return put(line, job->literals + start, size);
}

/* format.c: 0 or FULL */
int put_byte(struct line *line, uint8_t byte, uint64_t count);
int put_number(struct line *line, const struct op *op, uint64_t value, int base);
int put_time(struct line *line, uint64_t time);
int is_ascii(const uint8_t *text, uint64_t size);

/* A number of the record; of a known size a copy is one move. */
static inline uint64_t load(const uint8_t *place, uint32_t size, int is_signed)
{
	uint64_t value = 0;

	switch (size) {
	case 1: value = *place; break;
	case 2: memcpy(&value, place, 2); break;
	case 4: memcpy(&value, place, 4); break;
	case 8: memcpy(&value, place, 8); return value;
	default: memcpy(&value, place, size < 8 ? size : 8);
	}
	if (is_signed && size < 8 && value >> (8 * size - 1))
		value |= ~0ull << (8 * size);
	return value;
}

/* program.c */
int run_program(struct line *line, uint32_t op);
void key_begin(struct line *line, uint32_t memo);
void key_add(struct line *line, const void *bytes, uint64_t size);
int find_text(struct line *line, const struct entry **entry);
int learn_number(struct line *line, uint32_t memo, uint64_t number, struct piece *piece);

/* The text of a memo and a number; 0, or MISS. */
static inline int find_number(struct line *line, uint32_t memo, uint64_t number, struct piece *piece)
{
	const struct known *known = known_find(line->job->table, memo, number);

	if (!known)
		return learn_number(line, memo, number, piece);
	*piece = known->piece;
	return 0;
}

static inline int put_piece(struct line *line, const struct piece *piece)
{
	return put(line, line->job->table->texts + piece->text, piece->text_size);
}

/* tracers.c */
int put_function(struct line *line, int repeats);
int put_entry(struct line *line, const struct line *next);
int put_exit(struct line *line);
int same_call(const struct line *entry, const struct line *leave);

#endif
