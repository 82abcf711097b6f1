// The tracepoints of hypervisor calls, as PowerPC's kernels have them.
#undef TRACE_SYSTEM
#define TRACE_SYSTEM powerpc

#if !defined(HYPERVISOR_CALLS_H) || defined(TRACE_HEADER_MULTI_READ)
#define HYPERVISOR_CALLS_H

#include <linux/tracepoint.h>

TRACE_EVENT(hcall_entry,
	TP_PROTO(unsigned long opcode, unsigned long *args),
	TP_ARGS(opcode, args),
	TP_STRUCT__entry(__field(unsigned long, opcode)),
	TP_fast_assign(__entry->opcode = opcode;),
	TP_printk("opcode=%lu", __entry->opcode)
);

TRACE_EVENT(hcall_exit,
	TP_PROTO(unsigned long opcode, long retval, unsigned long *retbuf),
	TP_ARGS(opcode, retval, retbuf),
	TP_STRUCT__entry(__field(unsigned long, opcode) __field(long, retval)),
	TP_fast_assign(__entry->opcode = opcode; __entry->retval = retval;),
	TP_printk("opcode=%lu retval=%ld", __entry->opcode, __entry->retval)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE hypervisor_calls
#include <trace/define_trace.h>
