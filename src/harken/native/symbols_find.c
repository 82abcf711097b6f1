/* The symbol of an address: mapping, piece of the file, symbol, text.
 *
 * symbols/symbolizer_lines.py does the same in Python, and says why.  What is not known yet is asked for: it is put into the list of needs,
 * once, and Python puts the answer into the tables. */
#include <string.h>
#include "symbols.h"

#define PAGE 4096

static int ask(struct job *job, uint64_t kind, uint64_t first, uint64_t second)
{
	struct need *need;

	if (job->need_count >= job->need_room)
		return 0;
	need = &job->needs[job->need_count++];
	need->kind = kind;
	need->first = first;
	need->second = second;
	return 1;
}

/* How many of ascending numbers are not greater than one. */
static uint64_t up_to(const uint64_t *numbers, uint64_t count, uint64_t number)
{
	const uint64_t *base = numbers;

	if (!count)
		return 0;
	while (count > 1) {  /* without branches: where they would go cannot be foretold */
		uint64_t half = count / 2;

		base = base[half - 1] <= number ? base + half : base;
		count -= half;
	}
	return (uint64_t)(base - numbers) + (*base <= number);
}

/* The same, if so many are known to be not greater, or nearly so many: searched from there on in ever greater steps. */
static uint64_t up_to_from(const uint64_t *numbers, uint64_t count, uint64_t number, uint64_t low)
{
	uint64_t step = 1, high;

	if (!low || low > count || numbers[low - 1] > number)
		return up_to(numbers, count, number);
	while (step <= count - low && numbers[low + step - 1] <= number) {
		low += step;
		step *= 2;
	}
	high = step <= count - low ? low + step - 1 : count;
	return low + up_to(numbers + low, high - low, number);
}

/* Of the bounds of names, how many are not greater than an address. */
static uint64_t bounds_up_to(struct near *near, const struct names *names, uint64_t address)
{
	uint64_t low = near->names == names ? near->bound : 0;

	near->names = names;
	near->bound = up_to_from(names->bounds, names->bound_count, address, low);
	return near->bound;
}

/* Where the last symbol of the kernel or of a module ends, if none follows it: with the following page. */
static uint64_t end_of_last(uint64_t start)
{
	uint64_t page = start / PAGE + (start % PAGE != 0) + 1;

	return page > UINT64_MAX / PAGE ? UINT64_MAX : page * PAGE;
}

/* The symbol of an address as kallsyms means it; NOTHING if there is none. */
static uint64_t find_in_kallsyms(struct near *near, const struct names *names, uint64_t address)
{
	uint64_t place = bounds_up_to(near, names, address), end;

	if (!place || !names->bounds[place - 1])
		return NOTHING;
	if (place < names->bound_count && names->owners[place] == names->owners[place - 1])
		return place - 1;
	end = end_of_last(names->bounds[place - 1]);
	if (place < names->bound_count && names->bounds[place] < end)
		end = names->bounds[place];
	return address < end ? place - 1 : NOTHING;
}

static uint64_t find(struct near *near, const struct names *names, uint64_t address)
{
	uint64_t symbol;

	if (!names->ends)
		return find_in_kallsyms(near, names, address);
	symbol = bounds_up_to(near, names, address);
	if (!symbol--)
		return NOTHING;
	if (names->inner)
		symbol = (uint64_t)names->inner[symbol];
	if (symbol >= names->symbol_count || address >= names->ends[symbol])
		return NOTHING;
	return symbol;
}

/* Whether a name can stand as it is, and needs no Python to make it readable. */
static int is_plain(const struct names *names, const uint8_t *name, uint64_t size)
{
	uint8_t all = 0;

	if (!size || names->flags & ASK_ALWAYS)
		return 0;
	if (names->flags & MANGLED && name[0] == '_' && size > 1) {
		if (name[1] == 'Z' || name[1] == 'R' || (name[1] == '_' && size > 2 && name[2] == 'Z'))
			return 0;
	}
	for (uint64_t place = 0; place < size; place++)
		all |= name[place];
	return all < 128;
}

static int take(const struct job *job, const struct part *part, const uint8_t **text, uint64_t *size)
{
	if (part->start > job->blob_size || part->size > job->blob_size - part->start)
		return BROKEN;
	*text = job->blob + part->start;
	*size = part->size;
	return DONE;
}

static int take_special(const struct job *job, uint64_t number, struct frame *frame)
{
	const struct special *special = &job->specials[number];

	if (number >= job->special_count || take(job, &special->name, &frame->name, &frame->name_size))
		return BROKEN;
	if (!special->name.size)  /* symbols without a name are none */
		frame->name = NULL;
	return take(job, &special->module, &frame->module, &frame->module_size);
}

