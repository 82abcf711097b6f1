"""Events that ``trace-cmd report`` prints in its own way: the handlers of libtraceevent's plugins and of trace-cmd itself.

``handler`` gives the function from a record to its text, or None where the print fmt is used.  Plugin options (``-O ftrace:parent``,
``ftrace:offset``) are options here.  The indented function trace (``ftrace:indent``) and the function graph depend on the records before
and are rendered where those are known: ``render.ftrace_report``, ``render.function_graph``.
"""

from __future__ import annotations

from ..base.errors import FormatError
from .print_fmt_helpers import Texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .event_format import EventFormat
    from .print_fmt import Env
    from .print_fmt_parse import Tree

    Text = Callable[[bytes], str]
    Number = Callable[[bytes], "int | None"]

__all__ = ("handler", "handler_format", "kernel_stack_text")

_STATES, _NEW_STATES = "SDTtZXxW", "SDTtXZPI"
_TLB = ("flush on task switch", "remote shootdown", "local shootdown", "local mm shootdown")

#: FUTEX_* commands (include/uapi/linux/futex.h): which arguments each of them has, and in which form.
_FUTEX = (
    ("WAIT", "x", "x", "", ""),
    ("WAKE", "d", "", "", ""),
    ("FD", "d", "", "", ""),
    ("REQUEUE", "d", "d", "x", ""),
    ("CMP_REQUEUE", "d", "d", "x", "x"),
    ("WAKE_OP", "d", "d", "x", "x"),
    ("LOCK_PI", "", "x", "", ""),
    ("UNLOCK_PI", "", "", "", ""),
    ("TRYLOCK_PI", "", "", "", ""),
    ("WAIT_BITSET", "x", "x", "", "x"),
    ("WAKE_BITSET", "d", "", "", "x"),
    ("WAIT_REQUEUE_PI", "x", "x", "x", "x"),
    ("CMP_REQUEUE_PI", "d", "d", "x", "x"),
)
# What VMX exits are called (arch/x86/include/uapi/asm/vmx.h), as the plugin has them.
_VMX = {
    value: name
    for name, value in (
        item.split("=")
        for item in "EXCEPTION_NMI=0 EXTERNAL_INTERRUPT=1 TRIPLE_FAULT=2 PENDING_INTERRUPT=7 NMI_WINDOW=8 TASK_SWITCH=9 CPUID=10 "
        "HLT=12 INVD=13 INVLPG=14 RDPMC=15 RDTSC=16 VMCALL=18 VMCLEAR=19 VMLAUNCH=20 VMPTRLD=21 VMPTRST=22 VMREAD=23 VMRESUME=24 "
        "VMWRITE=25 VMOFF=26 VMON=27 CR_ACCESS=28 DR_ACCESS=29 IO_INSTRUCTION=30 MSR_READ=31 MSR_WRITE=32 MWAIT_INSTRUCTION=36 "
        "MONITOR_INSTRUCTION=39 PAUSE_INSTRUCTION=40 "
        "MCE_DURING_VMENTRY=41 TPR_BELOW_THRESHOLD=43 APIC_ACCESS=44 EOI_INDUCED=45 EPT_VIOLATION=48 EPT_MISCONFIG=49 INVEPT=50 "
        "PREEMPTION_TIMER=52 WBINVD=54 XSETBV=55 APIC_WRITE=56 INVPCID=58 PML_FULL=62 XSAVES=63 XRSTORS=64".split()
    )
}
# SVM exit codes (arch/x86/include/uapi/asm/svm.h), as the plugin has them; registers and exceptions in runs.
_SVM: dict[int, str] = {}
for _start, _names in (
    (0x00, "READ_CR0 - - READ_CR3 READ_CR4 - - - READ_CR8"),
    (0x10, "WRITE_CR0 - - WRITE_CR3 WRITE_CR4 - - - WRITE_CR8"),
    (0x20, " ".join(f"READ_DR{n}" for n in range(8))),
    (0x30, " ".join(f"WRITE_DR{n}" for n in range(8))),
    (0x40, "EXCP_DE EXCP_DB - EXCP_BP EXCP_OF EXCP_BR EXCP_UD EXCP_NM EXCP_DF - EXCP_TS EXCP_NP EXCP_SS EXCP_GP EXCP_PF"),
    (0x50, "EXCP_MF EXCP_AC EXCP_MC EXCP_XF"),
    (0x60, "INTR NMI SMI INIT VINTR CR0_SEL_WRITE IDTR_READ GDTR_READ LDTR_READ TR_READ IDTR_WRITE GDTR_WRITE LDTR_WRITE TR_WRITE RDTSC"),
    (0x6F, "RDPMC PUSHF POPF CPUID RSM IRET SWINT INVD PAUSE HLT INVLPG INVLPGA IOIO MSR TASK_SWITCH FERR_FREEZE SHUTDOWN VMRUN VMMCALL"),
    (0x82, "VMLOAD VMSAVE STGI CLGI SKINIT RDTSCP ICEBP WBINVD MONITOR MWAIT MWAIT_COND XSETBV"),
    (0x400, "NPF AVIC_INCOMPLETE_IPI AVIC_UNACCELERATED_ACCESS"),
):
    for _offset, _name in enumerate(_names.split()):
        if _name != "-":
            _SVM[_start + _offset] = f"EXIT_{_name}"
