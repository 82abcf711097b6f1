/* What other parts use of perf.c. */
#ifndef HARKEN_PERF_H
#define HARKEN_PERF_H

#include "native.h"

EXPORT void harken_perf_order(const uint8_t *keys, uint64_t width, uint64_t count, uint32_t *indexes, uint32_t *spare);

#endif