/* The text of a symbol. */
static int take_text(struct job *job, uint64_t number, uint64_t symbol, struct frame *frame)
{
	const struct names *names = &job->names[number];
	uint64_t start = names->offsets[symbol], after = names->offsets[symbol + 1];
	uint64_t module = names->owners ? names->owners[symbol] : 0;
	uint32_t *state = &names->states[symbol];

	if (*state >= SPECIAL && *state != ASKED)
		return take_special(job, *state - SPECIAL, frame);
	if (start >= after || after > names->block_size || module >= names->module_count)
		return BROKEN;
	if (*state == UNSEEN) {
		if (is_plain(names, names->block + start, after - start - 1))
			*state = PLAIN;
		else if (ask(job, NEED_TEXT, number, symbol))
			*state = ASKED;
	}
	if (*state != PLAIN)
		return ASK;
	frame->name = names->block + start;
	frame->name_size = after - start - 1;
	return take(job, &names->modules[module], &frame->module, &frame->module_size);
}

int symbols_of_nothing(const struct job *job, uint64_t address, struct frame *frame)
{
	frame->shown = address;
	frame->name = NULL;
	return take(job, &job->nowhere, &frame->module, &frame->module_size);
}

int symbols_of_kernel(struct job *job, struct near *near, uint64_t address, struct frame *frame)
{
	int64_t shift = (int64_t)job->kernel_shift;
	uint64_t here = address - job->kernel_shift;

	if (shift && (shift < 0) != (here > address))  /* behind the last address there is */
		return symbols_of_nothing(job, address, frame);
	if (!job->kernel_known && ask(job, NEED_KERNEL, 0, 0))
		job->kernel_known = ASKED;
	if (!job->kernel_known || job->kernel_known == ASKED)
		return ASK;
	for (unsigned int part = 0; part < 3; part++) {
		uint64_t number = job->kernel[part] - 1, symbol;

		if (number >= job->names_count)
			continue;
		symbol = find(&near[part], &job->names[number], here);
		if (symbol == NOTHING)
			continue;
		frame->shown = address;
		frame->distance = here - job->names[number].starts[symbol];
		return take_text(job, number, symbol, frame);
	}
	return symbols_of_nothing(job, address, frame);
}

/* The piece of a place that a distance from the mapping's start is in. */
static const struct piece *piece_of(const struct job *job, const struct place *place, uint64_t distance)
{
	const struct piece *pieces = job->pieces + place->piece;
	uint64_t low = 0, high = place->piece_count;

	if (place->piece > job->piece_count || high > job->piece_count - place->piece)
		return NULL;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (pieces[middle].low <= distance)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || distance >= pieces[low - 1].high || pieces[low - 1].names >= job->names_count)
		return NULL;
	return &pieces[low - 1];
}

/* The row of a table that an address is in; NULL if it is in none. */
static const struct row *row_of(struct near *near, const struct job *job, uint64_t number, uint64_t address)
{
	const struct table *table = &job->spaces[number];
	const struct row *rows = job->rows + table->row;
	uint64_t low = near->space == number ? near->mapping : 0, high = table->count;

	if (low && rows[low - 1].start > address)
		low = 0;
	if (low && (low == high || rows[low].start > address))
		high = low;  /* the same as the last one */
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (rows[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	near->space = number;
	near->mapping = low;
	return low && address < rows[low - 1].end ? &rows[low - 1] : NULL;
}

int symbols_of_user(struct job *job, struct near *near, uint64_t space, uint64_t address, struct frame *frame)
{
	const struct table *table = &job->spaces[space];
	uint64_t distance, symbol;
	const struct place *place;
	const struct piece *piece;
	const struct row *row;
	uint32_t *known;

	if (table->row > job->row_count || table->count > job->row_count - table->row)
		return BROKEN;
	row = row_of(near, job, space, address);
	if (!row)
		return symbols_of_nothing(job, address, frame);
	if (row->kind >= job->kind_count)
		return BROKEN;
	known = &job->kind_places[row->kind];
	if (!*known && ask(job, NEED_PLACE, row->kind, 0))
		*known = ASKED;
	if (!*known || *known == ASKED)
		return ASK;
	if (*known > job->place_count)
		return BROKEN;
	place = &job->places[*known - 1];
	distance = address - row->base;
	frame->shown = job->starts && place->in_file ? distance + place->offset : address;
	piece = piece_of(job, place, distance);
	symbol = piece ? find(near, &job->names[piece->names], distance - piece->shift) : NOTHING;
	if (symbol == NOTHING) {
		frame->name = NULL;
		return take(job, &place->module, &frame->module, &frame->module_size);
	}
	frame->distance = distance - piece->shift - job->names[piece->names].starts[symbol];
	return take_text(job, piece->names, symbol, frame);
}
