/* A table from keys of bytes to texts.
 *
 * The caller gives the memory, of any size, and looks after it; nothing is moved or taken out.  When it is full, the caller empties it
 * and begins again, so that what a hostile file brings stays bounded. */
#include <string.h>
#include <sys/auxv.h>
#include "table.h"

#define FEW 8192 /* of the numbers that are known there is room for so many at first */

uint64_t hash_key = 0x9E3779B97F4A7C15u;

/* The kernel gives every process sixteen random bytes (AT_RANDOM, getauxval(3)); they are not to be told from the key. */
__attribute__((constructor)) static void draw_hash_key(void)
{
	const uint8_t *random = (const uint8_t *)getauxval(AT_RANDOM);
	uint64_t words[2];

	if (!random)
		return;
	memcpy(words, random, sizeof(words));
	words[0] = (words[0] ^ words[1] >> 17) * 0xFF51AFD7ED558CCDu;
	words[0] = (words[0] ^ words[0] >> 33 ^ words[1]) * 0xC4CEB9FE1A85EC53u;
	hash_key = (words[0] ^ words[0] >> 29) | 1;
}

/* Lays a table out in memory; 0, or -1 if it is too small.  The memory must be zero. */
EXPORT int harken_table_init(struct table *table, uint8_t *memory, uint64_t size, uint64_t entries)
{
	uint64_t slots = 1, need;

	while (slots < 2 * entries && slots < 1u << 30)
		slots *= 2;
	need = slots * sizeof(uint32_t) + entries * sizeof(struct entry) + slots * sizeof(struct known);
	if (!entries || slots < 2 * entries || need >= size || size - need > UINT32_MAX)
		return -1;
	table->entries = (struct entry *)memory;
	table->known = (struct known *)(memory + entries * sizeof(struct entry));
	table->slots = (uint32_t *)(memory + entries * sizeof(struct entry) + slots * sizeof(struct known));
	table->texts = memory + need;
	table->mask = (uint32_t)slots - 1;
	table->most = (uint32_t)entries;
	table->room = (uint32_t)(size - need);
	table->used = table->filled = table->known_used = 0;
	table->known_mask = table->mask < FEW ? table->mask : FEW - 1;
	return 0;
}

static void forget(struct table *table)
{
	memset(table->known, 0, ((size_t)table->known_mask + 1) * sizeof(struct known));
	table->known_used = 0;
}

void known_put(struct table *table, uint32_t memo, uint64_t number, const struct entry *entry)
{
	struct known *known;
	uint32_t slot = known_slot(memo, number), tries;

	if (table->known_used > table->known_mask / 2 && table->known_mask < table->mask) {
		table->known_mask = 2 * table->known_mask + 1;
		forget(table); /* they are found in the table once more */
	}
	for (tries = 0; tries < TRIES - 1 && table->known[(slot + tries) & table->known_mask].used; tries++)
		;
	known = &table->known[(slot + tries) & table->known_mask];
	if (!known->used)
		table->known_used++;
	known->number = number;
	known->memo = memo;
	known->used = 1;
	known->piece = (struct piece){ entry->text, entry->text_size, entry->id };
}

EXPORT void harken_table_clear(struct table *table)
{
	memset(table->slots, 0, ((size_t)table->mask + 1) * sizeof(uint32_t));
	table->used = table->filled = 0;
	forget(table);
}

/* Puts a text in; 0, or -1 if there is no room. */
EXPORT int harken_table_put(struct table *table, const uint8_t *key, uint32_t key_size, const uint8_t *text, uint32_t text_size, uint32_t id)
{
	uint64_t hash = hash_of(key, key_size);
	uint32_t slot;
	struct entry *entry;

	if (table->used >= table->most || (uint64_t)table->filled + key_size + text_size > table->room)
		return -1;
	slot = slot_of(table, hash, key, key_size);
	if (table->slots[slot]) { /* the new text takes the old one's place, which is lost until the table is emptied */
		entry = &table->entries[table->slots[slot] - 1];
		forget(table);
	} else {
		entry = &table->entries[table->used++];
	}
	entry->hash = hash;
	entry->key = table->filled;
	entry->key_size = key_size;
	memcpy(table->texts + table->filled, key, key_size);
	table->filled += key_size;
	entry->text = table->filled;
	entry->text_size = text_size;
	memcpy(table->texts + table->filled, text, text_size);
	table->filled += text_size;
	entry->id = id;
	table->slots[slot] = (uint32_t)(entry - table->entries) + 1;
	return 0;
}
