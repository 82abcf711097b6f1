/* The address spaces of recorded processes.  src/harken/native/symbols_spaces.py has the same structures. */
#ifndef HARKEN_SYMBOLS_SPACES_H
#define HARKEN_SYMBOLS_SPACES_H

#include "symbols.h"

#define BUILD_ID 20
#define CLASSES 32

/* what can be mapped, wherever it is */
struct kind {
	uint64_t base, size, offset; /* base: where it was mapped first; only where no file lies, it is part of what it is, and pid too */
	uint64_t path, path_size;   /* in paths */
	uint64_t hash;
	uint32_t pid, flags;
	uint8_t build_id[24];       /* the bytes of it, and behind them their number */
};

enum kind_flags { EXECUTABLE = 1, HUGE_PAGES = 2, OWN = 4 };

/* a process */
struct space {
	uint32_t pid, next;         /* next: of those of one slot, plus 1 */
	uint32_t row, count, class, unused; /* room for 1 << class rows */
};

/* the samples of a process */
struct group {
	uint64_t pid, first, end;
	uint64_t ended;             /* up to here they belong to tables */
	uint64_t head, tail;        /* first and last table, plus 1 */
};

struct spaces {
	/* a batch of records */
	const uint64_t *words;
	uint64_t word_count;
	const uint32_t *events;     /* places of records, in order of their moments */
	const uint64_t *moments;
	uint64_t event_count, event_at;
	uint64_t trailer;           /* bytes at the end of records */
	const uint32_t *indexes;    /* samples by process and moment */
	const uint64_t *times;      /* of samples as they are recorded; NULL: they have none */
	uint64_t sample_count;
	const uint32_t *pids;       /* of samples as they are recorded; NULL: not known */
	const uint32_t *ends;       /* where the samples of a process end in indexes */
	struct group *groups;
	uint64_t group_count;
	uint32_t *spaces_of;        /* found: the table of every sample */
	uint32_t *others;           /* found: indexes of events that Python looks at */
	uint64_t other_count;
	uint64_t damaged;           /* records that are too short */
	uint64_t begun;
	/* what is kept between batches */
	struct row *rows;
	uint64_t row_room, row_used;
	uint64_t *free_rows;        /* by class: the first row of a room that is free, plus 1; its start is the next one's */
	struct space *spaces;       /* a ring of most_spaces + 1 */
	uint64_t space_first, space_count, most_spaces;
	uint32_t *space_slots;      /* 1 << slot_bits */
	uint64_t space_bits;
	struct kind *kinds;
	uint64_t kind_room, kind_count;
	uint32_t *kind_slots;       /* number of a kind plus 1; empty after new ones were given: then slotted is 0 */
	uint64_t kind_bits, slotted;
	uint8_t *paths;
	uint64_t path_room, path_used;
	struct table *tables;
	uint64_t table_room, table_count;
	uint64_t live, most_live;   /* rows of spaces */
	uint64_t copied, most_copied; /* rows, by forks and for tables, in this batch */
	uint64_t ended, most_ended; /* rows of tables */
	uint64_t most_maps;         /* of a process */
	uint64_t multiplier;        /* odd, and not to be foretold */
};

enum want { ALL_DONE, MORE_ROWS, MORE_KINDS, MORE_PATHS, MORE_TABLES, TOO_MUCH, WRONG };

/* symbols_spaces.c */
int symbols_lay(struct spaces *spaces, uint32_t pid, const struct row *row, uint64_t moment);
int symbols_fork(struct spaces *spaces, uint32_t pid, uint32_t parent, uint64_t moment);

/* symbols_records.c */
void symbols_slot_kinds(struct spaces *spaces);
int symbols_apply(struct spaces *spaces, uint64_t number);

#endif
