"""Runs one program in this process and returns what it printed (shared by the language's kernel and oracle tests)."""

from __future__ import annotations

import time

from harken.base.diagnostics import Source
from harken.compiler.unit import Unit
from harken.kernel.kernel import live
from harken.languages.bpftrace.compile import Options, compile
from harken.probes.catalogue import Catalogue
from harken.session.output import TextSink
from harken.session.session import TraceSession

_kernel = live()
_catalogue = Catalogue(_kernel)
#: Mapped now, so that no test seems to leak its descriptor.
_types = _catalogue.btf


class Text:
    """A writer that keeps what is written."""

    def __init__(self) -> None:
        self.parts: list[str | bytes] = []

    def write(self, texts) -> None:  # type: ignore[no-untyped-def]
        self.parts += texts

    def flush(self) -> None:
        pass

    def text(self) -> str:
        return "".join(part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part for part in self.parts)


def unit(program: str, params: tuple[str, ...] = (), **options) -> Unit:  # type: ignore[no-untyped-def]
    return compile(Source("stdin", program), _catalogue, Options(params=params, **options))


def run(program: str, params: tuple[str, ...] = (), work=None, seconds: float = 2.0, **options) -> tuple[str, TraceSession]:  # type: ignore[no-untyped-def]
    """(output, the finished session); ``work`` is called once everything is attached.

    Without ``work`` the program must end by itself (BEGIN programs, ``exit()``) or is stopped after ``seconds``.
    """
    text = Text()
    notices: list[str] = []
    sink = TextSink(text, notices.append)  # type: ignore[arg-type]
    with TraceSession(unit(program, params, **options), _kernel, sink, pid=options.get("pid", -1)) as session:
        session.start()
        deadline = time.monotonic() + seconds
        if work is not None:
            work()
            deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline and session.poll(0.05):
            pass
        session.finish()
        session.kept = {name: reader.rows() for name, reader in session.tables.items()}  # type: ignore[attr-defined]
    session.notices = notices  # type: ignore[attr-defined]
    return text.text(), session
