/* A table from keys of bytes to texts, in memory of a fixed size that the caller owns. */
#ifndef HARKEN_TABLE_H
#define HARKEN_TABLE_H

#include <string.h>
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

/* Inline, since the size of most keys is a constant where they are looked up. */
static inline uint64_t hash_of(const uint8_t *key, uint64_t size)
{
	uint64_t hash = size * 0x9E3779B97F4A7C15u;
	uint64_t word;

	for (; size >= 8; key += 8, size -= 8) {
		memcpy(&word, key, 8);
		hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
		hash ^= hash >> 32;
	}
	word = 0;
	memcpy(&word, key, size);
	hash = (hash ^ word) * 0xC4CEB9FE1A85EC53u;
	return hash ^ hash >> 29;
}

/* The slot of a key: where it is, or where it would go.  There are twice as many slots as entries, so a free one ends each search. */
static inline uint32_t slot_of(const struct table *table, uint64_t hash, const void *key, uint32_t size)
{
	uint32_t slot = (uint32_t)hash & table->mask;

	for (;; slot = (slot + 1) & table->mask) {
		const struct entry *entry;

		if (!table->slots[slot])
			return slot;
		entry = &table->entries[table->slots[slot] - 1];
		if (entry->hash == hash && entry->key_size == size && !memcmp(table->texts + entry->key, key, size))
			return slot;
	}
}

static inline const struct entry *table_find(const struct table *table, const void *key, uint32_t size)
{
	uint32_t slot = table->slots[slot_of(table, hash_of(key, size), key, size)];

	return slot ? &table->entries[slot - 1] : NULL;
}

int harken_table_put(struct table *table, const uint8_t *key, uint32_t key_size, const uint8_t *text, uint32_t text_size, uint32_t id);

#endif
