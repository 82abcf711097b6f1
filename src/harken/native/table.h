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

/* Where a text is, by value: what is known of a number may be forgotten when the next one is looked up. */
struct piece {
	uint32_t text;     /* as in struct entry */
	uint32_t text_size;
	uint32_t id;
};

/* A text whose key is a memo and one number, which most are, where it is found without a look at the key or the entry. */
struct known {
	uint64_t number;
	uint32_t memo;
	uint32_t used;     /* 0: free */
	struct piece piece;
	uint32_t unused;
};

struct table {
	uint32_t *slots;   /* number of the entry plus 1; 0: free */
	struct entry *entries;
	uint8_t *texts;
	struct known *known;
	uint32_t mask;     /* slots - 1 */
	uint32_t most;     /* entries that fit */
	uint32_t used;
	uint32_t room;     /* bytes of texts that fit */
	uint32_t filled;
	uint32_t known_mask;   /* of as many as are in use now, so that few stay in the cache; it grows */
	uint32_t known_used;
	uint32_t unused;
};

/* So many places of a number are looked at, whatever numbers a file brings. */
#define TRIES 8

/* Odd, and another one in every process: who makes a file cannot know which of its texts would meet in one slot. */
extern uint64_t hash_key;

/* Inline, since the size of most keys is a constant where they are looked up. */
static inline uint64_t hash_of(const uint8_t *key, uint64_t size)
{
	uint64_t factor = hash_key, hash = size * factor;
	uint64_t word;

	for (; size >= 8; key += 8, size -= 8) {
		memcpy(&word, key, 8);
		hash = (hash ^ word) * factor;
		hash ^= hash >> 32;
	}
	word = 0;
	memcpy(&word, key, size);
	hash = (hash ^ word) * factor;
	hash ^= hash >> 32;
	hash *= 0xC4CEB9FE1A85EC53u;
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

static inline uint32_t known_slot(uint32_t memo, uint64_t number)
{
	return (uint32_t)((number + memo * 0xFF51AFD7ED558CCDu) * 0x9E3779B97F4A7C15u >> 40);
}

static inline const struct known *known_find(const struct table *table, uint32_t memo, uint64_t number)
{
	uint32_t slot = known_slot(memo, number), tries;

	for (tries = 0; tries < TRIES; tries++, slot++) {
		const struct known *known = &table->known[slot & table->known_mask];

		if (!known->used)
			return NULL;
		if (known->number == number && known->memo == memo)
			return known;
	}
	return NULL;
}

/* Remembers the entry of a memo and a number, in place of another one if it must. */
void known_put(struct table *table, uint32_t memo, uint64_t number, const struct entry *entry);

int harken_table_put(struct table *table, const uint8_t *key, uint32_t key_size, const uint8_t *text, uint32_t text_size, uint32_t id);

#endif
