"""What a probe is, who knows about it, and how it is attached.

A *provider* (one file per kind in ``probes/providers``) understands one kind of probe: it parses the user's words, expands
wildcards against the catalogue, and tells what a program may see there.  An *attacher* is one way to get a program run at a probe; it
names the kernel features it needs.  The planner (``probes.planner``) picks the first attacher of a provider that fits this kernel and
can say why the others do not.
"""

from __future__ import annotations

from ..base.record import Record
from .attachers import AttachOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..base.ctype import CType
    from ..base.diagnostics import Span
    from ..formats.spec import AttachSpec
    from ..formats.stapsdt import Operand
    from ..kernel.bpf import Program as LiveProgram
    from ..kernel.kernel import Kernel

    class Link(Protocol):
        """A live attachment: closing it detaches.

        ``missed`` counts events that the probe could not deliver (None: unknown).  ``skipped`` names targets of a batch that the
        kernel refused one by one (inlined or ``notrace`` functions); a batch of which nothing is left raises instead.
        """

        skipped: tuple[str, ...]

        def close(self) -> None: ...
        def missed(self) -> int | None: ...

    class Provider(Protocol):
        """One kind of probe."""

        kind: str
        aliases: tuple[str, ...]
        #: attachers in order of preference, by name
        attachers: tuple[str, ...]

        def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
            """The words after the kind, split at ':' ("syscalls", "sys_enter_open*"); raises SourceError."""

        def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
            """All probes that match, in the catalogue's order; empty if none do.  ``catalogue`` is a ``probes.catalogue.Catalogue``."""

        def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
            """Names that look like a pattern which matched nothing."""

        def view(self, probe: Probe, catalogue: Any) -> View:
            """What a program sees at the probe."""

    class Attacher(Protocol):
        """One way to run a program at a probe."""

        name: str
        #: BPF_PROG_TYPE_* and BPF_* attach type (``expected_attach_type``) of programs for it
        program_type: int
        attach_type: int
        #: what ctx points to, as in compiler.ir.Program.context
        context: str
        #: one attachment can serve many probes
        multi: bool
        #: one program can be attached to several probes (false where a program is bound to its target at load)
        shares: bool
        #: a program that is attached to several probes is told which of them was hit: bpf_get_attach_cookie gives the probe's number
        #: among those of the plan
        cookies: bool
        #: features (kernel.features names) without which it cannot work
        needs: tuple[str, ...]
        #: what a program may not use here because it would mean something else or nothing (see ``planner.plan``'s ``uses``)
        lacks: frozenset[str]
        #: ``AttachOptions.pid`` is honoured by the mechanism itself, for every thread of the process
        filters_pid: bool

        def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
            """Why it cannot take this very probe although the kernel has the features ("" if it can)."""

        def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
            """Where to attach: one entry per probe, or one per batch if ``multi``."""

        def function(self, probe: Probe) -> str:
            """``ProgramSpec.attach_function`` of programs that are bound to their target at load ("module:name", "name"), else ""."""

        def attach(self, kernel: Kernel, program: LiveProgram, place: AttachSpec, options: AttachOptions) -> Link:
            """Raises KernelError."""


__all__ = ("Pattern", "Probe", "View", "Argument", "Plan", "AttachOptions", "USES")

#: What a program may use of its probe, in the words of ``planner.plan``'s ``uses``.  ``arg`` stands for any of arg0, arg1, ...;
#: ``place`` for what depends on the probed instruction itself.
USES = frozenset(("arg", "args", "retval", "reg", "ctx", "kstack", "ustack", "func", "probe", "place"))


class Pattern(Record):
    """A probe as the user wrote it: ``kind`` is the provider's, ``words`` the parts after it, with wildcards.

    ``pid`` is the process that tracing is limited to (-1: none): binaries are then looked up with its eyes.
    """

    kind: str
    words: tuple[str, ...]
    span: Span | None = None
    pid: int = -1

    @property
    def text(self) -> str:
        return ":".join((self.kind, *self.words))


class Probe(Record):
    """One place that can be traced, no wildcards left.

    kind       words of ``name``
    =========  ==========================================================
    kprobe     (module or "", function, offset); kretprobe, fentry, fexit alike; an address is ("", "", address)
    tracepoint (category, event)
    rawtracepoint (event,)
    uprobe     (path, symbol or "", offset in the symbol, file offset); uretprobe alike
    usdt       (path, provider, name, file offset, file offset of the semaphore or 0, the note's argument text); one probe per location
    profile, interval  (unit, number)
    software, hardware (event, period)
    BEGIN, END ()
    """

    kind: str
    name: tuple[Any, ...]
    #: the probe in the user's words, wildcards expanded: "kprobe:vfs_read" (the language's ``probe`` built-in)
    text: str

    def __str__(self) -> str:
        return self.text


class Argument(Record):
    """One named argument or field.

    ``offset`` is the byte offset in the context (tracepoints), or the argument's index (functions).  ``data_loc`` marks
    a ``__data_loc`` field, whose
    u32 holds ``length << 16 | offset from the start of the record``.
    """

    name: str
    type: CType
    offset: int
    data_loc: bool = False


class View(Record):
    """What a program sees at a probe.

    ``args`` are named arguments (``args.name``); ``positional`` tells whether ``arg0`` ... exist; ``returns`` is the
    type of ``retval`` or None.
    ``function`` names the traced function for ``func``; ``space`` is where plain pointers among the arguments point ("kernel" or "user").
    ``operands`` are a USDT probe's arguments (arg0 is ``operands[0]``, see ``formats.stapsdt``; symbols are resolved to ``rip`` and an
    offset); where they are given, ``arg`` reads them and not the registers of the calling convention.
    ``arity`` is the number of the traced function's parameters, -1 if unknown (``compiler.ir.Program.arity``).
    """

    args: tuple[Argument, ...] = ()
    positional: int = 0
    returns: CType | None = None
    function: str = ""
    space: str = "kernel"
    operands: tuple[Operand, ...] = ()
    arity: int = -1


class Plan(Record):
    """The planner's choice for one probe, or for many that share a program.

    ``rejected`` are (attacher, why) pairs in order of preference.  ``attacher`` is "" when nothing fits: ``reason``
    then is the sentence for
    the user and ``hint`` what to do instead.
    """

    probes: tuple[Probe, ...]
    attacher: str
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()
    hint: str = ""
