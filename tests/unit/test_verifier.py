"""Verifier logs of many kernels -> the user's terms.  Lines are as kernels 5.4 to 6.18 write them."""

from __future__ import annotations

import re
from struct import pack

import pytest

from harken.formats.spec import ProgramSpec
from harken.kernel.verifier import describe_register, explain
from harken.kernel.verifier_messages import MESSAGES

STATISTICS = "processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n"

LINES = [
    ("The total number of maps per program has reached the limit of 64", "too_many_maps"),
    # one wording per line; several kernels' wordings of one thing stand together
    ("R0 invalid mem access 'map_value_or_null'", "null_deref"),
    ("R0 invalid mem access 'alloc_mem_or_null'", "null_deref"),
    ("R0 invalid mem access 'ringbuf_mem_or_null'", "null_deref"),
    ("R0 pointer arithmetic on map_value_or_null prohibited, null-check it first", "null_arithmetic"),
    ("Possibly NULL pointer passed to trusted arg0", "null_argument"),
    ("R1 invalid mem access 'inv'", "scalar_deref"),
    ("R1 invalid mem access 'scalar'", "scalar_deref"),
    ("R2 is ptr_task_struct access user memory: off=16", "user_deref"),
    ("R1 invalid mem access 'map_ptr'", "pointer_kind"),
    ("invalid indirect read from stack off -8+0 size 8", "stack_uninitialised"),
    ("invalid indirect read from stack R2 off -8+4 size 8", "stack_uninitialised"),
    ("invalid read from stack off -16+0 size 8", "stack_uninitialised"),
    ("invalid read from stack R10 off -520 size 8", "stack_uninitialised"),
    ("invalid stack off=-520 size=8", "stack_bounds"),
    ("invalid write to stack R10 off=-520 size=8", "stack_bounds"),
    ("invalid variable-offset write to stack R3 var_off=(0x0; 0xffff) off=0 size=1", "stack_bounds"),
    ("misaligned stack access off (0x0; 0x0)+0+-12 size 8", "stack_alignment"),
    ("misaligned stack access off 0+0+-12 size 8", "stack_alignment"),
    ("attempt to corrupt spilled pointer on stack", "stack_spill"),
    ("combined stack size of 2 calls is 576. Too large", "stack_too_deep"),
    ("invalid access to map value, value_size=8 off=8 size=8", "value_bounds"),
    ("invalid access to memory, mem_size=8 off=8 size=8", "key_bounds"),
    ("invalid access to packet, off=14 size=4, R2(id=0,off=14,r=0)", "key_bounds"),
    ("R2 min value is negative, either use unsigned index or do a if (index >=0) check.", "negative_index"),
    ("R2 min value is negative, either use unsigned or 'var &= const'", "negative_index"),
    ("R0 min value is outside of the allowed memory range", "negative_index"),
    ("R0 max value is outside of the allowed memory range", "unbounded_index"),
    ("R2 unbounded memory access, make sure to bounds check any such access", "unbounded_index"),
    ("R2 unbounded memory access, use 'var &= const' or 'if (var < const)'", "unbounded_index"),
    ("math between map_value pointer and register with unbounded min value is not allowed", "unbounded_math"),
    ("math between fp pointer and 2147483647 is not allowed", "unbounded_math"),
    ("value -2147483648 makes map_value pointer be out of bounds", "unbounded_math"),
    ("R2 invalid zero-sized read", "zero_size"),
    ("R2 invalid zero-sized read: u64=[0,0]", "zero_size"),
    ("R2 32-bit pointer arithmetic prohibited", "pointer_math"),
    ("R2 pointer += pointer prohibited", "pointer_math"),
    ("R2 pointer arithmetic with *= operator prohibited", "pointer_math"),
    ("R5 !read_ok", "uninitialised"),
    ("frame pointer is read only", "frame_pointer"),
    ("At program exit the register R0 has value (0x4d; 0x0) should have been in (0x0; 0x1)", "exit_value"),
    ("At program exit the register R0 has smin=77 smax=77 should have been in [0, 1]", "exit_value"),
    ("At callback return the register R0 has smin=0 smax=4294967295 should have been in [0, 1]", "exit_value"),
    ("invalid size of register fill", "spill_size"),
    ("same insn cannot be used with different pointers", "mixed_pointers"),
    ("BPF_ATOMIC stores into R1 ctx is not allowed", "atomic_target"),
    ("BPF_XADD stores into R2 pkt is not allowed", "atomic_target"),
    ("Caller passes invalid args into func#1 ('helper')", "global_function"),
    ("kernel subsystem misconfigured verifier", "verifier_bug"),
    ("R0 leaks addr as return value", "exit_leak"),
    ("invalid bpf_context access off=20000 size=8", "context_access"),
    ("dereference of modified ctx ptr R1 off=4 disallowed", "context_pointer"),
    ("variable ctx access var_off=(0x0; 0x7) disallowed", "context_pointer"),
    ("func 'vfs_read' doesn't have 6-th argument", "argument_missing"),
    ("access beyond struct task_struct at off 99999 size 8", "struct_bounds"),
    ("only read is supported", "btf_write"),
    ("write into map forbidden, value_size=16 off=0 size=8", "btf_write"),
    ("attach_btf_id 1234 is not a function", "attach_target"),
    ("unknown func bpf_override_return#58", "override"),
    ("unknown func bpf_get_stackid#27", "helper_type"),
    ("program of this type cannot use helper bpf_override_return#58", "helper_type"),
    ("invalid func unknown#9999", "helper_unknown"),
    ("cannot call GPL-restricted function from non-GPL compatible program", "gpl_only"),
    ("cannot call GPL only function from proprietary program", "gpl_only"),
    ("calling kernel function bpf_task_acquire is not allowed", "kfunc"),
    ("ldimm64 failed to find the address for kernel symbol 'bpf_prog_active'.", "ksym"),
    ("cannot pass map_type 1 into func bpf_perf_event_output#25", "map_helper"),
    ("R1 type=inv expected=map_ptr", "argument_type"),
    ("R2 type=scalar expected=fp, pkt, pkt_meta, map_key, map_value", "argument_type"),
    ("R1 type=scalar expected=ringbuf_mem", "record_used_again"),
    ("R1 type=inv expected=alloc_mem", "record_used_again"),
    ("R2 is not a known constant'", "argument_constant"),
    ("helper call might sleep in a non-sleepable prog", "sleepable"),
    ("trace type programs can only use preallocated hash map", "preallocation"),
    ("Unreleased reference id=2 alloc_insn=4", "unreleased"),
    ("tracing progs cannot use bpf_spin_lock yet", "lock_place"),
    ("socket filter progs cannot use bpf_spin_lock yet", "lock_place"),
    ("tracing progs cannot use bpf_timer yet", "lock_place"),
    ("BPF_EXIT instruction in main prog would lead to reference leak", "unreleased"),
    ("BPF program is too large. Processed 1000001 insn", "too_complex"),
    ("The sequence of 8193 jumps is too complex.", "too_many_jumps"),
    ("infinite loop detected at insn 7", "infinite_loop"),
    ("back-edge from insn 5 to 2", "back_edge"),
    ("the call stack of 9 frames is too deep", "call_depth"),
    ("unreachable insn 4", "unreachable"),
    ("jump out of range from insn 1 to 102", "unreachable"),
    ("unknown opcode ff", "unreachable"),
    ("BPF_MOV uses reserved fields", "unreachable"),
    ("div by zero", "division"),
    ("invalid shift 64", "shift"),
    ("fd 9 is not pointing to valid bpf_map", "bad_map"),
    ("number of funcs in func_info doesn't match number of subprogs", "func_info"),
]


