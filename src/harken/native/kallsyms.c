/* The compact form of /proc/kallsyms: lines, sorted.
 *
 * symbols/kernel_symbols_index.py does the same in Python, and says why; it also does all texts whose lines are not as the kernel writes
 * them, which are refused here. */
#include <string.h>
#include "perf.h"

#define MODULES 512
#define BLANK 32

struct row {
	uint32_t name, name_size, owner, owner_size;  /* places in the text */
};

struct kallsyms {
	const uint8_t *text;
	uint64_t size;
	uint64_t changing;          /* take the symbols that come and go, else the others */
	uint64_t room;              /* there is room for so many lines: those without an address stand at the end, the first one last */
	uint64_t *values;
	struct row *rows;
	uint8_t *kinds;
	uint32_t *order, *spare;
	uint64_t count, addressed;
	/* what they make: room for as many, one offset more, and for all of the text */
	uint64_t *starts;
	uint32_t *offsets;
	uint16_t *owners;
	uint8_t *block, *modules;
	uint64_t block_size, modules_size;
};

static int digit_of(uint8_t letter)
{
	if (letter >= '0' && letter <= '9')
		return letter - '0';
	letter |= 32;
	return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static int is_one_of(uint8_t letter, const char *letters)
{
	return letter && strchr(letters, letter) != NULL;
}

/* "ADDRESS TYPE NAME", or that and a tab and "[OWNER]"; 0 if it is something else. */
static int read_line(const struct kallsyms *table, uint64_t start, uint64_t end, uint64_t *value, struct row *row)
{
	const uint8_t *text = table->text;
	uint64_t at = start + 19;

	if (end - start < 20 || text[start + 16] != ' ' || text[start + 17] <= BLANK || text[start + 18] != ' ')
		return 0;
	*value = 0;
	for (uint64_t place = start; place < start + 16; place++) {
		int digit = digit_of(text[place]);

		if (digit < 0)
			return 0;
		*value = *value << 4 | (uint64_t)digit;
	}
	while (at < end && text[at] > BLANK)
		at++;
	*row = (struct row){(uint32_t)(start + 19), (uint32_t)(at - start - 19), 0, 0};
	if (!row->name_size || at == end)
		return row->name_size > 0;
	if (end - at < 4 || text[at] != '\t' || text[at + 1] != '[' || text[end - 1] != ']')
		return 0;
	row->owner = (uint32_t)at + 2;
	row->owner_size = (uint32_t)(end - at - 3);
	for (at += 2; at < end - 1; at++)
		if (text[at] <= BLANK || text[at] == '[' || text[at] == ']')
			return 0;
	return 1;
}

static int is_changing(const uint8_t *owner, uint64_t size)
{
	return (size == 3 && !memcmp(owner, "bpf", 3)) || (size >= 11 && !memcmp(owner, "__builtin__", 11));
}

static int read_lines(struct kallsyms *table)
{
	uint64_t others = 0;

	for (uint64_t start = 0, end; start < table->size; start = end + 1) {
		const uint8_t *newline = memchr(table->text + start, '\n', table->size - start);
		struct row row;
		uint64_t value, place;
		uint8_t kind;

		end = newline ? (uint64_t)(newline - table->text) : table->size;
		if (table->addressed + others >= table->room || !read_line(table, start, end, &value, &row))
			return 0;
		if ((uint64_t)is_changing(table->text + row.owner, row.owner_size) != table->changing)
			continue;
		kind = table->text[start + 17];
		place = is_one_of(kind, "AaUNn?-") ? table->room - ++others : table->addressed++;
		table->values[place] = value;
		table->rows[place] = row;
		table->kinds[place] = kind;
	}
	table->count = table->addressed + others;
	return 1;
}

/* Puts the best of the symbols at one address behind the others. */
static void best_last(struct kallsyms *table)
{
	uint32_t *order = table->order;

	for (uint64_t first = 0, end; first < table->addressed; first = end) {
		uint64_t at = first, better = 0;

		for (end = first + 1; end < table->addressed && table->values[order[end]] == table->values[order[first]]; end++)
			;
		if (end - first < 2)
			continue;
		for (uint64_t place = first; place < end; place++) {
			if (is_one_of(table->kinds[order[place]], "TtWwDdBb"))
				table->spare[better++] = order[place];
			else
				order[at++] = order[place];
		}
		memcpy(order + at, table->spare, better * sizeof(*order));
	}
}

/* The number of a module, which gets one if it has none; 0 if there are too many. */
static uint64_t module_of(struct kallsyms *table, const struct row *row, struct row *known, uint64_t *count, uint64_t last)
{
	const uint8_t *name = table->text + row->owner;

	if (last && known[last].owner_size == row->owner_size && !memcmp(table->text + known[last].owner, name, row->owner_size))
		return last;
	for (uint64_t number = 1; number < *count; number++)
		if (known[number].owner_size == row->owner_size && !memcmp(table->text + known[number].owner, name, row->owner_size))
			return number;
	if (*count == MODULES)
		return 0;
	known[*count] = *row;
	table->modules[table->modules_size++] = 0;
	memcpy(table->modules + table->modules_size, name, row->owner_size);
	table->modules_size += row->owner_size;
	return (*count)++;
}

/* Fills the columns; 0 if a line is none as the kernel writes them, or there are too many modules. */
EXPORT int harken_kallsyms(struct kallsyms *table)
{
	struct row known[MODULES];
	uint64_t modules = 1, last = 0, others, base;

	table->count = table->addressed = table->block_size = table->modules_size = 0;
	if (table->size > UINT32_MAX || table->room >= UINT32_MAX || !read_lines(table))
		return 0;
	for (uint64_t place = 0; place < table->addressed; place++)
		table->order[place] = (uint32_t)place;
	harken_perf_order((const uint8_t *)table->values, 8, table->addressed, table->order, table->spare);
	best_last(table);
	others = table->count - table->addressed;
	base = table->room - others;
	for (uint64_t place = 0; place < others; place++)
		table->order[table->addressed + place] = (uint32_t)(others - 1 - place);
	harken_perf_order((const uint8_t *)(table->values + base), 8, others, table->order + table->addressed, table->spare);
	for (uint64_t place = table->addressed; place < table->count; place++)
		table->order[place] += (uint32_t)base;
	for (uint64_t place = 0; place < table->count; place++) {
		const struct row *row = &table->rows[table->order[place]];

		table->starts[place] = table->values[table->order[place]];
		table->offsets[place] = (uint32_t)table->block_size;
		table->owners[place] = 0;
		if (row->owner_size) {
			last = module_of(table, row, known, &modules, last);
			if (!last)
				return 0;
			table->owners[place] = (uint16_t)last;
		}
		memcpy(table->block + table->block_size, table->text + row->name, row->name_size);
		table->block_size += row->name_size;
		table->block[table->block_size++] = 0;
	}
	table->offsets[table->count] = (uint32_t)table->block_size;
	return 1;
}
