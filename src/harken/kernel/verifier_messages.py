"""The table of the BPF verifier's messages: pattern -> what happened, the rule, what to change.

A pattern is a regular expression for one line of the log.  ``{reg}``, ``{size}`` and other names in the three texts are its named groups;
``{known}`` is what the verifier knew of the register ``reg``.  The first pattern that matches a line wins, so special cases
stand before general ones.  Wordings differ between kernels; older ones stand beside newer ones (``inv`` became ``scalar`` in 5.18).

Facts: ``kernel/bpf/verifier.c`` and ``kernel/bpf/btf.c``.
"""

from __future__ import annotations

__all__ = ("MESSAGES",)

#: (key, pattern, what happened, the rule, what to change)
MESSAGES: tuple[tuple[str, str, str, str, str], ...] = (
    # -- null
    (
        "null_deref",
        r"(?P<reg>R\d+) invalid mem access '(?P<kind>\w*)_or_null'",
        "a pointer that may be null is followed without a check",
        "what a map lookup or a reservation returns must be compared with null before it is used",
        "check the pointer first: if (p != 0) {{ ... }}",
    ),
    (
        "null_arithmetic",
        r"(?P<reg>R\d+) pointer arithmetic on (?P<kind>\w*)_or_null prohibited",
        "an offset is added to a pointer that may be null",
        "a pointer must be known not to be null before anything is added to it",
        "check the pointer for null before computing with it",
    ),
    (
        "null_argument",
        r"Possibly NULL pointer passed to (trusted )?arg(#)?(?P<arg>\d+)",
        "a pointer that may be null is passed as argument {arg}",
        "this kernel function takes only pointers that are known not to be null",
        "check the pointer for null before the call",
    ),
    # -- memory that is not readable as such
    (
        "scalar_deref",
        r"(?P<reg>R\d+) invalid mem access '(?P<kind>scalar|inv|imm|fp)'",
        "a plain number is used as a pointer",
        "only pointers that the verifier knows may be followed; kernel and user memory must be read by probe_read",
        "read it with kptr()/uptr() or str(), or cast it to the struct that it points to",
    ),
    (
        "user_deref",
        r"(?P<reg>R\d+) is ptr_(?P<type>\w+) access user memory",
        "a user-space pointer is followed as if it were the kernel's",
        "user memory must be read by probe_read_user",
        "mark the pointer as the user's with uptr()",
    ),
    (
        "pointer_kind",
        r"(?P<reg>R\d+) invalid mem access '(?P<kind>[\w ]+)'",
        "memory of the kind '{kind}' is read or written directly",
        "the verifier lets programs follow only pointers to the context, the stack, map values, ring records and trusted structs",
        "read it by probe_read, or use the helper that belongs to it",
    ),
    # -- stack
    (
        "stack_uninitialised",
        r"invalid (indirect )?(read|access) (from|to) stack (?P<where>(R\d+ )?(off |var_off )?-?\d*.*)|invalid indirect access to stack.*",
        "bytes of the stack are read that were never written",
        "every byte that is read, or that a helper reads through a pointer, must have been written before",
        "initialise the whole variable, padding included, before it is used as a key, a value or a buffer",
    ),
    (
        "stack_too_deep",
        r"combined stack size of (?P<calls>\d+) calls is (?P<size>\d+)\. Too large",
        "the program and the functions that it calls need {size} bytes of stack",
        "all frames of a call chain together have 512 bytes",
        "use smaller strings and buffers, or fewer large variables at a time",
    ),
    (
        "stack_bounds",
        r"invalid (variable-offset )?(write to|unbounded .*stack|stack type).*|invalid stack off=(?P<off>-?\d+) size=(?P<size>\d+).*"
        r"|(?P<reg>R\d+) (stack pointer arithmetic goes out of range|unbounded indirect variable offset stack access).*",
        "memory outside of the stack frame is accessed",
        "a frame has 512 bytes, below the frame pointer",
        "keep indexes inside of the variable, and variables below 512 bytes together",
    ),
    (
        "stack_alignment",
        r"misaligned (stack|value|packet|pointer) access.*",
        "a value is accessed at an address that is not a multiple of its size",
        "accesses to the stack and to map values must be aligned",
        "align the variable or field, or read it byte by byte",
    ),
    (
        "spill_size",
        r"invalid size of register (spill|fill).*",
        "a pointer is saved on the stack, or fetched from there, in less than 8 bytes",
        "pointers are saved and fetched whole",
        "do not treat a pointer variable as a smaller number",
    ),
    (
        "stack_spill",
        r"(attempt to corrupt spilled pointer on stack|corrupted spill memory|leaking pointer from stack.*)",
        "part of a pointer that was saved on the stack is overwritten or read",
        "a saved pointer may only be read and written whole",
        "do not treat a pointer variable as bytes",
    ),
    # -- bounds
    (
        "value_bounds",
        r"invalid access to map value, value_size=(?P<value_size>\d+) off=(?P<off>-?\d+) size=(?P<size>\d+)",
        "{size} bytes are accessed at offset {off} of a map value that has {value_size} bytes",
        "an access must lie inside of the value, whatever the index may be",
        "check the index against the number of elements right before it is used, or mask it: i & 15",
    ),
    (
        "key_bounds",
        r"invalid access to (map key|packet|memory|mem)[^=]*(, \w+_size=(?P<mem_size>-?\d+))?.*off=(?P<off>-?\d+).*size=(?P<size>\d+).*",
        "{size} bytes are accessed at offset {off}, outside of the memory that the pointer points to",
        "an access must lie inside of the memory, whatever the index may be",
        "check the index or length right before it is used",
    ),
    (
        "negative_index",
        r"(?P<reg>R\d+) min value is (negative|outside of the allowed memory range).*",
        "an index or length may be negative: {known}",
        "the lowest possible value must be inside of the memory, so a signed number needs a lower bound",
        "make it unsigned, or mask it: i & 15",
    ),
    (
        "unbounded_index",
        r"(?P<reg>R\d+) (max value is outside of the allowed memory range|unbounded memory access.*)",
        "an index or length has no upper bound: {known}",
        "the highest possible value must be inside of the memory",
        "check it against a constant right before it is used, or mask it: i & 15",
    ),
    (
        "unbounded_math",
        r"math between (?P<kind>\w+) pointer and (register with unbounded min value|(?P<value>-?\d+)) is not allowed"
        r"|value -?\d+ makes (?P<kind2>\w+) pointer be out of bounds|(?P<reg>R\d+) has unknown scalar with mixed signed bounds.*"
        r"|(?P<kind3>\w+) pointer offset -?\d+ is not allowed",
        "a number without bounds is added to a pointer",
        "an offset must have a known range before it is added to a pointer",
        "check the index against a constant first, or mask it: i & 15",
    ),
    (
        "zero_size",
        r"(?P<reg>R\d+) invalid zero-sized read.*|invalid zero-size[d]? read.*",
        "a length that may be zero is passed where at least one byte is needed",
        "this helper needs a length of one or more",
        "check that the length is not zero",
    ),
    (
        "pointer_math",
        r"(?P<reg>R\d+) (32-bit pointer arithmetic prohibited|pointer arithmetic (with \S+ operator )?(on \S+ )?prohibited.*)"
        r"|(?P<reg2>R\d+) pointer (\S+ )?pointer prohibited|(?P<reg3>R\d+) (tried to subtract pointer from scalar"
        r"|bitwise operator \S+ on pointer prohibited).*",
        "pointers are computed with in a way that is not allowed",
        "only a bounded number may be added to or subtracted from a pointer, in 64 bits",
        "convert the pointer to a number first: (uint64)p",
    ),
    # -- registers
    (
        "uninitialised",
        r"(?P<reg>R\d+) !read_ok",
        "a value is used that was never computed on this path ({reg})",
        "each register must be written before it is read on every path, and a call destroys r1 to r5",
        "give the variable a value on every path that leads here",
    ),
    (
        "frame_pointer",
        r"frame pointer is read only|(?P<reg>R10) .*read only",
        "the frame pointer is written",
        "r10 is read-only",
        "this is a compiler's error: please report it",
    ),
    (
        "exit_value",
        r"At (program exit|callback return|async callback return|subprogram exit.*?) the register (?P<reg>R0) .*",
        "the program, or a callback in it, returns a value that is not allowed there: {known}",
        "some programs may return only certain values (most tracing programs: 0), callbacks 0 to go on or 1 to stop",
        "return 0",
    ),
    (
        "exit_leak",
        r"(?P<reg>R0) leaks addr as return value|(?P<reg2>R\d+) leaks addr into (?P<where>\w+).*",
        "a kernel address would become visible to an unprivileged user",
        "without CAP_PERFMON pointers must not leave the program",
        "run as root, or with the capabilities CAP_BPF and CAP_PERFMON",
    ),
    # -- context and BTF
    (
        "context_access",
        r"invalid bpf_context access off=(?P<off>-?\d+) size=(?P<size>\d+).*",
        "the program's context has nothing that is {size} bytes long at offset {off}, or it may not be accessed so",
        "each program type may access only certain fields of its context, with their own sizes",
        "does the probe have this argument here? 'harken list -v PROBE' shows what it has",
    ),
    (
        "context_pointer",
        r"dereference of modified ctx ptr (?P<reg>R\d+).*|variable ctx access var_off=.*|negative offset ctx ptr (?P<reg2>R\d+).*",
        "the context is accessed at an offset that is not a constant",
        "fields of the context are found by constant offsets only",
        "use a constant index for the probe's arguments",
    ),
    (
        "argument_missing",
        r"func '(?P<function>[^']*)' doesn't have (?P<arg>\d+)-th argument",
        "{function}() has no argument number {arg} (counted from 0 or 1, as the kernel counts)",
        "a program bound to a function sees exactly the arguments that its type has",
        "'harken list -v' shows the function's arguments",
    ),
    (
        "struct_bounds",
        r"access beyond (the end of )?(struct|member|union) (?P<struct>\S+).*|access beyond struct (?P<struct2>\S+) at off .*",
        "a field is read beyond the end of struct {struct}",
        "trusted pointers may be followed only inside of the struct that they point to",
        "the struct may look different on this kernel; cast to the right one",
    ),
    (
        "btf_write",
        r"only read is supported|cannot write into (?P<kind>\S+)|(?P<reg>R\d+) cannot write into (?P<kind2>\S+)|write into map forbidden.*",
        "memory is written that programs may only read",
        "kernel structs, constants and read-only maps cannot be changed by a program",
        "copy the value into a variable and change that",
    ),
    (
        "attach_target",
        r"attach_btf_id (?P<id>\d+) (is not a function|is invalid|points to wrong type name.*|is not a typedef)|.*does not have .*btf_id.*"
        r"|btf_id \d+ is not in the subset of.*|(?P<function>\S+) is not a(n)? (modifiable function|sleepable|valid .*)",
        "the kernel does not let programs of this type attach to this function",
        "only some functions can be attached to, and each program type has its own list",
        "try another function near by, or a kprobe instead",
    ),
    # -- helpers and kernel functions
    (
        "override",
        r"unknown func bpf_override_return#(?P<number>\d+)",
        "this kernel does not let programs replace what functions return",
        "bpf_override_return() needs a kernel built with CONFIG_BPF_KPROBE_OVERRIDE, and a function that is marked as one that may fail",
        "boot a kernel that is built with CONFIG_BPF_KPROBE_OVERRIDE",
    ),
    (
        "helper_type",
        r"(program of this type cannot use helper|unknown func) (?P<helper>\S+?)#(?P<number>\d+)",
        "the function {helper}() is not offered to this kind of probe",
        "each program type may call only certain helpers; others need a newer kernel or more privileges",
        "use another kind of probe, or another way to get the value",
    ),
    (
        "helper_unknown",
        r"invalid func unknown#(?P<number>-?\d+)|invalid func (?P<helper>\S+)#(?P<number2>\d+)",
        "this kernel does not have the helper function number {number}",
        "programs may call only the helpers that their kernel has",
        "this part of the program needs a newer kernel",
    ),
    (
        "gpl_only",
        r"cannot call GPL(-restricted| only) function from (non-GPL compatible|proprietary) program",
        "a program that does not declare a GPL-compatible licence calls a GPL-only function",
        "most tracing helpers are for GPL-compatible programs only",
        "declare the licence 'GPL'",
    ),
    (
        "kfunc",
        r"calling kernel function (?P<function>\S+) is not allowed"
        r"|kernel btf_id (?P<id>\d+) is not a function|calling invalid kernel (offset|function).*"
        r"|kernel function (?P<function2>\S+) .*not allowed.*",
        "a kernel function is called that this kind of program may not call: {function}",
        "each program type has its own list of kernel functions",
        "use another kind of probe, or another way to get the value",
    ),
    (
        "ksym",
        r"ldimm64 failed to find the address for kernel symbol '(?P<symbol>[^']*)'.*|pseudo btf_id \d+ in ldimm64 isn't KIND_VAR.*",
        "the kernel variable {symbol} has no address in /proc/kallsyms",
        "the verifier looks variables up by name, and kernels without CONFIG_KALLSYMS_ALL list only functions",
        "read the value another way",
    ),
    (
        "map_helper",
        r"cannot pass map_type (?P<type>\d+) into func (?P<helper>\S+?)#\d+",
        "{helper}() does not work with a map of this type",
        "each helper takes only certain map types",
        "use another kind of map",
    ),
    (
        "record_used_again",
        r"(?P<reg>R1) type=(scalar|inv) expected=(ringbuf_mem|alloc_mem)",
        "a ring record is used after it was submitted or discarded, or something else is submitted",
        "a record belongs to the program only between its reservation and its end",
        "this is a compiler's error: please report it",
    ),
    (
        "argument_constant",
        r"(?P<reg>R\d+) is not a known constant'?|(?P<reg2>R\d+) (doesn't have constant offset|must be a known constant).*"
        r"|mem_size_value.*constant.*",
        "argument {argument} of a function call must be a constant, but it is {known}",
        "sizes of ring records and some flags must be known when the program is loaded",
        "use a constant",
    ),
    (
        "argument_type",
        r"(?P<reg>R\d+) type=(?P<got>\S+) expected=(?P<expected>.*)",
        "argument {argument} of a function call is {got}, but must be {expected}",
        "helpers check what kind of pointer or number they get",
        "pass a variable, not a computed pointer; strings and structs must be copied first",
    ),
    (
        "preallocation",
        r".*programs can only use preallocated (hash )?map.*",
        "this kind of probe needs maps whose elements are allocated beforehand",
        "a probe that can fire anywhere must not allocate memory on this kernel",
        "use a map without BPF_F_NO_PREALLOC",
    ),
    (
        "sleepable",
        r".*(might_sleep|may sleep|sleepable).*",
        "a function that may sleep is called where sleeping is not allowed, or the other way round",
        "only sleepable programs may call functions that can sleep, and not inside of critical sections",
        "use the variant that does not sleep",
    ),
    # -- references and locks
    (
        "unreleased",
        r"Unreleased reference id=(?P<id>\d+) alloc_insn=(?P<insn>\d+)|.*would lead to reference leak"
        r"|reference has not been acquired before",
        "something that was reserved or acquired is neither submitted, discarded nor released on every path",
        "what a program reserves or acquires (a ring record, a task, a socket) it must give back before it ends",
        "leave no early return between the reservation and the end of the output",
    ),
    (
        "lock_place",
        r"(?P<kind>[\w ]+?) (progs|programs) cannot use (?P<what>bpf_\w+)( yet)?.*",
        "programs of this kind may not use {what}: the verifier says so of {kind} programs",
        "locks and timers in map values are for programs that nothing interrupts, which probes are not",
        "count with atomic operations, or keep one value per CPU",
    ),
    # -- shape of the program
    (
        "mixed_pointers",
        r"same insn cannot be used with different pointers.*",
        "one instruction accesses memory of different kinds on different paths",
        "the kernel rewrites accesses to the context and to kernel structs, so an instruction must always access the same kind",
        "access the memory inside of each branch, not after them",
    ),
    (
        "atomic_target",
        r"(BPF_ATOMIC|BPF_XADD|atomic) stores? into (?P<reg>R\d+) (?P<kind>\S+) is not allowed",
        "an atomic operation on memory of the kind '{kind}'",
        "atomic operations work on map values, the stack and ring records only",
        "keep the counter in a map",
    ),
    (
        "global_function",
        r"Global function (?P<function>\S+) doesn't return scalar.*|Caller passes invalid args into func#\d+.*|arg#(?P<arg>\d+) .*"
        r"|(?P<reg>R\d+) is not a pointer|callback function not allowed.*",
        "a function of the program is called with arguments, or returns a value, that its type does not allow",
        "global functions are verified once, by their BTF type alone, and return a number",
        "make the function static, or change its type",
    ),
    (
        "verifier_bug",
        r"(verifier bug|kernel subsystem misconfigured verifier|bpf verifier is misconfigured).*",
        "the verifier is not sure of itself: this is an error in the kernel",
        "the kernel's own checks failed while it verified the program",
        "report it with the whole log to the kernel's distributor; another formulation of the program may pass",
    ),
    (
        "too_many_maps",
        r"The total number of maps per program has reached the limit of (?P<limit>\d+)",
        "one probe uses more than {limit} maps",
        "a program may use at most {limit} maps, harken's own for events and losses among them",
        "make one map of several, with a key that tells them apart, or divide the work between probes",
    ),
    (
        "too_many_jumps",
        r"The sequence of (?P<jumps>\d+) jumps is too complex\.",
        "the verifier gave up: too many branches one after another, or a loop whose end it cannot see",
        "the verifier remembers at most 8,192 branches on its way through a program; each condition and assignment to a map is one",
        "give loops a constant bound; divide long programs between probes",
    ),
    (
        "too_complex",
        r"BPF program is too large\. Processed (?P<count>\d+) insn|.*too many states.*",
        "the program has too many paths: the verifier gave up",
        "the verifier walks all paths through a program, at most 1,000,000 instructions in all",
        "use fewer branches, unroll less, and bound loops tightly",
    ),
    (
        "infinite_loop",
        r"infinite loop detected at insn (?P<insn>\d+)",
        "a loop does not come nearer to its end",
        "the verifier must see that each loop ends: something in its condition has to change",
        "loop over a counter with a constant bound",
    ),
    (
        "back_edge",
        r"back-edge from insn (?P<insn>\d+) to (?P<to>\d+)",
        "the program has a loop, which this kernel or this user may not have",
        "loops need Linux 5.3 and privileges",
        "use unroll(N) {{ ... }} instead",
    ),
    (
        "too_many_insns",
        r".*(too many (subprogs|insns|processed)|program too large|.*bpf_insn.*limit).*",
        "the program is too long",
        "a program has at most 1,000,000 instructions (4,096 before Linux 5.2)",
        "split it, or unroll less",
    ),
    (
        "call_depth",
        r"the call stack of (?P<depth>\d+) frames is too deep.*",
        "functions are nested too deeply",
        "at most 8 calls may be nested",
        "inline some functions",
    ),
    (
        "unreachable",
        r"unreachable insn (?P<insn>\d+)|jump out of range from insn (?P<insn2>\d+) to \d+|last insn is not an exit or jmp"
        r"|invalid bpf_ld_imm64 insn"
        r"|jump into the middle of ldimm64 insn.*|unknown opcode (?P<opcode>\w+)|BPF_\S+ uses reserved fields.*|invalid insn idx.*",
        "the instructions are not well formed",
        "every instruction must be known, reachable, and jumps must stay inside of the function",
        "this is a compiler's error: please report it",
    ),
    (
        "division",
        r"div(ision)? by zero",
        "a number is divided by the constant zero",
        "a constant divisor must not be zero (a variable one may: the result is 0 then)",
        "check the divisor",
    ),
    (
        "shift",
        r"invalid shift (?P<bits>-?\d+)",
        "a number is shifted by {bits} bits",
        "a constant shift must be less than the number of bits",
        "shift by 0 to 63 bits",
    ),
    (
        "bad_map",
        r"fd (?P<fd>-?\d+) is not pointing to valid bpf_map|unrecognized bpf_ld_imm64 insn",
        "the program uses a map that does not exist",
        "each map must be created before the program is loaded, and be open",
        "this is a compiler's error: please report it",
    ),
    (
        "func_info",
        r".*(func_info|line_info|func info).*|number of funcs in func_info.*",
        "the type information does not fit the instructions",
        "each function needs a BTF record at its first instruction",
        "this is a compiler's error: please report it",
    ),
)
