/* What a recorder's thread knows of its stream. */
#ifndef HARKEN_RECORD_H
#define HARKEN_RECORD_H

#include "native.h"

/* The same words stand in record.py. */
struct stream {
	uint64_t raw, ended, reader, writer, target;  /* the raw file, what tells to stop, the pipe between, the file; raw does not block */
	uint64_t ready;             /* gets a byte when the loop begins to wait; then 0 */
	uint64_t interval;          /* milliseconds between two looks at a buffer that is not full enough to wake anybody */
	uint64_t start, page;       /* where the region begins in the file; bytes of a page */
	uint64_t table;             /* where the file says where the region's data begin and how many bytes there are */
	uint64_t keep;              /* bytes to keep, the last ones; 0 for all */
	uint64_t room;              /* bytes that the pipe holds */
	uint64_t size, gone;        /* bytes of the region so far, and those of them that were given back */
	uint64_t side;              /* whose an error is: 0 the buffer's, 1 the file's */
};

int harken_record(struct stream *stream);

#endif
