"""The kernel's addresses: which function is it, and where is that symbol.

``KernelSymbols`` answers from a compact index of /proc/kallsyms (``KallsymsIndex``): arrays of addresses and name offsets and one block of
names, 35 bytes per symbol.  It is built once per boot and set of modules, kept in the cache (``base.cache``) and mapped at the next start:
that takes under a millisecond, where reading and cutting 122,000 lines takes half a second and tens of megabytes.

Some symbols come and go while the kernel runs: BPF programs and trampolines ("[bpf]"), ftrace trampolines and kprobe pages
("[__builtin__ftrace]", "[__builtin__kprobes]").  They are not cached; when an address lies in none of the cached symbols, kallsyms is
read again, at most every few seconds.  A recording states them as PERF_RECORD_KSYMBOL: ``add`` and ``remove``.

Where symbols end is not in kallsyms.  As in perf, one ends where the next starts; the last of the kernel and of each module ends with the
following page (tools/perf/util/symbol.c, symbols__fixup_end).

Without CAP_SYSLOG, or with kptr_restrict set to 2, the kernel shows all addresses as 0: then nothing is resolved, ``hidden`` tells,
and ``address`` says what to do.

Example:
    >>> symbols = KernelSymbols(None, b"ffffffff81000000 T do_it\\nffffffff81000100 t end\\nffffffffc0000000 t init\\t[ext4]\\n")
    >>> symbols.resolve(0xffffffff81000008).label, symbols.resolve(0xffffffffc0000004).module
    ('do_it+0x8', '[ext4]')
    >>> symbols.address("end") == 0xffffffff81000100
    True
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right

from ..base.errors import ProbeError
from .kernel_symbols_index import KallsymsIndex, build, changing_lines
from .model import KERNEL, KERNEL_MODULE, Frame, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..kernel.kernel import Kernel

__all__ = ("KernelSymbols",)

#: Rereading costs about 0.2 s: seconds between two attempts to learn of new symbols, doubled each time that none was found.
_REREAD, _REREAD_MOST = 2.0, 64.0
_MEMO = 1 << 18
_PEEK = 4096
#: how names of code begin that the kernel makes while it runs: programs, trampolines, copied instructions
_GENERATED = ("bpf_", "ftrace_", "kprobe_")
_KERNEL_NAMES = ("vmlinux", "kernel", KERNEL_MODULE)


class KernelSymbols:
    """Names of the kernel's addresses.

    Args:
        kernel: the running kernel; None for a recording.
        text: contents of /proc/kallsyms from a recording; read from the kernel if None.
        cached: keep the index between runs.
        look_again: read kallsyms again for addresses that are in no known symbol.  Not for recordings, which state what came and went.

    Nothing is read before the first question.
    """

    def __init__(self, kernel: Kernel | None, text: bytes | None = None, cached: bool = True, look_again: bool = True) -> None:
        self._kernel = kernel
        self._text = text
        self._cached = cached
        self._look_again = look_again and text is None and kernel is not None
        self._static: KallsymsIndex | None = None
        self._changing: KallsymsIndex | None = None
        self._static_key = ""
        self._read_at, self._pause = -1e9, 0.0
        self._memo: dict[int, Frame] = {}
        self._spans: dict[int, Span] = {}
        self._added: dict[int, tuple[int, str, str]] = {}
        self._added_starts: list[int] = []

    @property
    def hidden(self) -> bool:
        """Whether the kernel hides its addresses from this user, or shows no symbols at all."""
        return self._index().hidden

    def __len__(self) -> int:
        changing = self._changing
        return int(self._index().count + (changing.count if changing is not None else 0))

    def resolve(self, address: int) -> Frame:
        """The symbol that contains an address; ``name`` is "" if there is none."""
        frame = self._memo.get(address)
        if frame is None:
            span = self._span(address)
            frame = span.frame(address)
            if span.name and len(self._memo) < _MEMO:
                self._memo[address] = frame
        return frame

    def resolve_many(self, addresses: Iterable[int]) -> list[Frame]:
        """One frame per address; equal addresses share a frame."""
        wanted = list(addresses)
        unique = list(set(wanted))
        found = {address: span.frame(address) for address, span in zip(unique, self.spans(unique))}
        return [found[address] for address in wanted]

    def spans(self, addresses: Sequence[int]) -> list[Span]:
        """The span of every address: all addresses of a symbol share one."""
        unknown = sorted(set(addresses))
        found: dict[int, Span] = {}
        place = 0
        for end, span in self.runs(unknown):
            found |= dict.fromkeys(unknown[place:end], span)
            place = end
        return list(map(found.__getitem__, addresses))

    def runs(self, addresses: Sequence[int], place: int = 0) -> list[tuple[int, Span]]:
        """The spans of ascending addresses from index ``place`` on, in order, each with the index behind its last address.

        The fastest way to name very many: it costs nothing per address.
        """
        found: list[tuple[int, Span]] = []
        count, spans = len(addresses), self._spans
        while place < count:
            address = addresses[place]
            span = spans.get(address)
            if span is None:
                span = self._span(address)
                if span.name and len(spans) < _MEMO:
                    spans[address] = span
            place = bisect_left(addresses, span.end, place + 1)
            found.append((place, span))
        return found

    def addresses(self, name: str, module: str = "") -> list[int]:
        """All addresses of a name, ascending, each once.

        Args:
            module: only symbols of this module ("ext4", or "vmlinux" for the kernel itself); "" for all.
        """
        owner = None if not module else "" if module in _KERNEL_NAMES else module.strip("[]")
        found = {address for address, of in self._index().named(name) if owner is None or of == owner}
        found |= {start for start, (_, other, of) in self._added.items() if other == name and owner in (None, of)}
        if not found and self._may_be_new(name) and self._reread():
            for index in (self._static, self._changing):
                assert index is not None
                found |= {address for address, of in index.named(name) if owner is None or of == owner}
        return sorted(found)

    def address(self, name: str, module: str = "") -> int:
        """The address of a symbol.

        Args:
            module: as for ``addresses``.

        Raises:
            ProbeError: there is none, several different ones are called so, or the kernel hides addresses.
        """
        found = self.addresses(name, module)
        if len(found) == 1 and (found[0] or not self.hidden):
            return found[0]
        if self.hidden:
            raise ProbeError(
                f"the address of kernel symbol {name} is hidden from this user",
                "run as root, grant CAP_SYSLOG, or let root set kernel.kptr_restrict to 0 or 1",
            )
        if not found:
            where = f" in {module}" if module else ""
            raise ProbeError(f"the kernel has no symbol {name}{where}", f"grep {name} /proc/kallsyms shows similar ones")
        places = ", ".join([f"{place:#x}" for place in found[:4]]) + (", ..." if len(found) > 4 else "")
        owners = {of for _, of in self._index().named(name)}
        hint = "name the one you mean by its address" + (" or with its module" if len(owners) == len(found) else "")
        raise ProbeError(f"{len(found)} kernel symbols are called {name} ({places})", hint)

    def add(self, address: int, size: int, name: str, module: str = "bpf") -> None:
        """A symbol that was registered while recording (PERF_RECORD_KSYMBOL), e.g. "bpf_prog_6deef7357e7b4530"."""
        self._added[address] = (size, name, module)
        self._added_starts = []
        self._forget()

    def remove(self, address: int) -> None:
        """The symbol at ``address`` that ``add`` made was unregistered."""
        if self._added.pop(address, None) is not None:
            self._added_starts = []
            self._forget()

    def layout(self) -> tuple[list[tuple[int, int, str, str]], KallsymsIndex, KallsymsIndex | None]:
        """All there is, in the order in which addresses are looked for: (start, size, name, module) of what was added, by start; the
        lasting symbols; those that come and go, if they were read.
        """
        return [(start, *self._added[start]) for start in sorted(self._added)], self._index(), self._changing

    # -- private

    def _span(self, address: int) -> Span:
        if self._added:
            span = self._of_added(address)
            if span is not None:
                return span
        index = self._index()
        found = index.lookup(address) or (self._changing.lookup(address) if self._changing else None)
        if found is None and address >> 63 and not index.hidden and self._reread():
            found = self._index().lookup(address) or (self._changing.lookup(address) if self._changing else None)
            self._pause = 0.0 if found else self._pause
        if found is None:
            return Span(address, address + 1, kind=KERNEL)
        name, start, end, module = found
        if self._added:
            after = bisect_right(self._added_starts, address)
            end = min(end, self._added_starts[after]) if after < len(self._added_starts) else end
        return Span(start, end, start, name, f"[{module}]" if module else KERNEL_MODULE, KERNEL)

    def _of_added(self, address: int) -> Span | None:
        if not self._added_starts:
            self._added_starts = sorted(self._added)
        place = bisect_right(self._added_starts, address) - 1
        if place < 0:
            return None
        start = self._added_starts[place]
        size, name, module = self._added[start]
        if address >= start + size:
            return None
        return Span(start, start + size, start, name, f"[{module}]" if module else KERNEL_MODULE, KERNEL)

    def _index(self) -> KallsymsIndex:
        if self._static is None:
            self._static = self._load()
        return self._static

    def _load(self) -> KallsymsIndex:
        kernel = self._kernel
        if self._text is not None or kernel is None:
            static, changing = build(self._text or b"")
            self._changing = KallsymsIndex(changing)
            return KallsymsIndex(static)
        if self._cached:
            from ..base import cache

            key = self._key(kernel)
            data = cache.mapped("kallsyms", key) if key and self._visible(kernel) else None
            if data is not None:
                try:
                    index = KallsymsIndex(data)
                    self._static_key = key
                    return index
                except ValueError:
                    cache.remove("kallsyms", key)
        return self._read(kernel)

    def _read(self, kernel: Kernel) -> KallsymsIndex:
        """Reads kallsyms and makes what is not known of it."""
        from ..kernel.procfs import kallsyms

        key = self._key(kernel)
        text = kallsyms(kernel)
        self._read_at = time.monotonic()
        if self._static is not None and key == self._static_key:
            self._changing = KallsymsIndex(build(changing_lines(text))[1])
            return self._static
        static, changing = build(text)
        self._changing = KallsymsIndex(changing)
        index = KallsymsIndex(static)
        # A module that was loaded in between would be missing under the old key.
        if key and not index.hidden and key == self._key(kernel):
            self._static_key = key
            if self._cached:
                from ..base import cache

                cache.store("kallsyms", key, static)
        return index

    def _forget(self) -> None:
        self._memo = {}  # new ones: whoever is filling the old ones goes on
        self._spans = {}

    def _may_be_new(self, name: str) -> bool:
        """Whether an unknown name may have come since: generated code has such names, or other modules are loaded now."""
        if self._kernel is None or name.startswith(_GENERATED) or not self._static_key:
            return True
        return self._key(self._kernel) != self._static_key

    def _reread(self) -> bool:
        """Looks for symbols that are new; tells whether it did."""
        if self._kernel is None or not self._look_again or time.monotonic() - self._read_at < self._pause:
            return False
        self._static = self._read(self._kernel)
        self._pause = min(2 * self._pause, _REREAD_MOST) or _REREAD
        self._forget()
        return True

    @staticmethod
    def _key(kernel: Kernel) -> str:
        """What the cached index depends on: the boot and the loaded modules; "" if it cannot be told."""
        from ..base.cache import digest
        from ..kernel.procfs import boot_id, modules

        boot = boot_id(kernel)
        if not boot:
            return ""
        loaded = "\n".join(sorted([f"{module.name} {module.size} {module.address:x}" for module in modules(kernel)]))
        return f"{boot}-{digest('3', loaded)}"

    @staticmethod
    def _visible(kernel: Kernel) -> bool:
        """Whether this user may see addresses now: a cached index must not tell what the kernel has decided to hide."""
        try:
            head = kernel.read("/proc/kallsyms", _PEEK)
        except OSError:
            return False
        lines = head.split(b"\n")
        return any(line[:8].strip(b"0") or line[8:16].strip(b"0") for line in lines[:-1])