@pytest.mark.parametrize(("line", "key"), LINES, ids=[line for line, _ in LINES])
def test_known_lines(line: str, key: str) -> None:
    found = explain(f"0: R1=ctx(off=0,imm=0) R10=fp0\n0: (85) call unknown\n{line}\n{STATISTICS}")
    assert (found.key, found.said) == (key, line)
    assert found.message and found.rule and found.hint
    assert "{" not in found.message + found.rule and "  " not in found.message, found.message


def test_every_entry_of_the_table_is_tested_and_well_formed() -> None:
    keys = [entry[0] for entry in MESSAGES]
    assert len(keys) == len(set(keys))
    untested = set(keys) - {key for _, key in LINES}
    # these need a line that no kernel at hand writes by itself
    assert untested <= {"too_many_insns"}
    for key, pattern, what, rule, hint in MESSAGES:
        names = set(re.compile(pattern).groupindex)
        wanted = {name for text in (what, rule, hint) for name in re.findall(r"(?<!\{)\{(\w+)\}(?!\})", text)}
        assert wanted <= {name.rstrip("23") for name in names} | {"known", "argument"}, key


def test_numbers_get_into_the_sentence() -> None:
    found = explain("3: (79) r1 = *(u64 *)(r0 +8)\ninvalid access to map value, value_size=8 off=8 size=8\nR0 max value is outside\n")
    assert found.message == "8 bytes are accessed at offset 8 of a map value that has 8 bytes"
    assert (found.insn, found.instruction) == (3, "r1 = *(u64 *)(r0 +8)")


def test_what_the_verifier_knew() -> None:
    log = (
        "4: (bf) r2 = r6                       ; R2_w=scalar(id=1,umax=65535,var_off=(0x0; 0xffff)) R6_w=scalar(id=1,umax=65535)\n"
        "5: (85) call bpf_probe_read_kernel#113\n"
        "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'\n" + STATISTICS
    )
    found = explain(log)
    assert found.known == "scalar(id=1,umax=65535,var_off=(0x0; 0xffff))"
    assert found.message == "an index or length has no upper bound: a number from 0 to 65535"


