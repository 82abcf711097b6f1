/* The two tracers whose lines depend on one another: function, indented by callers, and function_graph. */
#include "text.h"

static const char blank[] = "             |  ";

/* A field of the line's record; what lies behind the record's end is 0. */
static uint64_t field_of(const struct line *line, const struct field *field)
{
	uint64_t room = line->stop - line->start;

	if (field->offset > room || field->size > room - field->offset || field->size > 8)
		return 0;
	return load(line->record + line->start + field->offset, field->size, (int)field->is_signed);
}

/* The place of the caller on its CPU's stack of names, which is changed: libtraceevent's way (render/ftrace_functions.py). */
static uint64_t place_of(uint32_t *stack, uint32_t parent, uint32_t child)
{
	uint32_t *depth = &stack[DEEPEST];
	uint32_t at = 0;

	while (at < *depth && stack[at] != parent)
		at++;
	if (at == *depth) {
		at = 0;
		stack[0] = parent;
		if (!*depth)
			*depth = 1;
	}
	if (child && at + 1 < DEEPEST) {
		stack[at + 1] = child;
		if (*depth < at + 2)
			*depth = at + 2;
	}
	return at;
}

static int put_repeats(struct line *line)
{
	const struct job *job = line->job;
	struct op plain = { 0 };
	uint64_t ago = field_of(line, &job->repeats[3]) << 32 | field_of(line, &job->repeats[4]);
	int result = put(line, " (count: ", 9);

	if (!result)
		result = put_number(line, &plain, field_of(line, &job->repeats[2]), 10);
	if (!result)
		result = put(line, "  last_ts: ", 11);
	if (!result)
		result = put_time(line, line->time > ago ? line->time - ago : 0);
	return result ? result : put(line, ")", 1);
}

/* How many arguments the line's record has. */
static uint64_t count_arguments(const struct line *line, const struct arguments *arguments)
{
	uint64_t room = line->stop - line->start, count;

	if (!arguments->templates || (arguments->size != 4 && arguments->size != 8) || room <= arguments->offset)
		return 0;
	count = (room - arguments->offset) / arguments->size;
	return count > MOST_ARGUMENTS ? MOST_ARGUMENTS : count;
}

/* How the marks of templates show values: formats.function_arguments.MARKS. */
static const struct {
	uint8_t base, bits; /* bits that count; 0: all, with a sign if decimal */
} marks[15] = { [1] = { 16, 0 }, [2] = { 10, 0 }, [3] = { 16, 8 }, [4] = { 16, 16 }, [5] = { 16, 32 }, [6] = { 10, 8 }, [7] = { 10, 16 }, [14] = { 10, 32 } };

/* "file=0x1234, count=5": the text of a template, in which some bytes stand for values. */
static int put_arguments(struct line *line, const struct arguments *arguments, uint64_t func, uint64_t count)
{
	static const struct op decimal = { .flags = SIGNED }, plain = { 0 };
	uint64_t at = line->start + arguments->offset, from = 0, i;
	struct piece form;
	const uint8_t *text;
	int result = find_number(line, arguments->templates + (uint32_t)count - 1, func, &form);

	if (result)
		return result;
	text = line->job->table->texts + form.text;
	for (i = 0; i < form.text_size; i++) {
		if (text[i] > 14 || !marks[text[i]].base)
			continue;
		result = put(line, text + from, i - from);
		if (!result && count) {
			uint32_t bits = marks[text[i]].bits, base = marks[text[i]].base;
			uint64_t value = load(line->record + at, arguments->size, !bits && base == 10);

			if (bits)
				value &= (1ull << bits) - 1;
			result = put_number(line, base == 10 ? &decimal : &plain, value, (int)base);
			at += arguments->size;
			count--;
		}
		if (result)
			return result;
		from = i + 1;
	}
	return put(line, text + from, form.text_size - from);
}

int put_function(struct line *line, int repeats)
{
	const struct job *job = line->job;
	const struct field *fields = repeats ? job->repeats : job->function;
	struct piece child, parent;
	uint64_t depth = 0, func = field_of(line, &fields[0]), count = repeats ? 0 : count_arguments(line, &job->function_arguments);
	int result = find_number(line, (uint32_t)job->function_names, func, &child);

	if (!result)
		result = find_number(line, (uint32_t)job->function_names, field_of(line, &fields[1]), &parent);
	if (result)
		return result;
	/* doing it again for the same record, when the output was full, changes nothing */
	if (parent.id && job->indent)
		depth = place_of(line->stream->stack, parent.id, child.id);
	result = put_byte(line, ' ', 3 * depth);
	if (!result)
		result = put_piece(line, &child);
	if (!result && count) {
		result = put(line, "(", 1);
		if (!result)
			result = put_arguments(line, &job->function_arguments, func, count);
		if (!result)
			result = put(line, ")", 1);
	}
	if (!result && job->parent)
		result = put(line, " <-- ", 5);
	if (!result && job->parent)
		result = put_piece(line, &parent);
	return result || !repeats ? result : put_repeats(line);
}

