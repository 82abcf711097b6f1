/* Symbols of ELF files by address: which count, which of several at one address, where they end.
 *
 * symbols/symbol_table_read.py does the same in Python, and says why. */
#include <string.h>
#include "perf.h"

#define PAGE 4096
#define LONGEST 16384       /* bytes of a name that are kept, */
#define LONGEST_RANKED 4096 /* and that are looked at to choose */

struct entry {
	uint32_t name;
	uint8_t info, other;
	uint16_t section;
	uint64_t value, size;
};

struct strings {
	const uint8_t *text;
	uint64_t size;
};

struct symbols {
	/* those that count, in the order of the file: names are places in strings, whose number is in the upper half */
	uint64_t *values, *sizes, *names;
	uint8_t *infos;
	uint64_t count;
	const struct strings *strings;
	uint64_t string_count;
	/* indexes: the best at each address, by address; the others */
	uint32_t *chosen, *others;
	uint64_t chosen_count, other_count;
	uint64_t block_size;
	/* what they make */
	uint64_t *starts, *ends, *lengths, *alias_starts, *alias_lengths;
	uint32_t *offsets;
	uint8_t *block;
	/* pieces of the addresses where symbols lie in others; room for twice as many as are chosen */
	uint64_t *bounds;
	int64_t *inner;
	uint32_t *stack;
	uint64_t bound_count;
};

struct filter {
	const struct entry *entries;
	uint64_t count;
	const uint8_t *strings;
	uint64_t string_size;
	const uint8_t *sections;    /* what each holds: enum section */
	uint64_t base;              /* of names */
	const uint64_t *known;      /* addresses that are not wanted, */
	const uint32_t *known_order; /* and their order */
	uint64_t known_count;
	uint64_t no_dollars;        /* names with $ are marks of the assembler */
};

enum section { LOADED = 1, CODE = 2 };
enum kind { NOTYPE, OBJECT, FUNC, IFUNC = 10 };
enum binding { GLOBAL = 1, WEAK = 2, UNIQUE = 10 };

