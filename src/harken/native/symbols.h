/* Names for the samples of a recording: what the parts of it share.  src/harken/native/symbols.py has the same structures. */
#ifndef HARKEN_SYMBOLS_H
#define HARKEN_SYMBOLS_H

#include "native.h"

#define NOTHING UINT64_MAX

/* a part of job->blob */
struct part {
	uint64_t start, size;
};

/* the symbols of a file, or of the kernel */
struct names {
	const uint64_t *bounds;     /* where pieces of the addresses begin, ascending */
	const int64_t *inner;       /* the symbol of each piece, negative for none; NULL: of the same number */
	const uint64_t *starts;     /* of symbols */
	const uint64_t *ends;       /* NULL: as in kallsyms, by the next symbol and its owner */
	uint64_t bound_count, symbol_count;
	const uint32_t *offsets;    /* of names in the block: one more than symbols; each name is followed by a byte */
	const uint8_t *block;
	uint64_t block_size;
	const uint16_t *owners;     /* the module of each symbol; NULL: the only one */
	const struct part *modules; /* what stands behind the name, by module */
	uint64_t module_count;
	uint32_t *states;           /* of symbols: enum state, or the number of a special text behind that */
	uint64_t flags;             /* enum naming */
};

enum state { UNSEEN, PLAIN, SPECIAL, ASKED = 0xFFFFFFFF };

enum naming { MANGLED = 1, ASK_ALWAYS = 2 };

/* a symbol whose text Python has made */
struct special {
	struct part name, module;
};

/* what addresses of a mapping are, by their distance from its start */
struct piece {
	uint64_t low, high;         /* ascending */
	uint64_t shift;             /* distance - shift is the file's own address */
	uint64_t names;
};

struct place {
	uint64_t piece, piece_count;
	uint64_t offset;            /* what chains show: place in the file, */
	uint64_t in_file;           /* or if this is 0, the address */
	struct part module;         /* behind addresses without a name */
};

/* a part of a mapping that nothing else lies over */
struct row {
	uint64_t start, end;
	uint64_t base;              /* where the whole mapping starts */
	uint32_t kind, unused;
};

/* the mappings of one process as long as they stay what they are */
struct table {
	uint64_t pid;
	uint64_t row, count;        /* ascending rows */
	uint64_t next;              /* the process's next table plus 1, 0: none */
};

struct need {
	uint64_t kind, first, second;
};

/* an address of a space that samples are in: its text is made once */
struct key {
	uint64_t address;
	uint32_t space, number;
};

struct text {
	uint32_t start, size;       /* in job->texts */
};

/* the text is copied in steps of so many bytes, and so there is more room behind it and behind the output */
#define SLACK 32

/* numbers behind those of spaces */
#define NOWHERE (UINT32_MAX - 1)
#define KERNEL_SPACE UINT32_MAX

enum kind_of_need { NEED_PLACE, NEED_TEXT, NEED_KERNEL };

struct job {
	const uint64_t *words;      /* call chains lie in them */
	uint64_t word_count;
	const uint32_t *starts, *lengths; /* of call chains; NULL: addresses */
	const uint64_t *addresses;
	const uint32_t *spaces_of;  /* the space of each sample */
	const uint32_t *order;      /* of samples; NULL: as they are */
	uint64_t count;             /* samples */
	const struct table *spaces;
	uint64_t space_count;
	const struct row *rows;
	uint64_t row_count;
	uint32_t *kind_places;      /* by kind of mapping: number of the place plus 1; 0: not known, ASKED */
	uint64_t kind_count;
	const struct place *places;
	uint64_t place_count;
	const struct piece *pieces;
	uint64_t piece_count;
	const struct names *names;
	uint64_t names_count;
	const struct special *specials;
	uint64_t special_count;
	const uint8_t *blob;
	uint64_t blob_size;
	struct part nowhere;        /* behind addresses that are in no mapping */
	uint64_t kernel[3];         /* names of the kernel plus 1, 0 for none, in the order in which they are asked; */
	uint64_t kernel_known;      /* whether that is known, or was asked for */
	uint64_t kernel_shift;
	uint64_t with_symbol, with_offset;
	uint64_t before;            /* what lines begin with */
	uint8_t *out;
	uint64_t out_size, out_used;
	uint32_t *ends;             /* where the text of each sample ends */
	struct need *needs;
	uint64_t need_room, need_count;
	/* different addresses of the samples since the table was empty, and their spaces */
	struct key *keys;
	struct text *key_texts;
	uint64_t key_room, key_count;
	uint32_t *slots;            /* number of an address plus 1; 0: free */
	uint64_t slot_bits;         /* there are 1 << slot_bits: more than addresses */
	uint64_t multiplier, multiplier_of_space; /* odd, and not to be foretold */
	struct key *pending, *spare; /* addresses whose texts are to be made, ascending by space */
	uint64_t pending_count, first_key;
	uint8_t *texts;
	uint64_t text_room, text_used;
	uint32_t *ids;              /* of the samples up to stop: how many addresses, and their numbers */
	uint64_t id_room, id_count, id_at;
	uint64_t at;                /* the next sample to be written */
	uint64_t stop;              /* behind the last one whose addresses are known */
	uint64_t step;              /* most samples whose addresses are looked for at once */
	uint64_t most;              /* most samples in a call */
};

/* an address and what stands behind it */
struct frame {
	uint64_t shown;
	const uint8_t *name, *module; /* name NULL: unknown */
	uint64_t name_size, module_size;
	uint64_t distance;          /* from the symbol's start */
};

/* what a part of the work ends with; FULL: the output has no room for a sample, CROWDED: texts have none for the addresses of one */
enum outcome { DONE, FULL, ASK, BROKEN, CROWDED };

/* where the last address was found: the next one is often near */
struct near {
	uint64_t space, mapping;
	const struct names *names;
	uint64_t bound;             /* bounds up to the address */
};

/* symbols_find.c */
int symbols_of_user(struct job *job, struct near *near, uint64_t space_number, uint64_t address, struct frame *frame);
int symbols_of_kernel(struct job *job, struct near *near, uint64_t address, struct frame *frame);
int symbols_of_nothing(const struct job *job, uint64_t address, struct frame *frame);

/* symbols_collect.c */
void symbols_forget(struct job *job);
int symbols_collect(struct job *job);

#endif
