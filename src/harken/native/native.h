/* What the parts of harken's accelerator share. */
#ifndef HARKEN_NATIVE_H
#define HARKEN_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* visible outside the library; everything else is hidden */
#define EXPORT __attribute__((visibility("default")))

#endif