_SVM[0xFFFFFFFF] = "EXIT_ERR"


class _Fields:
    def __init__(self, event: EventFormat, env: Env) -> None:
        self.event, self.env = event, env
        self.texts = Texts()

    def number(self, name: str) -> Number:
        """Reads a field as libtraceevent does, without its sign; a missing field reads as None."""
        field = self.event.field(name)
        if field is None or field.size not in (1, 2, 4, 8):
            return lambda record: None
        start, end, order = field.offset, field.offset + field.size, "little" if self.env.order == "<" else "big"
        return lambda record: int.from_bytes(record[start:end], order)  # type: ignore[arg-type]

    def text(self, name: str) -> Callable[[bytes], str] | None:
        field = self.event.field(name)
        if field is None:
            return None
        start, end, texts = field.offset, field.offset + field.size, self.texts
        return lambda record: texts[record[start:end]]

    def symbol(self, address: int) -> tuple[str, int] | None:
        found = self.env.symbol(address) if self.env.symbol else None
        return None if found is None else (found[0].partition(" [")[0], found[1])


def handler(event: EventFormat, env: Env) -> Text | None:
    """The function that a plugin of libtraceevent 1.7.1 or trace-cmd has for the event; None if there is none."""
    maker = _HANDLERS.get(f"{event.category}:{event.name}")
    return maker(_Fields(event, env)) if maker else None


def handler_format(event: EventFormat, env: Env) -> str:
    """The print fmt that has the text of ``handler``, "" if none has: the scheduler's events are the most frequent ones, and a compiled
    format is several times as fast as a function of the record.
    """
    if event.category != "sched":
        return ""
    names = {field.name for field in event.own if field.size in (1, 2, 4, 8, 16)}
    if event.name == "sched_switch" and names >= {f"{side}_{what}" for side in ("prev", "next") for what in ("comm", "pid", "prio")}:
        letters = _state_letters(_Fields(event, env))
        if "prev_state" in names and letters.isalpha() and letters.isascii():
            state = f"REC->prev_state & {(1 << len(letters)) - 1:#x}"
            flags = ", ".join([f'{{ {1 << bit:#x}, "{letter}" }}' for bit, letter in enumerate(letters)])
            ends = "REC->prev_comm, REC->prev_pid, REC->prev_prio", "REC->next_comm, REC->next_pid, REC->next_prio"
            middle = f'{state} ? __print_flags({state}, "|", {flags}) : "R"'
            return f'"%s:%u [%d] %s ==> %s:%u [%d]", {ends[0]}, {middle}, {ends[1]}'
    if event.name in ("sched_wakeup", "sched_wakeup_new") and names >= {"comm", "pid"}:
        text, values = "%s:%u", ["REC->comm", "REC->pid"]
        for name, form in (("prio", " [%u]"), ("success", " success=%u"), ("target_cpu", " CPU:%03u")):
            if name in names:
                text += form
                values.append(f"REC->{name}")
        return f'"{text}", {", ".join(values)}'
    return ""


