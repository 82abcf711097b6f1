"""A program's text to what a session runs: compiled, or taken from the cache of compiled programs."""

from __future__ import annotations

from .cache import load_unit, store_unit, unit_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.diagnostics import Source
    from ..compiler.unit import Unit
    from ..kernel.kernel import Kernel

__all__ = ("build",)


def build(
    source: Source,
    *,
    kernel: Kernel | None = None,
    params: Sequence[str] = (),
    pid: int = -1,
    settings: Sequence[tuple[str, Any]] = (),
    cached: bool = True,
    observe: Callable[[str, object], None] | None = None,
) -> Unit:
    """Compiles a program for the running kernel, or takes it from the cache.

    Args:
        source: the program.
        kernel: the kernel to compile for; None: the running one.
        params: positional parameters ``$1`` ...
        pid: trace only this process; -1: all.
        settings: further fields of ``languages.bpftrace.compile.Options`` as (name, value) pairs.
        cached: use the cache of compiled programs.
        observe: is told the compiler's stages, ("ast", tree) and ("ir", module); then the program is compiled in any case.

    Raises:
        SourceError, ProbeError, LimitError, KernelError.
    """
    if kernel is None:
        from ..kernel.kernel import live

        kernel = live()
    key = ""
    if cached:
        key = unit_key(kernel, source.name, source.text, (tuple(params), pid, tuple(sorted(settings))))
        unit = load_unit(kernel, key) if observe is None else None
        if unit is not None:
            return unit
    from ..languages.bpftrace.compile import Options, compile
    from ..probes.catalogue import Catalogue

    catalogue = Catalogue(kernel)
    try:
        fresh: Unit = compile(
            source, catalogue, Options(params=tuple(params), pid=pid, **dict(settings)), *(() if observe is None else (observe,))
        )
    finally:
        catalogue.remember()
    if key:
        store_unit(key, fresh)
    return fresh
