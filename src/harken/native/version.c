/* Which Python sources this library fits: harken.native.VERSION. */
#include "native.h"

EXPORT int harken_native_version(void)
{
	return 24;
}