def _int(value: int) -> int:
    """C's cast to ``int``."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _long(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _state_letters(fields: _Fields) -> str:
    """The letters of task states by bit.  Since 1.8 libtraceevent takes them from the flags of the event's own print fmt."""
    if fields.env.dialect == "trace-cmd-3.1":
        return _STATES
    from .print_fmt_tep_parse import parse

    try:
        _, arguments = parse(fields.event.print_fmt)
    except FormatError:
        return _NEW_STATES
    found = next((call for tree in arguments for call in _flag_calls(tree) if _has_field(call[2][0], "prev_state")), None)
    if found is None:
        return _NEW_STATES
    letters: dict[int, str] = {}
    for entry in found[2][2:]:
        value, name = entry[1][0], entry[1][1]
        if value[0] == "num" and name[0] == "str" and value[1] > 0:
            letters.setdefault((value[1] & -value[1]).bit_length() - 1, name[1][:1])
    known = next(bit for bit in range(65) if bit not in letters)
    return "".join([letters[bit] for bit in range(known)])  # a gap ends the list


def _flag_calls(tree: Tree) -> Iterator[Tree]:
    if tree[0] == "call" and tree[1].startswith("__print_flags"):
        yield tree
    for part in tree[1:]:
        for inner in part if isinstance(part, list) else (part,):
            if isinstance(inner, tuple):
                yield from _flag_calls(inner)


def _has_field(tree: Tree, name: str) -> bool:
    """Whether a field is the first one that an expression names."""
    while tree[0] in ("binary", "cast"):
        tree = tree[2]
    return tree[:2] == ("field", name)


def _state(value: int, letters: str) -> str:
    return "|".join([letter for bit, letter in enumerate(letters) if value >> bit & 1]) or "R"


def _sched_switch(fields: _Fields) -> Text | None:
    prev_pid, next_pid, state = fields.number("prev_pid"), fields.number("next_pid"), fields.number("prev_state")
    prev_prio, next_prio = fields.number("prev_prio"), fields.number("next_prio")
    prev_comm, next_comm = fields.text("prev_comm"), fields.text("next_comm")
    letters = _state_letters(fields)

    def text(record: bytes) -> str:
        pid, other = prev_pid(record), next_pid(record)
        if pid is None or other is None:
            return "!"
        parts = [f"{prev_comm(record)}:" if prev_comm else "", f"{pid} "]
        prio, status = prev_prio(record), state(record)
        if prio is not None:
            parts.append(f"[{_int(prio)}] ")
        if status is not None:
            parts.append(_state(status, letters))
        parts.append(" ==> ")
        parts.append(f"{next_comm(record)}:{other}" if next_comm else str(other))
        prio = next_prio(record)
        if prio is not None:
            parts.append(f" [{_int(prio)}]")
        return "".join(parts)

    return text


def _sched_wakeup(fields: _Fields) -> Text | None:
    pid, prio, success, cpu = (fields.number(name) for name in ("pid", "prio", "success", "target_cpu"))
    comm = fields.text("comm")

    def text(record: bytes) -> str:
        number = pid(record)
        if number is None:
            return "!"
        parts = [f"{comm(record)}:{number}" if comm else str(number)]
        for read, form in ((prio, " [%d]"), (success, " success=%d"), (cpu, " CPU:%03d")):
            value = read(record)
            if value is not None:
                parts.append(form % value)
        return "".join(parts)

    return text


def _hrtimer(fields: _Fields) -> Text | None:
    timer = fields.number("timer" if fields.event.field("timer") else "hrtimer")
    function, now, expires, soft = (fields.number(name) for name in ("function", "now", "expires", "softexpires"))
    start = fields.event.name == "hrtimer_start"

    def name(record: bytes) -> str:
        address = function(record)
        if address is None:
            return ""
        found = fields.symbol(address)
        place = f"{found[0]}/0x{found[1] - address & 0xFFFFFFFFFFFFFFFF:x}" if found else f"0x{address:08x}"
        return f" function={place}"

    def text(record: bytes) -> str:
        head = f"hrtimer=0x{timer(record) or 0:x}"
        if start:
            return f"{head}{name(record)} expires={expires(record)} softexpires={soft(record)}"
        return f"{head} now={now(record)}{name(record)}"

    return text


