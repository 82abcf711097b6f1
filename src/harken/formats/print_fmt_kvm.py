"""KVM's events as libtraceevent's plugin prints them: exit reasons by name, emulated instructions, roles of shadow pages."""

from __future__ import annotations

from .print_fmt_plugin_fields import Fields, c_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .print_fmt_plugin_fields import Text

__all__ = ("HANDLERS",)

# What VMX exits are called (arch/x86/include/uapi/asm/vmx.h), as the plugin has them.
_VMX = {
    int(value): name
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


def _exit_reason(fields: Fields, name: str) -> Callable[[bytes], str]:
    value, isa = fields.number(name), fields.number("isa")

    def text(record: bytes) -> str:
        number, kind = (value(record) or 0), isa(record)
        if kind not in (None, 1, 2):
            return "reason UNKNOWN-ISA"
        found = _SVM.get(number & 0xFFFFFFFF) if kind == 2 else _VMX.get(c_int(number))
        return f"reason {found}" if found else f"reason UNKNOWN ({number})"

    return text


def _kvm_exit(fields: Fields) -> Text | None:
    reason = _exit_reason(fields, "exit_reason")
    rip, info1, info2 = fields.number("guest_rip"), fields.number("info1"), fields.number("info2")

    def text(record: bytes) -> str:
        one, two = info1(record), info2(record)
        tail = "" if one is None or two is None else f" info {one:x} {two:x}"
        return f"{reason(record)} rip 0x{rip(record) or 0:x}{tail}"

    return text


def _kvm_entry(fields: Fields) -> Text | None:
    vcpu, rip = fields.number("vcpu_id"), fields.number("rip")
    return lambda record: f" vcpu {vcpu(record) or 0} rip 0x{rip(record) or 0:x}"


def _kvm_emulate(fields: Fields) -> Text | None:
    rip, base, length, failed = (fields.number(name) for name in ("rip", "csbase", "len", "failed"))
    insn = fields.event.field("insn")

    def text(record: bytes) -> str:
        data = record[insn.offset : insn.offset + min(insn.size, length(record) or 0)] if insn else b""
        return f"{base(record) or 0:x}:{rip(record) or 0:x}: {data.hex(' ')}{' FAIL' if failed(record) else ''}"

    return text


def _nested(fields: Fields) -> Text | None:
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


def _mmu_role(fields: Fields) -> Text | None:
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


#: by the event's name, in the categories kvm and kvmmmu
HANDLERS: dict[str, Callable[[Fields], Text | None]] = {
    "kvm_exit": _kvm_exit,
    "kvm_entry": _kvm_entry,
    "kvm_emulate_insn": _kvm_emulate,
    "kvm_nested_vmexit": _nested,
    "kvm_nested_vmexit_inject": _nested,
    "kvm_mmu_get_page": _mmu_role,
    "kvm_mmu_sync_page": _mmu_role,
    "kvm_mmu_unsync_page": _mmu_role,
    "kvm_mmu_zap_page": _mmu_role,
    "kvm_mmu_prepare_zap_page": _mmu_role,
}
