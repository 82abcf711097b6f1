/* The records of a recording that tell of mappings, one by one: MMAP, MMAP2 and FORK.
 *
 * formats/perf_data_records.py says what they hold.  What is mapped gets a number by which the same file at the same place is known again in
 * all processes. */
#include <string.h>
#include "symbols_spaces.h"

#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

/* include/uapi/linux/perf_event.h */
#define MMAP 1
#define LOST 2
#define COMM 3
#define EXIT 4
#define FORK 7
#define MMAP2 10
#define LOST_SAMPLES 13
#define CPUMODE_MASK 7
#define IN_KERNEL 1
#define MMAP_DATA (1 << 13)  /* of misc; the same bit says of forks that the process was there already, */
#define FORK_KNOWN (1 << 13)
#define MMAP_BUILD_ID (1 << 14)
#define PROT_EXECUTE 4
#define MAP_HUGE 0x40000

#define MOST_PATH 4096

/* a record */
struct record {
	const uint8_t *bytes;
	uint64_t end;               /* of what it says: the trailer follows */
	uint32_t kind, misc;
};

static uint32_t u32_at(const uint8_t *bytes, uint64_t place)
{
	uint32_t number;

	memcpy(&number, bytes + place, sizeof(number));
	return number;
}

static uint64_t u64_at(const uint8_t *bytes, uint64_t place)
{
	uint64_t number;

	memcpy(&number, bytes + place, sizeof(number));
	return number;
}

/* -- what is mapped */

static int starts_with(const uint8_t *path, uint64_t size, const char *begin)
{
	uint64_t length = strlen(begin);

	return size >= length && !memcmp(path, begin, length);
}

/* Whether a path may stand for generated code, or for no file at all. */
static int is_own(const uint8_t *path, uint64_t size)
{
	return !size || starts_with(path, size, "//anon") || starts_with(path, size, "/dev/zero") || starts_with(path, size, "/anon_hugepage") ||
	       starts_with(path, size, "[stack") || starts_with(path, size, "/SYSV") || starts_with(path, size, "[heap]") ||
	       starts_with(path, size, "/tmp/perf-");
}

static uint64_t mix(uint64_t hash, uint64_t word, uint64_t multiplier)
{
	hash = (hash ^ word) * multiplier;
	return hash ^ hash >> 32;
}

static uint64_t hash_kind(const struct spaces *spaces, const struct kind *kind, const uint8_t *path)
{
	uint64_t hash = kind->path_size, place = 0, word;

	for (; place + 8 <= kind->path_size; place += 8)
		hash = mix(hash, u64_at(path, place), spaces->multiplier);
	word = 0;
	memcpy(&word, path + place, kind->path_size - place);
	hash = mix(hash, word, spaces->multiplier);
	hash = mix(hash, kind->offset, spaces->multiplier);
	hash = mix(hash, kind->size, spaces->multiplier);
	hash = mix(hash, u64_at(kind->build_id, 0), spaces->multiplier);
	if (kind->flags & OWN)
		hash = mix(mix(hash, kind->base, spaces->multiplier), kind->pid, spaces->multiplier);
	return mix(hash, kind->flags, spaces->multiplier);
}

static int same_kind(const struct spaces *spaces, const struct kind *known, const struct kind *kind, const uint8_t *path)
{
	return known->hash == kind->hash && known->offset == kind->offset && known->size == kind->size && known->flags == kind->flags &&
	       known->path_size == kind->path_size && !memcmp(known->build_id, kind->build_id, sizeof(kind->build_id)) &&
	       (!(kind->flags & OWN) || (known->base == kind->base && known->pid == kind->pid)) &&
	       !memcmp(spaces->paths + known->path, path, kind->path_size);
}

/* Puts all kinds into slots that are empty. */
void symbols_slot_kinds(struct spaces *spaces)
{
	uint64_t mask = (UINT64_C(1) << spaces->kind_bits) - 1;

	for (uint64_t number = 0; number < spaces->kind_count; number++) {
		uint64_t slot = spaces->kinds[number].hash & mask;

		while (spaces->kind_slots[slot])
			slot = (slot + 1) & mask;
		spaces->kind_slots[slot] = (uint32_t)number + 1;
	}
	spaces->slotted = 1;
}

