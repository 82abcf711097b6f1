"""The events of ``trace_mutants``: format files of every tracer, of every kind of field and of everything that a print fmt can say."""

from __future__ import annotations

__all__ = ("FORMATS", "SYMBOLS")

#: Functions of the recordings.
SYMBOLS = (
    (0xFFFFFFFF81000000, "_stext"), (0xFFFFFFFF81000100, "do_it"), (0xFFFFFFFF81000200, "vfs_read"), (0xFFFFFFFF81000300, "_etext"),
    (0xFFFFFFFFC0000000, "load\t[mod]"), (0xFFFFFFFF81000180, "__irqentry_text_start"), (0xFFFFFFFF810001C0, "__irqentry_text_end"),
)  # fmt: skip

_COMMON = (
    "unsigned short common_type 0 2 0; unsigned char common_flags 2 1 0; unsigned char common_preempt_count 3 1 0; int common_pid 4 4 1"
)

#: A field of every kind.
_ALL_KINDS = (
    "int a 8 4 1; u64 b 16 8 0; s16 c 24 2 1; u8 d 26 1 0; char comm[16] 32 16 0; __data_loc char[] path 48 4 0; "
    "__data_loc u8[] raw 52 4 0; unsigned long args[3] 56 24 0; __rel_loc char[] near 80 4 0; "
    "__data_loc unsigned long[] mask 84 4 0; __data_loc s16[] words 88 4 0; struct big thing 92 20 0; bool yes 112 1 0; "
    "char rest[] 113 0 0"
)

