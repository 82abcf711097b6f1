/* The order of several things that are each in order: a heap of their numbers, the first one's at the front. */
#ifndef HARKEN_HEAP_H
#define HARKEN_HEAP_H

#include "native.h"

/* whether the first is to come before the second; always inline, so that it costs no call */
typedef int before_fn(const void *all, uint32_t one, uint32_t two);

/* Moves the number at a place down to where it belongs. */
static inline __attribute__((always_inline)) void heap_settle(uint32_t *heap, uint64_t size, uint64_t at, before_fn *before, const void *all)
{
	for (;;) {
		uint64_t first = at, child = 2 * at + 1;
		uint32_t swap = heap[at];

		if (child < size && before(all, heap[child], heap[first]))
			first = child;
		if (child + 1 < size && before(all, heap[child + 1], heap[first]))
			first = child + 1;
		if (first == at)
			return;
		heap[at] = heap[first];
		heap[first] = swap;
		at = first;
	}
}

#endif
