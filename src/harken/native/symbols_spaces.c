/* Which mappings hold for the samples of a recording, in order of time.
 *
 * symbols/symbolizer_spaces.py and symbols/processes.py do the same in Python, and say why.  Where there is no room, the caller gives more
 * and calls again; an event is applied as a whole or not at all, or what was done of it is found to be done. */
#include <string.h>
#include "symbols_spaces.h"

#define LEAST_CLASS 4
#define LAST_CLASS 28

/* -- rooms of rows */

static unsigned int class_of(uint64_t count)
{
	unsigned int class = LEAST_CLASS;

	while (class < LAST_CLASS && UINT64_C(1) << class < count)
		class++;
	return class;
}

/* A room of a class; NOTHING: there is none. */
static uint64_t take_rows(struct spaces *spaces, unsigned int class)
{
	uint64_t row = spaces->free_rows[class];

	if (row) {
		spaces->free_rows[class] = spaces->rows[row - 1].start;
		return row - 1;
	}
	if (spaces->row_room - spaces->row_used < UINT64_C(1) << class)
		return NOTHING;
	row = spaces->row_used;
	spaces->row_used += UINT64_C(1) << class;
	return row;
}

static void give_rows(struct spaces *spaces, uint64_t row, unsigned int class)
{
	spaces->rows[row].start = spaces->free_rows[class];
	spaces->free_rows[class] = row + 1;
}