def _call_site(fields: _Fields) -> Text | None:
    """The caller's name before the text of the print fmt."""
    from .print_fmt import compile_print_fmt

    site = fields.number("call_site")
    rest = compile_print_fmt(fields.event, fields.env)

    def text(record: bytes) -> str:
        address = site(record)
        found = fields.symbol(address) if address is not None else None
        head = f"({found[0]}+0x{(address or 0) - found[1] & 0xFFFFFFFF:x}) " if found else ""
        return head + rest(record)

    return text


def _tlb_flush(fields: _Fields) -> Text | None:
    pages, reason = fields.number("pages"), fields.number("reason")

    def text(record: bytes) -> str:
        why = reason(record) or 0
        return f"pages={_long(pages(record) or 0)} reason={_TLB[why] if why < len(_TLB) else ''} ({why})"

    return text


def _futex(fields: _Fields) -> Text | None:
    from .print_fmt import compile_print_fmt

    readers = [fields.number(name) for name in ("uaddr", "op", "val", "utime", "uaddr2", "val3")]
    rest = compile_print_fmt(fields.event, fields.env)

    def text(record: bytes) -> str:
        values = [reader(record) for reader in readers]
        if any(value is None for value in values):
            return rest(record)
        uaddr, operation, *numbers = [value or 0 for value in values]
        command = operation & ~(128 | 256) & 0xFFFFFFFFFFFFFFFF
        if command >= len(_FUTEX):
            return rest(record)
        name, *forms = _FUTEX[command]
        parts = [f"op=FUTEX_{name}"]
        parts += ["|FUTEX_PRIVATE_FLAG"] if operation & 128 else []
        parts += ["|FUTEX_CLOCK_REALTIME"] if operation & 256 else []
        parts.append(f" uaddr=0x{uaddr:08x}")
        for label, form, value in zip(("val", "utime", "uaddr2", "val3"), forms, numbers):
            if form:
                shown = "val2" if label == "utime" and form == "d" else label
                parts.append(f" {shown}=0x{value:08x}" if form == "x" else f" {shown}={value}")
        return "".join(parts)

    return text


def _exit_reason(fields: _Fields, name: str) -> Callable[[bytes], str]:
    value, isa = fields.number(name), fields.number("isa")

    def text(record: bytes) -> str:
        number, kind = (value(record) or 0), isa(record)
        if kind not in (None, 1, 2):
            return "reason UNKNOWN-ISA"
        found = _SVM.get(number & 0xFFFFFFFF) if kind == 2 else _VMX.get(str(_int(number)))
        return f"reason {found}" if found else f"reason UNKNOWN ({number})"

    return text


def _kvm_exit(fields: _Fields) -> Text | None:
    reason = _exit_reason(fields, "exit_reason")
    rip, info1, info2 = fields.number("guest_rip"), fields.number("info1"), fields.number("info2")

    def text(record: bytes) -> str:
        one, two = info1(record), info2(record)
        tail = "" if one is None or two is None else f" info {one:x} {two:x}"
        return f"{reason(record)} rip 0x{rip(record) or 0:x}{tail}"

    return text


def _kvm_entry(fields: _Fields) -> Text | None:
    vcpu, rip = fields.number("vcpu_id"), fields.number("rip")
    return lambda record: f" vcpu {vcpu(record) or 0} rip 0x{rip(record) or 0:x}"


def _kvm_emulate(fields: _Fields) -> Text | None:
    rip, base, length, failed = (fields.number(name) for name in ("rip", "csbase", "len", "failed"))
    insn = fields.event.field("insn")

    def text(record: bytes) -> str:
        data = record[insn.offset : insn.offset + min(insn.size, length(record) or 0)] if insn else b""
        return f"{base(record) or 0:x}:{rip(record) or 0:x}: {data.hex(' ')}{' FAIL' if failed(record) else ''}"

    return text