#: category, name, id, fields ("TYPE NAME OFFSET SIZE SIGNED; ..."), print fmt
_EVENTS = (
    (
        "ftrace",
        "function",
        1,
        "unsigned long ip 8 8 0; unsigned long parent_ip 16 8 0; unsigned long args[] 24 0 0",
        '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip',
    ),
    (
        "ftrace",
        "context_switch",
        2,
        "unsigned int prev_pid 8 4 0; unsigned int next_pid 12 4 0; unsigned int next_cpu 16 4 0; unsigned char "
        "prev_prio 20 1 0; unsigned char prev_state 21 1 0; unsigned char next_prio 22 1 0; unsigned char next_state "
        "23 1 0",
        '"%u:%u:%u  ==> %u:%u:%u [%03u]", REC->prev_pid, REC->prev_prio, REC->prev_state, REC->next_pid',
    ),
    (
        "ftrace",
        "wakeup",
        3,
        "unsigned int prev_pid 8 4 0; unsigned int next_pid 12 4 0; unsigned int next_cpu 16 4 0; unsigned char "
        "prev_prio 20 1 0; unsigned char prev_state 21 1 0; unsigned char next_prio 22 1 0; unsigned char next_state "
        "23 1 0",
        '"%u:%u:%u  ==+ %u:%u:%u [%03u]", REC->prev_pid, REC->prev_prio, REC->prev_state, REC->next_pid',
    ),
    (
        "ftrace",
        "kernel_stack",
        4,
        "int size 8 4 1; unsigned long caller[8] 16 64 0",
        '"\\t=> %ps\\n", (void *)REC->caller[0]',
    ),
    (
        "ftrace",
        "print",
        5,
        "unsigned long ip 8 8 0; char buf[] 16 0 0",
        '"%ps: %s", (void *)REC->ip, REC->buf',
    ),
    (
        "ftrace",
        "bprint",
        6,
        "unsigned long ip 8 8 0; const char * fmt 16 8 0; u32 buf[] 24 0 0",
        '"%ps: %s", (void *)REC->ip, REC->fmt',
    ),
    (
        "ftrace",
        "mmiotrace_rw",
        7,
        "resource_size_t phys 8 8 0; unsigned long value 16 8 0; unsigned long pc 24 8 0; int map_id 32 4 1; unsigned "
        "char opcode 36 1 0; unsigned char width 37 1 0",
        '"%lx %lx %lx %d %x %x", (unsigned long)REC->phys, REC->value, REC->pc, REC->map_id, REC->opcode, REC->width',
    ),
    (
        "ftrace",
        "mmiotrace_map",
        8,
        "resource_size_t phys 8 8 0; unsigned long virt 16 8 0; unsigned long len 24 8 0; int map_id 32 4 1; unsigned char opcode 36 1 0",
        '"%lx %lx %lx %d %x", (unsigned long)REC->phys, REC->virt, REC->len, REC->map_id, REC->opcode',
    ),
    (
        "ftrace",
        "funcgraph_exit",
        10,
        "unsigned long func 8 8 0; unsigned int depth 16 4 0; unsigned int overrun 20 4 0; unsigned long long "
        "calltime 24 8 0; unsigned long long rettime 32 8 0; unsigned long retval 40 8 0",
        '"<-- %ps (%u) (start: %llx  end: %llx) over: %u", (void *)REC->func, REC->depth, REC->calltime, REC->rettime, REC->depth',
    ),
    (
        "ftrace",
        "funcgraph_entry",
        11,
        "unsigned long func 8 8 0; unsigned int depth 16 4 0; unsigned long args[] 24 0 0",
        '"--> %ps (%u)", (void *)REC->func, REC->depth',
    ),
    (
        "ftrace",
        "funcgraph_retaddr_entry",
        12,
        "unsigned long func 8 8 0; int depth 16 4 1; unsigned long retaddr 24 8 0; unsigned long args[] 32 0 0",
        '"--> %ps (%d) <- %ps", (void *)REC->func, REC->depth, (void *)REC->retaddr',
    ),
    (
        "ftrace",
        "user_stack",
        13,
        "unsigned int tgid 8 4 0; unsigned long caller[8] 16 64 0",
        '"\\t=> %ps\\n", (void *)REC->caller[0]',
    ),
    (
        "ftrace",
        "blktrace",
        14,
        "u64 sector 16 8 0; u32 bytes 24 4 0; u32 action 28 4 0; u32 pid 32 4 0; u32 device 36 4 0; u32 cpu 40 4 0; "
        "u16 error 44 2 0; u16 pdu_len 46 2 0",
        '"x"',
    ),
    (
        "ftrace",
        "bputs",
        15,
        "unsigned long ip 8 8 0; const char * str 16 8 0",
        '"%ps: %s", (void *)REC->ip, REC->str',
    ),
    (
        "ftrace",
        "hwlat",
        16,
        "u64 duration 8 8 0; u64 outer_duration 16 8 0; u64 nmi_total_ts 24 8 0; s64 tv_sec 32 8 1; long tv_nsec 40 8 "
        "1; unsigned int nmi_count 48 4 0; unsigned int seqnum 52 4 0; unsigned int count 56 4 0",
        '"cnt:%u\\tts:%010llu.%010lu\\tinner:%llu\\touter:%llu\\n", REC->seqnum, REC->tv_sec, REC->tv_nsec, '
        "REC->duration, REC->outer_duration",
    ),
    (
        "ftrace",
        "osnoise",
        17,
        "u64 noise 8 8 0; u64 runtime 16 8 0; u64 max_sample 24 8 0; unsigned int hw_count 32 4 0; unsigned int "
        "nmi_count 36 4 0; unsigned int irq_count 40 4 0; unsigned int softirq_count 44 4 0; unsigned int "
        "thread_count 48 4 0",
        '"noise:%llu\\tmax_sample:%llu\\n", REC->noise, REC->max_sample',
    ),
    (
        "ftrace",
        "timerlat",
        18,
        "unsigned int seqnum 8 4 0; int context 12 4 1; u64 timer_latency 16 8 0",
        '"seq:%u\\tcontext:%d\\n", REC->seqnum, REC->context',
    ),
    (
        "ftrace",
        "raw_data",
        19,
        "unsigned int id 8 4 0; char buf[] 12 0 0",
        '"id:%04x %08x", REC->id, (int)REC->buf[0]',
    ),
    (
        "ftrace",
        "func_repeats",
        20,
        "unsigned long ip 8 8 0; unsigned long parent_ip 16 8 0; u16 count 24 2 0; u16 top_delta_ts 26 2 0; u32 bottom_delta_ts 28 4 0",
        '" %ps <-%ps\\t(repeats:%u)", (void *)REC->ip, (void *)REC->parent_ip, REC->count',
    ),
    (
        "sched",
        "sched_switch",
        100,
        "char prev_comm[16] 8 16 0; pid_t prev_pid 24 4 1; int prev_prio 28 4 1; long prev_state 32 8 1; char "
        "next_comm[16] 40 16 0; pid_t next_pid 56 4 1; int next_prio 60 4 1",
        '"prev_comm=%s prev_pid=%d prev_state=%s%s ==> next_comm=%s", REC->prev_comm, REC->prev_pid, (REC->prev_state '
        '& 0xff) ? __print_flags(REC->prev_state & 0xff, "|", { 1, "S" }, { 2, "D" }, { 4, "T" }) : "R", '
        'REC->prev_state & 256 ? "+" : "", REC->next_comm',
    ),
    (
        "sched",
        "sched_wakeup",
        101,
        "char comm[16] 8 16 0; pid_t pid 24 4 1; int prio 28 4 1; int target_cpu 32 4 1",
        '"comm=%s pid=%d prio=%d target_cpu=%03d", REC->comm, REC->pid, REC->prio, REC->target_cpu',
    ),
    (
        "irq",
        "softirq_entry",
        102,
        "unsigned int vec 8 4 0",
        '"vec=%u [action=%s]", REC->vec, __print_symbolic(REC->vec, { 0, "HI" }, { 1, "TIMER" })',
    ),
    (
        "syscalls",
        "sys_enter_openat",
        103,
        "int __syscall_nr 8 4 1; int dfd 16 8 0; const char * filename 24 8 0; int flags 32 8 0; umode_t mode 40 8 0",
        '"dfd: 0x%08lx, filename: 0x%08lx", ((unsigned long)(REC->dfd)), ((unsigned long)(REC->filename))',
    ),
    (
        "syscalls",
        "sys_exit_openat",
        104,
        "int __syscall_nr 8 4 1; long ret 16 8 1",
        '"0x%lx", REC->ret',
    ),
    (
        "raw_syscalls",
        "sys_enter",
        105,
        "long id 8 8 1; unsigned long args[6] 16 48 0",
        '"NR %ld (%lx, %lx)", REC->id, REC->args[0], REC->args[5]',
    ),
    (
        "timer",
        "hrtimer_start",
        106,
        "void * hrtimer 8 8 0; void * function 16 8 0; s64 expires 24 8 1; s64 softexpires 32 8 1; enum hrtimer_mode mode 40 4 0",
        '"hrtimer=%p function=%ps expires=%llu", REC->hrtimer, REC->function, (unsigned long long) REC->expires',
    ),
    (
        "kmem",
        "kfree",
        107,
        "unsigned long call_site 8 8 0; const void * ptr 16 8 0",
        '"call_site=%pS ptr=%p", (void *)REC->call_site, REC->ptr',
    ),
    (
        "kvm",
        "kvm_exit",
        108,
        "unsigned int exit_reason 8 4 0; unsigned long guest_rip 16 8 0; u32 isa 24 4 0; u64 info1 32 8 0; u64 info2 40 8 0",
        '"reason %u rip 0x%lx", REC->exit_reason, REC->guest_rip',
    ),
    (
        "kvm",
        "kvm_mmu_get_page",
        109,
        "__u64 gfn 8 8 0; __u32 role 16 4 0; __u32 root_count 20 4 0; bool unsync 24 1 0; bool created 25 1 0",
        '"x"',
    ),
    (
        "block",
        "block_rq_issue",
        110,
        "dev_t dev 8 4 0; sector_t sector 16 8 0; unsigned int nr_sector 24 4 0; unsigned int bytes 28 4 0; char "
        "rwbs[10] 34 10 0; char comm[16] 44 16 0; __data_loc char[] cmd 60 4 0",
        '"%d,%d %s %u (%s) %llu + %u [%s]", ((unsigned int) ((REC->dev) >> 20)), ((unsigned int) ((REC->dev) & ((1U '
        "<< 20) - 1))), REC->rwbs, REC->bytes, __get_str(cmd), (unsigned long long)REC->sector, REC->nr_sector, "
        "REC->comm",
    ),
    (
        "test",
        "plain",
        300,
        _ALL_KINDS,
        '"plain %d %u %x %X %#x %lld", REC->a, REC->a, REC->a, REC->d, REC->b, REC->b',
    ),
    (
        "test",
        "padded",
        301,
        _ALL_KINDS,
        '"[%5d] [%-5d] [%05d] [%+d] [% d] [%.3d] [%8.3x] [%016llx] [%*d]", REC->a, REC->d, REC->c, REC->c, REC->a, '
        "REC->d, REC->d, REC->b, REC->d, REC->a",
    ),
    (
        "test",
        "texts",
        302,
        _ALL_KINDS,
        '"%s [%20s] [%-20s] [%.3s] %s %s %.*s", REC->comm, REC->comm, REC->comm, REC->comm, __get_str(path), '
        "__get_rel_str(near), REC->d, REC->comm",
    ),
    (
        "test",
        "choice",
        303,
        _ALL_KINDS,
        '"%s %s %d", REC->a < 0 ? "neg" : "pos", REC->b > 5 && REC->d != 3 || !REC->c ? "yes" : REC->comm, REC->a ? REC->c : REC->d',
    ),
    (
        "test",
        "flags",
        304,
        _ALL_KINDS,
        '"%s %s %s", __print_flags(REC->d, "|", { 1, "ONE" }, { 2, "TWO" }, { 64, "SIX" }), __print_symbolic(REC->c, '
        '{ 0, "zero" }, { 7, "seven" }), __print_flags_u64(REC->b, "", { 1ULL << 40, "high" })',
    ),
    (
        "test",
        "sums",
        305,
        _ALL_KINDS,
        '"%lu %ld %d %u %llu %llu %d", REC->b + REC->a, REC->b - REC->d, REC->a * 3, REC->b >> 4 & 0xff, REC->b / '
        "1000, REC->b % 1000, (short)(REC->b << 3) | 1",
    ),
    (
        "test",
        "address",
        306,
        _ALL_KINDS,
        '"%ps %pS %p %pM %pI4 %pI6c %pUb", (void *)REC->b, (void *)REC->b, (void *)REC->b, REC->comm, REC->args, REC->comm, REC->comm',
    ),
    (
        "test",
        "memory",
        307,
        _ALL_KINDS,
        '"%s %s %s %s", __print_hex(REC->args, 8), __print_hex_str(__get_dynamic_array(raw), '
        "__get_dynamic_array_len(raw)), __print_array(__get_dynamic_array(words), __get_dynamic_array_len(words) / 2, "
        "2), __print_array(__get_dynamic_array(raw), REC->d, 1)",
    ),
    (
        "test",
        "masks",
        308,
        _ALL_KINDS,
        '"%s %s %s %*pbl", __get_bitmask(mask), __get_cpumask(mask), __get_sockaddr(raw), 64, REC->args',
    ),
    (
        "test",
        "dump",
        309,
        _ALL_KINDS,
        '"%s %*ph %s %c", __print_hex_dump("", 2, 16, 1, REC->args, REC->d, 1), REC->d, REC->comm, __print_ns_to_secs(REC->b), REC->d',
    ),
    (
        "test",
        "unknown",
        310,
        _ALL_KINDS,
        '"cannot be %s", some_function(REC->a)',
    ),
    (
        "test",
        "line",
        311,
        _ALL_KINDS,
        '"a line\\n"',
    ),
    (
        "test",
        "rest",
        312,
        _ALL_KINDS,
        '"%s %d %lx %d", REC->rest, REC->yes, REC->args[REC->d & 3], REC->rest[0]',
    ),
)


def _text(name: str, number: int, fields: str, form: str) -> str:
    groups = []
    for group in (_COMMON, fields):
        rows = [row.rsplit(" ", 3) for row in group.split("; ")]
        groups.append("".join([f"\tfield:{what};\toffset:{at};\tsize:{size};\tsigned:{signed};\n" for what, at, size, signed in rows]))
    return f"name: {name}\nID: {number}\nformat:\n" + "\n".join(groups) + f"\nprint fmt: {form}\n"


#: (name, category, format file)
FORMATS = tuple([(name, category, _text(name, number, fields, form)) for category, name, number, fields, form in _EVENTS])