/* How many of ascending rows start before an address, or with equal also at it. */
static uint64_t rows_before(const struct row *rows, uint64_t count, uint64_t address, int equal)
{
	uint64_t low = 0, high = count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (rows[middle].start < address || (equal && rows[middle].start == address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* -- processes */

static uint64_t slot_of(const struct spaces *spaces, uint32_t pid)
{
	return pid * spaces->multiplier >> (64 - spaces->space_bits);
}

static struct space *find_space(struct spaces *spaces, uint32_t pid)
{
	uint32_t number = spaces->space_slots[slot_of(spaces, pid)];

	while (number && spaces->spaces[number - 1].pid != pid)
		number = spaces->spaces[number - 1].next;
	return number ? &spaces->spaces[number - 1] : NULL;
}

/* Forgets the processes that came first, as long as there is too much. */
static void trim(struct spaces *spaces)
{
	while (spaces->space_count > spaces->most_spaces || (spaces->live > spaces->most_live && spaces->space_count > 1)) {
		struct space *space = &spaces->spaces[spaces->space_first];
		uint32_t number = (uint32_t)spaces->space_first + 1, *link = &spaces->space_slots[slot_of(spaces, space->pid)];

		while (*link && *link != number)
			link = &spaces->spaces[*link - 1].next;
		if (*link)
			*link = space->next;
		give_rows(spaces, space->row, space->class);
		spaces->live -= space->count;
		spaces->space_first = (spaces->space_first + 1) % (spaces->most_spaces + 1);
		spaces->space_count--;
	}
}

/* A new process with a room of a class, which is there. */
static struct space *add_space(struct spaces *spaces, uint32_t pid, uint64_t row, unsigned int class)
{
	uint64_t number = (spaces->space_first + spaces->space_count++) % (spaces->most_spaces + 1), slot = slot_of(spaces, pid);
	struct space *space = &spaces->spaces[number];

	*space = (struct space){pid, spaces->space_slots[slot], (uint32_t)row, 0, class, 0};
	spaces->space_slots[slot] = (uint32_t)number + 1;
	return space;
}

/* Room for more rows of a process. */
static int widen(struct spaces *spaces, struct space *space, uint64_t count)
{
	unsigned int class = class_of(count);
	uint64_t row;

	if (count <= UINT64_C(1) << space->class)
		return ALL_DONE;
	row = take_rows(spaces, class);
	if (row == NOTHING)
		return MORE_ROWS;
	memcpy(spaces->rows + row, spaces->rows + space->row, space->count * sizeof(struct row));
	give_rows(spaces, space->row, space->class);
	space->row = (uint32_t)row;
	space->class = class;
	return ALL_DONE;
}

/* Puts a mapping over what was there; there is room for two rows more. */
static void lay(struct spaces *spaces, struct space *space, const struct row *mapping)
{
	struct row *rows = spaces->rows + space->row, pieces[3];
	uint64_t count = space->count, first = rows_before(rows, count, mapping->start, 1), last, made = 0, tail = 0;
	struct row behind = *mapping;

	if (first && rows[first - 1].end > mapping->start)
		first--;
	last = first;
	while (last < count && rows[last].start < mapping->end) {
		if (rows[last].start < mapping->start) {
			pieces[0] = rows[last];
			pieces[0].end = mapping->start;
			made = 1;
		}
		if (rows[last].end > mapping->end) {
			behind = rows[last];
			behind.start = mapping->end;
			tail = 1;
		}
		last++;
	}
	pieces[made++] = *mapping;
	if (tail)
		pieces[made++] = behind;
	memmove(rows + first + made, rows + last, (count - last) * sizeof(*rows));
	memcpy(rows + first, pieces, made * sizeof(*rows));
	space->count = (uint32_t)(count - (last - first) + made);
	spaces->live += space->count - count;
}

/* -- tables of samples */

static struct group *find_group(struct spaces *spaces, uint64_t pid)
{
	uint64_t low = 0, high = spaces->group_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (spaces->groups[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < spaces->group_count && spaces->groups[low].pid == pid ? &spaces->groups[low] : NULL;
}

/* When a sample was taken; its number, if samples have no time. */
static uint64_t moment_of(const struct spaces *spaces, uint64_t place)
{
	uint64_t index = spaces->indexes[place];

	return spaces->times ? spaces->times[index] : index;
}

/* A table for the samples of a process up to one of them. */
static void add_table(struct spaces *spaces, struct group *group, uint64_t row, uint64_t count, uint64_t end)
{
	uint64_t number = spaces->table_count++;

	spaces->tables[number] = (struct table){group->pid, row, count, 0};
	if (group->tail)
		spaces->tables[group->tail - 1].next = number + 1;
	else
		group->head = number + 1;
	group->tail = number + 1;
	for (uint64_t place = group->ended; place < end; place++)
		spaces->spaces_of[spaces->indexes[place]] = (uint32_t)number;
	group->ended = end;
}

/* From here on a process has other mappings: its samples so far get a table of their own. */
static int retire(struct spaces *spaces, struct group *group, uint64_t moment)
{
	uint64_t low, high, row = 0, count = 0;
	const struct space *space;

	if (!group || group->ended >= group->end || moment_of(spaces, group->ended) >= moment)
		return ALL_DONE;
	if (spaces->table_count >= spaces->table_room)
		return MORE_TABLES;
	space = find_space(spaces, (uint32_t)group->pid);
	if (space && space->count) {
		count = space->count;
		if (count > spaces->most_copied - spaces->copied || count > spaces->most_ended - spaces->ended)
			return TOO_MUCH;
		row = take_rows(spaces, class_of(count));
		if (row == NOTHING)
			return MORE_ROWS;
		memcpy(spaces->rows + row, spaces->rows + space->row, count * sizeof(struct row));
		spaces->copied += count;
		spaces->ended += count;
	}
	low = group->ended;
	high = group->end;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (moment_of(spaces, middle) < moment)
			low = middle + 1;
		else
			high = middle;
	}
	add_table(spaces, group, row, count, low);
	return ALL_DONE;
}

/* -- what happens */

/* A process maps something. */
int symbols_lay(struct spaces *spaces, uint32_t pid, const struct row *row, uint64_t moment)
{
	struct space *space = find_space(spaces, pid);
	struct group *group = find_group(spaces, pid);
	int outcome;

	if (group && space) {
		uint64_t before = rows_before(spaces->rows + space->row, space->count, row->end, 0);

		if (before && spaces->rows[space->row + before - 1].end > row->start) {  /* something else lay there until now */
			outcome = retire(spaces, group, moment);
			if (outcome)
				return outcome;
		}
	}
	if (!space) {
		uint64_t first = take_rows(spaces, LEAST_CLASS);

		if (first == NOTHING)
			return MORE_ROWS;
		space = add_space(spaces, pid, first, LEAST_CLASS);
	}
	if (space->count < spaces->most_maps) {
		outcome = widen(spaces, space, space->count + UINT64_C(2));
		if (outcome)
			return outcome;
		lay(spaces, space, row);
	}
	trim(spaces);
	return ALL_DONE;
}

/* A process is forked: it has what its parent has. */
int symbols_fork(struct spaces *spaces, uint32_t pid, uint32_t parent, uint64_t moment)
{
	struct space *origin, *child;
	unsigned int class;
	uint64_t row;
	int outcome;

	if (pid == parent)
		return ALL_DONE;
	outcome = retire(spaces, find_group(spaces, pid), moment);
	if (outcome)
		return outcome;
	origin = find_space(spaces, parent);
	if (!origin)
		return ALL_DONE;
	if (origin->count > spaces->most_copied - spaces->copied)
		return TOO_MUCH;
	class = class_of(origin->count);
	row = take_rows(spaces, class);
	if (row == NOTHING)
		return MORE_ROWS;
	child = find_space(spaces, pid);
	if (child) {
		give_rows(spaces, child->row, child->class);
		spaces->live -= child->count;
		child->row = (uint32_t)row;
		child->class = class;
	} else {
		child = add_space(spaces, pid, row, class);
	}
	child->count = origin->count;
	memcpy(spaces->rows + row, spaces->rows + origin->row, origin->count * sizeof(struct row));
	spaces->copied += origin->count;
	spaces->live += origin->count;
	trim(spaces);
	return ALL_DONE;
}

/* -- batches */

/* Lets go of what the last batch has made, and finds out whose samples these are. */
static void begin(struct spaces *spaces)
{
	uint64_t first = 0;

	for (uint64_t number = 0; number < spaces->table_count; number++) {
		const struct table *table = &spaces->tables[number];

		if (table->next && table->count)  /* not the last one of its process, whose rows are the process's own */
			give_rows(spaces, table->row, class_of(table->count));
	}
	spaces->table_count = spaces->other_count = spaces->damaged = spaces->copied = spaces->ended = 0;
	for (uint64_t number = 0; number < spaces->group_count; number++) {
		struct group *group = &spaces->groups[number];
		uint64_t pid = spaces->pids ? spaces->pids[spaces->indexes[first]] : NOTHING;

		*group = (struct group){pid, first, spaces->ends[number], first, 0, 0};
		first = spaces->ends[number];
	}
	spaces->begun = 1;
}

/* Samples behind the last change have the mappings that are there now. */
static int finish(struct spaces *spaces)
{
	if (spaces->table_room - spaces->table_count < spaces->group_count)
		return MORE_TABLES;
	for (uint64_t number = 0; number < spaces->group_count; number++) {
		struct group *group = &spaces->groups[number];
		const struct space *space = group->pid == NOTHING ? NULL : find_space(spaces, (uint32_t)group->pid);

		add_table(spaces, group, space ? space->row : 0, space ? space->count : 0, group->end);
	}
	return ALL_DONE;
}

/* Applies the events of a batch. */
EXPORT int harken_symbols_spaces(struct spaces *spaces)
{
	int outcome = ALL_DONE;

	if (!spaces->begun)
		begin(spaces);
	if (!spaces->slotted)
		symbols_slot_kinds(spaces);
	for (; spaces->event_at < spaces->event_count && !outcome; spaces->event_at += !outcome)
		outcome = symbols_apply(spaces, spaces->event_at);
	return outcome ? outcome : finish(spaces);
}

/* The pids of all processes, first those that came first; there is room for as many as there are. */
EXPORT void harken_symbols_spaces_pids(const struct spaces *spaces, uint32_t *pids)
{
	for (uint64_t number = 0; number < spaces->space_count; number++)
		pids[number] = spaces->spaces[(spaces->space_first + number) % (spaces->most_spaces + 1)].pid;
}

/* The first row of a process and how many it has. */
EXPORT void harken_symbols_spaces_find(struct spaces *spaces, uint64_t pid, uint64_t *found)
{
	const struct space *space = find_space(spaces, (uint32_t)pid);

	found[0] = space ? space->row : 0;
	found[1] = space ? space->count : 0;
}

/* What tells whether Python's structures are these. */
EXPORT uint64_t harken_symbols_spaces_sizes(void)
{
	return sizeof(struct spaces) | sizeof(struct kind) << 16 | sizeof(struct row) << 32 | sizeof(struct space) << 48;
}
