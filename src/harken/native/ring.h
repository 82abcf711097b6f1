/* Pages of ftrace's ring buffer, as ring.c reads them. */
#ifndef HARKEN_RING_H
#define HARKEN_RING_H

#include "native.h"

/* where the parts of a page are, in bytes */
struct layout {
	uint32_t page_size, time, commit, commit_size, data, long_size;
};

/* what is found; the columns have room for a record in every eight bytes, which is the least that one takes */
struct found {
	uint64_t *times;
	int64_t *starts;
	int64_t *sizes;
	uint16_t *types;
	uint64_t count;
	uint64_t *lost;       /* pairs: index of the record behind the gap, number of lost ones */
	uint64_t lost_count;
};

/* 0, or -1 if no page can be laid out like this */
int layout_check(const struct layout *layout);

/* Adds the records of the page at base, of which layout->data bytes are there, to what was found; lost has room for one more. */
void read_page(const uint8_t *pages, uint64_t length, uint64_t base, const struct layout *layout, struct found *found);

#endif
