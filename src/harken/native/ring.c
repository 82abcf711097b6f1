/* Finds the records in pages of ftrace's ring buffer (formats/ring_page.py says what a page looks like; only little-endian pages). */
#include <string.h>
#include "ring.h"

#define COMMIT_MASK ((1u << 27) - 1)
#define MISSED (1u << 31)
#define STORED (1u << 30)
#define PADDING 29
#define EXTEND 30
#define STAMP 31
#define UPPER (0xF8ull << 56)

struct page {
	const uint8_t *pages;
	uint64_t length, at, stop, time;
};

static uint32_t u32_at(const uint8_t *place)
{
	uint32_t value;

	memcpy(&value, place, 4);
	return value;
}

static uint64_t u64_at(const uint8_t *place)
{
	uint64_t value;

	memcpy(&value, place, 8);
	return value;
}

/* An absolute stamp has 59 bits; the others are those of the time before it (rb_fix_abs_ts). */
static uint64_t absolute(uint64_t stamp, uint64_t before)
{
	if (before & UPPER) {
		stamp |= before & UPPER;
		if (stamp < before)
			stamp += 1ull << 59;
	}
	return stamp;
}

static void add(struct found *found, const struct page *page, uint64_t start, uint64_t size)
{
	uint64_t at = found->count++;
	uint16_t type = 0;

	if (size > 1)
		memcpy(&type, page->pages + start, 2);
	found->times[at] = page->time;
	found->starts[at] = (int64_t)start;
	found->sizes[at] = (int64_t)size;
	found->types[at] = type;
}

/* The records that are rare: long ones, time extends and stamps, discarded ones.  0 at the end of the page. */
static int rare(struct page *page, struct found *found, uint32_t kind, uint32_t delta)
{
	uint32_t extra;

	if ((kind == PADDING && !delta) || page->at + 4 > page->stop)
		return 0;
	extra = u32_at(page->pages + page->at);
	page->at += 4;
	if (kind == EXTEND) {
		page->time += ((uint64_t)extra << 27) + delta;
	} else if (kind == STAMP) {
		page->time = absolute(((uint64_t)extra << 27) + delta, page->time);
	} else if (kind == PADDING) { /* discarded; its time counts for the next one's delta */
		page->time += delta;
		page->at += extra < 1 ? 0 : (((uint64_t)extra + 3) & ~3ull) - 4;
	} else {
		page->time += delta;
		if (extra < 4 || page->at + extra - 4 > page->stop)
			return 0;
		add(found, page, page->at, extra - 4);
		page->at += ((uint64_t)extra - 4 + 3) & ~3ull;
	}
	return 1;
}

static void records(struct page *page, struct found *found)
{
	while (page->at + 4 <= page->stop) {
		uint32_t head = u32_at(page->pages + page->at);
		uint32_t kind = head & 31, delta = head >> 5;

		page->at += 4;
		if (kind - 1 >= PADDING - 1) {
			if (!rare(page, found, kind, delta))
				return;
			continue;
		}
		page->time += delta;
		if (page->at + 4 * kind > page->stop)
			return;
		add(found, page, page->at, 4 * kind);
		page->at += 4 * kind;
	}
}

/* Reads the head of the page at base and what was lost before it. */
static void head_of(struct page *page, uint64_t base, const struct layout *layout, struct found *found)
{
	uint64_t end = base + layout->page_size, used;
	uint32_t commit = u32_at(page->pages + base + layout->commit);
	int64_t number = 0;

	if (end > page->length)
		end = page->length;
	page->time = u64_at(page->pages + base + layout->time);
	page->at = base + layout->data;
	used = commit & COMMIT_MASK;
	page->stop = page->at + used < end ? page->at + used : end;
	if (!(commit & MISSED))
		return;
	if (commit & STORED && page->at + used + layout->long_size <= end) {
		if (layout->long_size == 4)
			number = (int32_t)u32_at(page->pages + page->at + used);
		else
			number = (int64_t)u64_at(page->pages + page->at + used);
	}
	found->lost[2 * found->lost_count] = found->count;
	found->lost[2 * found->lost_count++ + 1] = number > 0 ? (uint64_t)number : 0;
}

int layout_check(const struct layout *layout)
{
	if (layout->page_size <= layout->data || layout->page_size % 8 || layout->data < 8 || layout->data % 4 ||
	    layout->time > layout->data - 8 || layout->commit > layout->data - 4 ||
	    (layout->long_size != 4 && layout->long_size != 8))
		return -1;
	return 0;
}

void read_page(const uint8_t *pages, uint64_t length, uint64_t base, const struct layout *layout, struct found *found)
{
	struct page page = { .pages = pages, .length = length };

	head_of(&page, base, layout, found);
	records(&page, found);
}

/* All records of pages that stand back to back; 0, or -1 if the layout cannot be one.
 *
 * The columns of found have room for length / 8 + 1 records, lost for length / page_size + 1 pairs. */
EXPORT int harken_walk(const uint8_t *pages, uint64_t length, const struct layout *layout, struct found *found)
{
	uint64_t base;

	if (layout_check(layout))
		return -1;
	for (base = 0; base + layout->data <= length; base += layout->page_size)
		read_page(pages, length, base, layout, found);
	return 0;
}

/* The number of times up to the first that is later than the horizon. */
EXPORT uint64_t harken_until(const uint64_t *times, uint64_t count, uint64_t horizon)
{
	uint64_t at = 0;

	while (at < count && times[at] <= horizon)
		at++;
	return at;
}

EXPORT uint64_t harken_latest(const uint64_t *times, uint64_t count)
{
	uint64_t at, latest = 0;

	for (at = 0; at < count; at++)
		latest = times[at] > latest ? times[at] : latest;
	return latest;
}

/* Counts the events by their ids and gives how many different ones were found so far.
 *
 * counts has 65,536 places, which are added to; present has as many and holds the ids that were found, known of them before. */
EXPORT uint64_t harken_count(const uint16_t *types, uint64_t count, uint64_t *counts, uint16_t *present, uint64_t known)
{
	uint64_t at;

	for (at = 0; at < count; at++)
		if (!counts[types[at]]++ && known < 65536)
			present[known++] = types[at];
	return known;
}