def _nested(fields: _Fields) -> Text | None:
    reason = _exit_reason(fields, "exit_code")
    readers = [
        (label, fields.number(name))
        for label, name in (
            ("info1", "exit_info1"),
            ("info2", "exit_info2"),
            ("int_info", "exit_int_info"),
            ("int_info_err", "exit_int_info_err"),
        )
    ]
    rip = fields.number("rip") if fields.event.name == "kvm_nested_vmexit" else None
    if rip and fields.event.field("rip") is None:  # since Linux 5.16: the plugin complains, then the print fmt follows
        from .print_fmt import compile_print_fmt

        rest = compile_print_fmt(fields.event, fields.env)
        return lambda record: f"<CANT FIND FIELD rip>{rest(record)}"

    def text(record: bytes) -> str:
        head = f" rip {rip(record) or 0:x}" if rip else ""
        return head + reason(record) + "".join([f" {label} {read(record) or 0:x}" for label, read in readers])

    return text


def _mmu_role(fields: _Fields) -> Text | None:
    """The bits of the role as they were in Linux 3; the plugin was never adapted."""
    role, count, unsync, created, gfn = (fields.number(name) for name in ("role", "root_count", "unsync", "created", "gfn"))
    page = fields.event.name == "kvm_mmu_get_page"
    access = ("---", "--x", "w--", "w-x", "-u-", "-ux", "wu-", "wux")

    def text(record: bytes) -> str:
        word = role(record) or 0

        def flag(bit: int, yes: str, no: str) -> str:
            return yes if word >> bit & 1 else no

        head = f"{'new' if created(record) else 'existing'} sp gfn {gfn(record) or 0:x} " if page else ""
        return (
            f"{head}{word & 15} q{word >> 5 & 3}{flag(7, ' direct', '')} {access[word >> 8 & 7]}{flag(11, ' invalid', '')} "
            f"{flag(4, '', '!')}pae {flag(12, '', '!')}nxe {flag(13, '', '!')}wp{flag(14, ' smep', '')}{flag(15, ' smap', '')}"
            f"{' smm' if word >> 24 & 255 else ''}"
            f" root {count(record) or 0} {'unsync' if unsync(record) else 'sync'}"
        )

    return text


def kernel_stack_text(event: EventFormat, env: Env, offset: bool = False) -> Text:
    """The text of ``ftrace:kernel_stack``; ``offset``: places within functions too (``-O ftrace:offset``)."""
    text = _kernel_stack(_Fields(event, env), offset)
    return text or (lambda record: "")


def _kernel_stack(fields: _Fields, offset: bool = False) -> Text | None:
    field = fields.event.field("caller")
    if field is None:
        return None
    size, order = fields.env.long_size, "little" if fields.env.order == "<" else "big"
    start, stop = field.offset, (1 << 8 * fields.env.long_size) - 1
    depth = fields.number("size")  # since Linux 3.4; what lies behind is filling

    def text(record: bytes) -> str:
        lines = ["<stack trace >\n"]
        count = depth(record)
        end = len(record) if count is None else min(len(record), start + count * size)
        for at in range(start, end - size + 1, size):
            address = int.from_bytes(record[at : at + size], order)  # type: ignore[arg-type]
            if address == stop or address & 0xFFFFFFFF == 0xFFFFFFFF:
                break
            found = fields.symbol(address)
            place = f"+0x{address - found[1] & 0xFFFFFFFF:x} " if found and offset else ""
            lines.append(f"=> {found[0]}{place} ({address:x})\n" if found else f"=> {address:x}\n")
        return "".join(lines)

    return text


def _raw_data(fields: _Fields) -> Text | None:
    number, field = fields.number("id"), fields.event.field("buf")
    start = field.offset if field else 0
    return lambda record: f"# {number(record) or 0:x}" + "".join([f" {byte:02x}" for byte in record[start:]])