/* The number of what is mapped; it gets one if it has none. */
static int number_kind(struct spaces *spaces, struct kind *kind, const uint8_t *path, uint32_t *number)
{
	uint64_t mask = (UINT64_C(1) << spaces->kind_bits) - 1, slot;
	uint32_t found;

	kind->hash = hash_kind(spaces, kind, path);
	for (slot = kind->hash & mask; (found = spaces->kind_slots[slot]); slot = (slot + 1) & mask)
		if (same_kind(spaces, &spaces->kinds[found - 1], kind, path)) {
			*number = found - 1;
			return ALL_DONE;
		}
	if (spaces->kind_count >= spaces->kind_room)
		return MORE_KINDS;
	if (spaces->path_room - spaces->path_used < kind->path_size)
		return MORE_PATHS;
	kind->path = spaces->path_used;
	memcpy(spaces->paths + kind->path, path, kind->path_size);
	spaces->path_used += kind->path_size;
	*number = (uint32_t)spaces->kind_count++;
	spaces->kinds[*number] = *kind;
	spaces->kind_slots[slot] = *number + 1;
	return ALL_DONE;
}

/* -- records */

static int map_file(struct spaces *spaces, const struct record *record, uint64_t moment)
{
	const uint8_t *bytes = record->bytes, *path, *zero;
	uint64_t text = record->kind == MMAP ? 40 : 72;
	struct row row = {u64_at(bytes, 16), 0, u64_at(bytes, 16), 0, 0};
	struct kind kind = {0};
	int outcome;

	path = bytes + text;
	kind.path_size = record->end - text < MOST_PATH ? record->end - text : MOST_PATH;
	zero = memchr(path, 0, kind.path_size);
	if (zero)
		kind.path_size = (uint64_t)(zero - path);
	kind.pid = u32_at(bytes, 8);
	kind.base = row.start;
	kind.size = u64_at(bytes, 24);
	if (kind.size > UINT64_MAX - row.start)  /* up to the last address */
		kind.size = UINT64_MAX - row.start;
	row.end = row.start + kind.size;
	kind.offset = u64_at(bytes, 32);
	if (record->kind == MMAP) {
		kind.flags = record->misc & MMAP_DATA ? 0 : EXECUTABLE;
	} else {
		kind.flags = (u32_at(bytes, 64) & PROT_EXECUTE ? EXECUTABLE : 0) | (u32_at(bytes, 68) & MAP_HUGE ? HUGE_PAGES : 0);
		if (record->misc & MMAP_BUILD_ID) {
			kind.build_id[BUILD_ID] = bytes[40] < BUILD_ID ? bytes[40] : BUILD_ID;
			memcpy(kind.build_id, bytes + 44, kind.build_id[BUILD_ID]);
		}
	}
	if (kind.flags & HUGE_PAGES || is_own(path, kind.path_size))
		kind.flags |= OWN;
	outcome = number_kind(spaces, &kind, path, &row.kind);
	if (outcome)
		return outcome;
	return symbols_lay(spaces, kind.pid, &row, moment);
}

/* An event.  What is too short for what it is, is told and does nothing. */
int symbols_apply(struct spaces *spaces, uint64_t number)
{
	uint64_t place = spaces->events[number], size;
	const uint64_t *head = spaces->words + place;
	struct record record;

	if (place >= spaces->word_count)
		return WRONG;
	record.kind = (uint32_t)(BIG_ENDIAN_HERE ? *head >> 32 : *head);
	record.misc = (uint32_t)(BIG_ENDIAN_HERE ? *head >> 16 : *head >> 32) & 0xFFFF;
	size = BIG_ENDIAN_HERE ? *head & 0xFFFF : *head >> 48;
	if (size < 8 || size & 7 || size / 8 > spaces->word_count - place)
		return WRONG;
	record.bytes = (const uint8_t *)head;
	record.end = size > spaces->trailer ? size - spaces->trailer : 0;
	switch (record.kind) {
	case MMAP:
	case MMAP2:
		if (record.end < (record.kind == MMAP ? 40 : 72))
			break;
		if ((record.misc & CPUMODE_MASK) != IN_KERNEL)
			return map_file(spaces, &record, spaces->moments[number]);
		spaces->others[spaces->other_count++] = (uint32_t)number;
		return ALL_DONE;
	case FORK:
		if (record.end < 32)
			break;
		if (record.misc & FORK_KNOWN)
			return ALL_DONE;
		return symbols_fork(spaces, u32_at(record.bytes, 8), u32_at(record.bytes, 12), spaces->moments[number]);
	case COMM:
		if (record.end < 16)
			break;
		return ALL_DONE;
	case EXIT:
		if (record.end < 32)
			break;
		return ALL_DONE;
	case LOST:
		if (record.end < 24)
			break;
		return ALL_DONE;
	case LOST_SAMPLES:
		if (record.end < 16)
			break;
		return ALL_DONE;
	default:
		if (record.end < 24)
			break;
		spaces->others[spaces->other_count++] = (uint32_t)number;
		return ALL_DONE;
	}
	spaces->damaged++;
	return ALL_DONE;
}

