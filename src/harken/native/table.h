/* A table from keys of bytes to texts, in memory of a fixed size that the caller owns. */
#ifndef HARKEN_TABLE_H
#define HARKEN_TABLE_H

#include "native.h"

/* longer keys are not kept by their contents */
#define KEY_MAX 256

struct entry {
	uint64_t hash;
	uint32_t key;      /* where in the texts */
	uint32_t key_size;
	uint32_t text;
	uint32_t text_size;
	uint32_t id;       /* what the caller calls the text; 0 if it has no name */
	uint32_t unused;
};

struct table {
	uint32_t *slots;   /* number of the entry plus 1; 0: free */
	struct entry *entries;
	uint8_t *texts;
	uint32_t mask;     /* slots - 1 */
	uint32_t most;     /* entries that fit */
	uint32_t used;
	uint32_t room;     /* bytes of texts that fit */
	uint32_t filled;
	uint32_t unused;
};

uint64_t hash_of(const uint8_t *key, uint64_t size);
const struct entry *table_find(const struct table *table, const void *key, uint32_t size);

int harken_table_put(struct table *table, const uint8_t *key, uint32_t key_size, const uint8_t *text, uint32_t text_size, uint32_t id);

#endif