def _function(fields: _Fields) -> Text | None:
    """Without indentation; ``render.ftrace_report`` adds it."""
    ip = fields.number("ip")

    def text(record: bytes) -> str:
        address = ip(record) or 0
        found = fields.symbol(address)
        return found[0] if found else f"0x{address:x}"

    return text


def _bprint(fields: _Fields) -> Text | None:
    from .print_fmt_kernel import binary_printf

    ip, where, buf = fields.number("ip"), fields.number("fmt"), fields.event.field("buf")
    start = buf.offset if buf else 0
    env = fields.env

    def text(record: bytes) -> str:
        address, at = where(record) or 0, ip(record) or 0
        found = fields.symbol(at)
        head = f"{found[0] if found else f'0x{at:x}'}: "
        fmt = env.string(address) if env.string else None
        if fmt is None:
            return f"{head}(NO FORMAT FOUND at {address:x})\n"
        return head + binary_printf(fmt, record[start:], env)

    return text


def _bss_info(fields: _Fields) -> Text | None:
    from .print_fmt_fields import dynamic

    def string(name: str, record: bytes) -> str:
        field = fields.event.field(name)
        if field is None:
            return f"NOTFOUND:{name}"
        raw = dynamic(field, record, fields.env.order) if field.data_loc else record[field.offset : field.offset + field.size]
        return fields.texts[raw]

    def num(name: str, form: str, record: bytes) -> str:
        value = fields.number(name)(record)
        if value is None:
            return f'CAN\'T FIND FIELD "{name}"'
        value = _int(value) if form == "d" else value & 0xFFFFFFFF
        return f"{name}:{value}" if form == "d" else f"{name}:{f'{value:#x}' if value else '0'}"

    def text(record: bytes) -> str:
        indent = "\n" + " " * 65
        kind = fields.number("vif_type")(record) or 0
        return (
            f"{string('wiphy_name', record)} vif:{string('vif_name', record)}({_int(kind)}){indent}"
            + "".join([num(name, "d", record) + " " for name in ("assoc", "aid", "cts", "shortpre", "shortslot", "dtimper")])
            + f"{indent}{num('bcnint', 'd', record)} {num('assoc_cap', 'x', record)} {num('basic_rates', 'x', record)} "
            + f"{num('enable_beacon', 'd', record)}{indent}{num('ht_operation_mode', 'd', record)}"
        )

    return text


_HANDLERS: dict[str, Callable[[_Fields], Text | None]] = {
    "sched:sched_switch": _sched_switch,
    "sched:sched_wakeup": _sched_wakeup,
    "sched:sched_wakeup_new": _sched_wakeup,
    "timer:hrtimer_expire_entry": _hrtimer,
    "timer:hrtimer_start": _hrtimer,
    "kmem:kfree": _call_site,
    "kmem:kmalloc": _call_site,
    "kmem:kmalloc_node": _call_site,
    "kmem:kmem_cache_alloc": _call_site,
    "kmem:kmem_cache_alloc_node": _call_site,
    "kmem:kmem_cache_free": _call_site,
    "tlb:tlb_flush": _tlb_flush,
    "syscalls:sys_enter_futex": _futex,
    "kvm:kvm_exit": _kvm_exit,
    "kvm:kvm_entry": _kvm_entry,
    "kvm:kvm_emulate_insn": _kvm_emulate,
    "kvm:kvm_nested_vmexit": _nested,
    "kvm:kvm_nested_vmexit_inject": _nested,
    "kvmmmu:kvm_mmu_get_page": _mmu_role,
    "kvmmmu:kvm_mmu_sync_page": _mmu_role,
    "kvmmmu:kvm_mmu_unsync_page": _mmu_role,
    "kvmmmu:kvm_mmu_zap_page": _mmu_role,
    "kvmmmu:kvm_mmu_prepare_zap_page": _mmu_role,
    "mac80211:drv_bss_info_changed": _bss_info,
    "ftrace:function": _function,
    "ftrace:kernel_stack": _kernel_stack,
    "ftrace:raw_data": _raw_data,
    "ftrace:bprint": _bprint,
}