def test_what_an_older_verifier_knew() -> None:
    log = (
        "5: R0_w=map_value(id=0,off=0,ks=4,vs=16,imm=0) R2_w=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R10=fp0\n"
        "5: (85) call bpf_probe_read_kernel#113\nR2 unbounded memory access, make sure to bounds check any such access\n"
    )
    assert explain(log).message.endswith("a number from 0 to 4294967295")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("scalar()", "any number"),
        ("inv(id=0)", "any number"),
        ("inv7", "the number 7"),
        ("0", "the number 0"),
        ("scalar(smin=umin=1,smax=umax=0xff,var_off=(0x0; 0xff))", "a number from 1 to 255"),
        ("scalar(smin=-5,smax=9)", "a number from -5 to 9"),
        ("scalar(smax=0x7fffffff)", "a number of at most 2147483647"),
        ("scalar(umin=4)", "a number of at least 4"),
        ("ctx(off=0,imm=0)", "a pointer to the context"),
        ("fp-16", "a pointer to the stack at -16"),
        ("map_value_or_null(id=1,off=0,ks=4,vs=8)", "a pointer to a map value that may be null"),
        ("trusted_ptr_task_struct(off=0,imm=0)", "a pointer to a kernel struct (task_struct)"),
        ("ptr_or_null_file(id=2)", "a pointer to a kernel struct (file) that may be null"),
        ("something_new(x=1)", "something_new(x=1)"),
    ],
)
def test_register_states_in_words(state: str, words: str) -> None:
    assert describe_register(state) == words


SOURCE_LOG = """func#0 @0
0: R1=ctx() R10=fp0
; $p = @x[1] @ slow.bt:2
0: (b7) r1 = 0                        ; R1_w=0
; print($p->next) @ slow.bt:3
1: (79) r2 = *(u64 *)(r1 +0)
R1 invalid mem access 'scalar'
"""


def test_the_users_line() -> None:
    found = explain(SOURCE_LOG + STATISTICS)
    assert (found.file, found.line, found.text, found.position) == ("slow.bt", 3, "print($p->next)", "slow.bt:3")
    diagnostic = found.diagnostic
    assert diagnostic and diagnostic.span and diagnostic.severity == "error"
    assert diagnostic.position == "slow.bt:3:1-16" and diagnostic.span.text == "print($p->next)" and diagnostic.hint == found.hint


def test_a_source_line_with_an_at_sign_in_it() -> None:
    found = explain("; @a[1] @ x.bt:7\n0: (95) exit\nR0 !read_ok\n")
    assert (found.text, found.position) == ("@a[1]", "x.bt:7")


def test_kernels_before_6_9_write_no_position() -> None:
    found = explain("; @a[comm] = count()\n0: (95) exit\nR0 !read_ok\n")
    assert (found.text, found.line, found.position, found.diagnostic) == ("@a[comm] = count()", 0, "", None)


def test_the_programs_own_line_info_serves_any_kernel() -> None:
    strings = b"\0x.bt\0first line\0  second line\0"
    btf = pack("=HBBI", 0xEB9F, 1, 0, 24) + pack("=IIII", 0, 0, 0, len(strings)) + strings
    line_info = pack("=IIII", 0, 1, 6, 1 << 10 | 1) + pack("=IIII", 2, 1, 17, 2 << 10 | 3)
    program = ProgramSpec("p", 5, bytes(40), line_info=line_info)
    log = "0: (b7) r0 = 0\n1: (b7) r1 = 0\n3: (79) r2 = *(u64 *)(r1 +0)\nR1 invalid mem access 'inv'\n"
    found = explain(log, program, btf)
    assert (found.position, found.text) == ("x.bt:2", "  second line")
    assert found.diagnostic and found.diagnostic.position == "x.bt:2:3-14"
    assert explain("0: (79) r2 = *(u64 *)(r1 +0)\nR1 invalid mem access 'inv'\n", program, btf).position == "x.bt:1"


def test_unknown_messages_keep_the_verifiers_words() -> None:
    found = explain(f"0: (95) exit\nthe moon is in the wrong phase\n{STATISTICS}")
    assert (found.key, found.message) == ("", "it says: the moon is in the wrong phase") and "whole log" in found.hint


@pytest.mark.parametrize(
    "log", ["", "\n", STATISTICS, "0: (95) exit\n", "; only a comment @ x:1\n", "\0\xff garbage : (", "R", "R0=", "0: (" * 1000]
)
def test_nonsense_is_survived(log: str) -> None:
    assert explain(log).message


def test_long_logs_take_linear_time() -> None:
    log = "".join(f"{index}: (07) r1 += 1 ; R1_w=scalar() R2=scalar(umax={index})\n" for index in range(100_000))
    found = explain(log + "R2 unbounded memory access, use 'var &= const'\n" + STATISTICS)
    assert found.insn == 99_999 and found.known == "scalar(umax=99999)"


def test_the_reason_is_found_at_the_end_only() -> None:
    """An earlier path may have printed something that looks like a message."""
    log = "R5 !read_ok\n0: (b7) r1 = 0\n1: (79) r2 = *(u64 *)(r1 +0)\nR1 invalid mem access 'scalar'\n"
    assert explain(log).key == "scalar_deref"