/* "+ 12.345 us   |  " */
static int put_duration(struct line *line, uint64_t duration)
{
	static const struct op plain, thousandths = { .flags = ZERO, .width = 3 };
	uint64_t micros = duration / 1000;
	uint8_t *start = line->at + 2;
	char mark = duration > 1000000000 ? '$' : duration > 1000000 ? '#' : duration > 100000 ? '!' : duration > 10000 ? '+' : ' ';
	int64_t size;

	if (put_byte(line, (uint8_t)mark, 1) || put_byte(line, ' ', 1) || put_number(line, &plain, micros, 10))
		return FULL;
	if (line->at - start < 7 && (put_byte(line, '.', 1) || put_number(line, &thousandths, duration % 1000, 10)))
		return FULL;
	size = line->at - start;
	if (put(line, " us ", 4) || put_byte(line, ' ', size < 7 ? 7 - (uint64_t)size : 0))
		return FULL;
	return put(line, "|  ", 3);
}

static int put_indent(struct line *line, int64_t depth)
{
	return put_byte(line, ' ', depth < 0 ? 0 : depth > DEEPEST ? 2 * DEEPEST : 2 * (uint64_t)depth);
}

static int put_depth(struct line *line, const struct graph *graph, int64_t depth)
{
	static const struct op number = { .flags = SIGNED };

	if (!graph->show_depth)
		return 0;
	return put(line, " (", 2) || put_number(line, &number, (uint64_t)depth, 10) || put(line, ")", 1) ? FULL : 0;
}

/* What a function returned. */
static int put_value(struct line *line, const struct graph *graph, uint64_t value)
{
	static const struct op decimal = { .flags = SIGNED }, hexadecimal = { .flags = PREFIX };
	int error = (int64_t)value < 0 && (int64_t)value >= -4095;
	int result = put(line, " (ret=", 6);

	if (result)
		return result;
	if (graph->values == 2 || (graph->values == 1 && error))
		result = put_number(line, &decimal, value, 10);
	else
		result = put_number(line, &hexadecimal, value, 16);
	return result ? result : put(line, ")", 1);
}

/* A memo's text of a number; none for memo 0. */
static int put_number_text(struct line *line, uint32_t memo, uint64_t number, uint32_t *size)
{
	struct piece entry;
	int result;

	*size = 0;
	if (!memo)
		return 0;
	result = find_number(line, memo, number, &entry);
	if (result)
		return result;
	*size = entry.text_size;
	return put_piece(line, &entry);
}

/* "name(file=0x1234, count=5)" */
static int put_call(struct line *line, const struct graph *graph)
{
	uint64_t func = field_of(line, &graph->func), count = count_arguments(line, &graph->arguments);
	struct piece name;
	int result = find_number(line, graph->calls, func, &name);

	if (result)
		return result;
	if (!count || !name.id || !name.text_size)
		return put_piece(line, &name);
	/* the memo's text ends with "()" */
	if (put(line, line->job->table->texts + name.text, name.text_size - 1))
		return FULL;
	result = put_arguments(line, &graph->arguments, func, count);
	return result ? result : put(line, ")", 1);
}

/* Whether a return ends the call that began right before it. */
int same_call(const struct line *entry, const struct line *leave)
{
	const struct job *job = entry->job;
	uint64_t pid = 4; /* offset of common_pid */

	if (entry->stop - entry->start < job->entry->needs || leave->stop - leave->start < job->leave->needs)
		return 0;
	if (field_of(entry, &job->entry->func) != field_of(leave, &job->leave->func))
		return 0;
	if (load(entry->record + entry->start + pid, 4, 0) != load(leave->record + leave->start + pid, 4, 0))
		return 0;
	return job->entry->any_cpu || entry->stream->number == leave->stream->number;
}

/* An entry; with its return, if that comes next (else NULL). */
int put_entry(struct line *line, const struct line *leave)
{
	const struct graph *graph = line->job->entry, *end = line->job->leave;
	int64_t depth = (int64_t)field_of(line, &graph->depth);
	uint32_t size;
	int result;

	if (line->stop - line->start < graph->needs)
		return OMIT;
	if (leave)
		result = put_duration(line, field_of(leave, &end->end) - field_of(leave, &end->begin));
	else
		result = put(line, blank, sizeof(blank) - 1);
	if (!result)
		result = put_indent(line, depth);
	if (!result)
		result = put_call(line, graph);
	if (!result && leave)
		result = put(line, ";", 1) ? FULL : put_depth(line, graph, depth);
	if (!result && graph->back.size)
		result = put_number_text(line, graph->backs, field_of(line, &graph->back), &size);
	if (!result && !leave)
		result = put(line, " {", 2) ? FULL : put_depth(line, graph, depth);
	if (!result && leave && end->values && end->value.size)
		result = put_value(line, end, field_of(leave, &end->value));
	return result;
}

int put_exit(struct line *line)
{
	const struct graph *graph = line->job->leave;
	int64_t depth = (int64_t)field_of(line, &graph->depth);
	uint32_t size;
	int result;

	if (line->stop - line->start < graph->needs)
		return OMIT;
	result = put_duration(line, field_of(line, &graph->end) - field_of(line, &graph->begin));
	if (!result)
		result = put_indent(line, depth);
	if (!result)
		result = put(line, "}", 1);
	if (!result && graph->tail) {
		result = put_number_text(line, graph->tail, field_of(line, &graph->func), &size);
		if (result || !size) /* nothing stands behind a function without a name */
			return result;
	}
	if (!result)
		result = put_depth(line, graph, depth);
	if (!result && graph->values && graph->value.size)
		result = put_value(line, graph, field_of(line, &graph->value));
	return result;
}
