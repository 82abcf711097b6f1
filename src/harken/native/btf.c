/* Where the records of a BTF type section are, of what kind each is, and where its name is in the strings.
 *
 * formats/btf_layout.py does the same in Python, and says what is wrong with a section that is refused here. */
#include "native.h"

#define KINDS 20

/* How many records there are, or -1 if the section is refused: an unknown kind, a record that is cut off, more records than there is room.
 * ``fixed`` and ``items``: for each kind the words behind the first three, and the words of each of its items. */
EXPORT int harken_btf_walk(const uint32_t *words, uint64_t count, const uint8_t fixed[KINDS], const uint8_t items[KINDS],
			   uint32_t *positions, uint8_t *kinds, uint64_t room)
{
	uint64_t position = 0, found = 0;

	while (position + 2 < count) {
		uint32_t info = words[position + 1], kind = info >> 24 & 0x1f;

		if (kind == 0 || kind >= KINDS || found == room || position > UINT32_MAX)
			return -1;
		positions[found] = (uint32_t)position;
		kinds[found++] = (uint8_t)kind;
		position += 3 + fixed[kind] + (uint64_t)items[kind] * (info & 0xffff);
	}
	return position == count ? (int)found : -1;
}

/* The word at each position; 0 if one lies outside. */
EXPORT int harken_btf_words(const uint32_t *words, uint64_t count, const uint32_t *positions, uint64_t found, uint32_t *values)
{
	for (uint64_t number = 0; number < found; number++) {
		if (positions[number] >= count)
			return 0;
		values[number] = words[positions[number]];
	}
	return 1;
}