static int is_known(const struct filter *filter, uint64_t value)
{
	uint64_t low = 0, high = filter->known_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2, other = filter->known[filter->known_order[middle]];

		if (other == value)
			return 1;
		if (other < value)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

static int is_wanted(const struct filter *filter, const struct entry *entry)
{
	uint8_t kind = entry->info & 15, section = filter->sections[entry->section], hidden = entry->other & 3;

	if (kind != OBJECT && kind != FUNC && kind != IFUNC && kind != NOTYPE)
		return 0;
	if (!(section & LOADED) || entry->name >= filter->string_size || !filter->strings[entry->name])
		return 0;
	if (kind == NOTYPE && (!(section & CODE) || hidden == 1 || hidden == 2))
		return 0;
	if (filter->no_dollars && filter->strings[entry->name] == '$')
		return 0;
	return !filter->known_count || !is_known(filter, entry->value);
}

/* Adds the symbols of a table that count; there is room for all of its entries. */
EXPORT void harken_table_filter(const struct filter *filter, struct symbols *symbols)
{
	uint64_t count = symbols->count;

	for (uint64_t index = 0; index < filter->count; index++) {
		const struct entry *entry = &filter->entries[index];

		if (!is_wanted(filter, entry))
			continue;
		symbols->values[count] = entry->value;
		symbols->sizes[count] = entry->size;
		symbols->infos[count] = entry->info;
		symbols->names[count++] = filter->base | entry->name;
	}
	symbols->count = count;
}

/* A name, up to a limit; its size. */
static uint64_t name_of(const struct symbols *symbols, uint64_t index, uint64_t limit, const uint8_t **name)
{
	uint64_t table = symbols->names[index] >> 32, start = symbols->names[index] & UINT32_MAX, size;
	const uint8_t *end;

	*name = NULL;
	if (table >= symbols->string_count || start >= symbols->strings[table].size)
		return 0;
	size = symbols->strings[table].size - start;
	size = size < limit ? size : limit;
	*name = symbols->strings[table].text + start;
	end = memchr(*name, 0, size);
	return end ? (uint64_t)(end - *name) : size;
}

/* The same without its version: memcpy@@GLIBC_2.14. */
static uint64_t plain_name_of(const struct symbols *symbols, uint64_t index, const uint8_t **name)
{
	uint64_t size = name_of(symbols, index, LONGEST, name);
	const uint8_t *at = size ? memchr(*name, '@', size) : NULL;

	if (!at || at == *name || (size >= 4 && !memcmp(*name + size - 4, "@plt", 4)))
		return size;
	return (uint64_t)(at - *name);
}

/* How well a symbol names its address: model.preference, as numbers that are compared one after the other. */
static void rank(const struct symbols *symbols, uint64_t index, int64_t ranks[5])
{
	const uint8_t *name;
	uint64_t size = name_of(symbols, index, LONGEST_RANKED, &name), underscores = 0;
	uint8_t binding = symbols->infos[index] >> 4;

	while (underscores < size && name[underscores] == '_')
		underscores++;
	ranks[0] = symbols->sizes[index] > 0;
	ranks[1] = binding != WEAK;
	ranks[2] = binding == GLOBAL || binding == UNIQUE;
	ranks[3] = -(int64_t)underscores;
	ranks[4] = (int64_t)size;
}

static int is_better(const struct symbols *symbols, uint64_t one, uint64_t other)
{
	int64_t left[5], right[5];

	rank(symbols, one, left);
	rank(symbols, other, right);
	for (unsigned int place = 0; place < 5; place++)
		if (left[place] != right[place])
			return left[place] > right[place];
	return 0;
}

/* Finds the best symbol at each address, and how many bytes the names of all take.  order and spare have room for all. */
EXPORT void harken_table_choose(struct symbols *symbols, uint32_t *order, uint32_t *spare)
{
	const uint8_t *name;

	for (uint64_t index = 0; index < symbols->count; index++)
		order[index] = (uint32_t)index;
	harken_perf_order((const uint8_t *)symbols->values, 8, symbols->count, order, spare);
	symbols->chosen_count = symbols->other_count = symbols->block_size = 0;
	for (uint64_t place = 0; place < symbols->count; place++) {
		uint32_t index = order[place], *best = symbols->chosen + symbols->chosen_count - 1;

		if (!place || symbols->values[index] != symbols->values[*best]) {
			symbols->chosen[symbols->chosen_count++] = index;
		} else if (symbols->names[index] != symbols->names[*best]) {
			uint32_t worse = index;

			if (is_better(symbols, index, *best)) {
				worse = *best;
				*best = index;
			}
			symbols->others[symbols->other_count++] = worse;
		} else {
			continue;
		}
		symbols->block_size += plain_name_of(symbols, index, &name) + 1;
	}
}

static uint64_t put_name(const struct symbols *symbols, uint64_t index, uint64_t at)
{
	const uint8_t *name;
	uint64_t size = plain_name_of(symbols, index, &name);

	if (size)
		memcpy(symbols->block + at, name, size);
	symbols->block[at + size] = 0;
	return at + size + 1;
}

/* Where a symbol ends: by its size, else where the next one starts, the last of all with the following page. */
static uint64_t end_of(const struct symbols *symbols, uint64_t place)
{
	uint64_t start = symbols->starts[place], size = symbols->lengths[place], page;

	if (size)
		return size > UINT64_MAX - start ? UINT64_MAX : start + size;
	if (place + 1 < symbols->chosen_count)
		return symbols->starts[place + 1];
	page = start / PAGE + (start % PAGE != 0) + 1;
	return page > UINT64_MAX / PAGE ? UINT64_MAX : page * PAGE;
}

/* The chosen ones, then the others.  Returns whether some lie in others. */
EXPORT int harken_table_fill(struct symbols *symbols)
{
	uint64_t at = 0, chosen = symbols->chosen_count;
	int nested = 0;

	for (uint64_t place = 0; place < chosen; place++) {
		symbols->offsets[place] = (uint32_t)at;
		at = put_name(symbols, symbols->chosen[place], at);
		symbols->starts[place] = symbols->values[symbols->chosen[place]];
		symbols->lengths[place] = symbols->sizes[symbols->chosen[place]];
	}
	for (uint64_t place = 0; place < symbols->other_count; place++) {
		symbols->offsets[chosen + place] = (uint32_t)at;
		at = put_name(symbols, symbols->others[place], at);
		symbols->alias_starts[place] = symbols->values[symbols->others[place]];
		symbols->alias_lengths[place] = symbols->sizes[symbols->others[place]];
	}
	symbols->offsets[chosen + symbols->other_count] = (uint32_t)at;
	for (uint64_t place = 0; place < chosen; place++) {
		symbols->ends[place] = end_of(symbols, place);
		nested |= place + 1 < chosen && symbols->ends[place] > symbols->starts[place + 1];
	}
	return nested;
}

static void add_piece(struct symbols *symbols, uint64_t bound, int64_t symbol)
{
	symbols->bounds[symbols->bound_count] = bound;
	symbols->inner[symbols->bound_count++] = symbol;
}

/* Ends the symbols on the stack that end up to an address; behind each, the one around it goes on. */
static uint64_t end_pieces(struct symbols *symbols, uint64_t depth, uint64_t start, int all)
{
	while (depth && (all || symbols->ends[symbols->stack[depth - 1]] <= start)) {
		uint64_t done = symbols->ends[symbols->stack[--depth]];

		while (depth && symbols->ends[symbols->stack[depth - 1]] <= done)
			depth--;
		if (all || done < start)
			add_piece(symbols, done, depth ? (int64_t)symbols->stack[depth - 1] : -1);
	}
	return depth;
}

/* Cuts the addresses into pieces where symbols lie in others. */
EXPORT void harken_table_nest(struct symbols *symbols)
{
	uint64_t depth = 0;

	symbols->bound_count = 0;
	for (uint64_t place = 0; place < symbols->chosen_count; place++) {
		depth = end_pieces(symbols, depth, symbols->starts[place], 0);
		add_piece(symbols, symbols->starts[place], (int64_t)place);
		symbols->stack[depth++] = (uint32_t)place;
	}
	end_pieces(symbols, depth, 0, 1);
}
