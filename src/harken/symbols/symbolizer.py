"""Names for addresses from anywhere: the kernel, running processes, processes that are gone, recordings, plain files.

``Symbolizer`` puts the parts of this package together.  One at a time or 100,000 at once: equal addresses are looked up once and share a
frame.

Example:
    >>> from harken.kernel.kernel import live
    >>> import ctypes, os
    >>> symbolizer = Symbolizer(live())
    >>> getpid = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    >>> frame = symbolizer.user(os.getpid(), getpid + 1)[0]
    >>> frame.label.lstrip("_"), frame.kind
    ('getpid+0x1', 'native')
    >>> symbolizer.close()

Addresses of a recording need mappings and symbols of that machine: ``symbolizer.processes.add(pid, Mapping(...))`` and
``Symbolizer(kernel, kernel_symbols=KernelSymbols(None, text))``.
"""

from __future__ import annotations

from bisect import bisect_left

from . import demangle as names
from .kernel_symbols import KernelSymbols
from .model import JIT, NATIVE, UNKNOWN, Frame, Span
from .processes import Processes
from .symbolizer_images import Images
from .symbolizer_parts import Jit, Memo, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .symbolizer_images import Image

__all__ = ("Symbolizer",)

_MEMO = 1 << 18
#: Paths in /proc/PID/maps of memory that holds no file's code (tools/perf/util/map.c, is_anon_memory), besides "" and "[...]".
_ANONYMOUS = ("//anon", "/dev/zero", "/anon_hugepage", "/SYSV", "/memfd:", "anon_inode:", "[")


class Symbolizer:
    """Turns addresses into frames.

    Args:
        kernel: the running kernel; None if all mappings and kernel symbols come from a recording and no file shall be opened.
        demangle: show C++ and Rust names as written (needs ``harken[demangle]``).
        parameters: with the parameters of C++ functions.
        lines: find source lines (needs debug information).
        inlines: show inlined functions as frames of their own; implies ``lines``.
        debuginfod: ask the servers of ``DEBUGINFOD_URLS`` for missing debug information.
        processes: address spaces that are known already.
        kernel_symbols: the kernel's symbols, if not those of the running kernel.

    Attributes:
        processes: the address spaces (``Processes``); recordings add theirs.
        kernel_symbols: the kernel's symbols.
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        *,
        demangle: bool = True,
        parameters: bool = True,
        lines: bool = False,
        inlines: bool = False,
        debuginfod: bool = False,
        processes: Processes | None = None,
        kernel_symbols: KernelSymbols | None = None,
    ) -> None:
        self._kernel = kernel
        self.processes = processes if processes is not None else Processes(kernel)
        self.kernel_symbols = kernel_symbols if kernel_symbols is not None else KernelSymbols(kernel)
        self._images = Images(kernel, debuginfod)
        self._lines, self._inlines = lines or inlines, inlines
        self._readable: Callable[[str], str] | None = None
        if demangle:
            self._readable = names.demangle if parameters else names.short
        self._memo: dict[int, Memo] = {}
        self._size = 0
        self._part: Part | None = None
        self._changes = 0
        self._of_mapping: dict[int, tuple[Mapping, Image]] = {}
        self._jits: dict[int, Jit] = {}

    def __enter__(self) -> Symbolizer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what is held open of containers, and keeps demangled names for the next run."""
        self.processes.close()
        names.save()

    @property
    def problems(self) -> dict[str, str]:
        """Path -> why addresses in this file have no names or lines."""
        return self._images.problems

    # -- addresses

    def kernel(self, address: int) -> Frame:
        """A frame for an address of the kernel."""
        return self.kernel_symbols.resolve(address)

    def user(self, pid: int, address: int) -> tuple[Frame, ...]:
        """Frames for an address of a process: one, or with ``inlines`` the inlined functions first and the one that holds them last."""
        memo = self._memo_of(pid).frames
        return memo.get(address) or self._remember(memo, address, self._look(pid, address, address))

    def many(self, pid: int, addresses: Iterable[int]) -> list[Frame]:
        """One frame per address of a process, without inlined ones; addresses of the kernel may be among them."""
        wanted = list(addresses)
        if self._lines:
            found = {address: self.resolve(pid, address)[-1] for address in set(wanted)}
        else:
            unique = list(set(wanted))
            found = {address: span.frame(address) for address, span in zip(unique, self.spans(pid, unique))}
        return [found[address] for address in wanted]

    def resolve(self, pid: int, address: int) -> tuple[Frame, ...]:
        """Frames for an address that a process has, in the kernel or not."""
        if address >> 63:
            frame = self.kernel_symbols.resolve(address)
            if frame.name or self.processes.find(pid, address) is None:
                return (frame,)
        return self.user(pid, address)

    def spans(self, pid: int, addresses: Sequence[int]) -> list[Span]:
        """The span of every address of a process, in the kernel or not: all addresses of a symbol share one.  Lines are not looked for."""
        memo = self._memo_of(pid).spans
        unknown = sorted(set(addresses).difference(memo))
        nameless: list[int] = []
        place = 0
        for end, span in self.runs(pid, unknown):
            if end == place + 1:
                memo[unknown[place]] = span
            else:
                memo |= dict.fromkeys(unknown[place:end], span)
            if not span.name:
                nameless += unknown[place:end]
            place = end
        self._size += len(unknown)
        result = list(map(memo.__getitem__, addresses))
        for address in nameless:  # it may be found later
            del memo[address]
        if self._size > _MEMO:
            self._memo.clear()
            self._size = 0
        return result

    def runs(self, pid: int, addresses: Sequence[int]) -> list[tuple[int, Span]]:
        """The spans of ascending addresses of a process, in the kernel or not, in order, each with the index behind its last address.

        This is the fastest way to name very many addresses: it costs a few microseconds per symbol, and nothing per address.  Equal
        addresses may repeat.

        Example:
            >>> symbolizer = Symbolizer(None)
            >>> [(end, span.name) for end, span in symbolizer.runs(1, [16, 16, 17])]
            [(2, ''), (3, '')]
        """
        found: list[tuple[int, Span]] = []
        self._changes = self.processes.changes(pid)
        place, count = 0, bisect_left(addresses, 1 << 63)
        while place < count:
            part = self._part_at(pid, addresses[place])
            if isinstance(part, Span):
                place = bisect_left(addresses, part.end, place + 1)
                found.append((place, part))
                continue
            limit = bisect_left(addresses, part.end, place + 1)
            start, end, shift, table, image, path = part.start, part.end, part.shift, part.table, part.image, part.path
            piece, names, starts, build_id = table.piece, image.names, table.starts, table.build_id
            while place < limit:
                low, high, symbol = piece(addresses[place] - shift)
                low, high = low + shift, high + shift
                if low < start:
                    low = start
                if high > end:
                    high = end
                if symbol < 0:
                    span = Span(low, high, 0, "", path, NATIVE, build_id)
                else:
                    name = names.get(symbol) or self._name(image, symbol)
                    span = Span(low, high, starts[symbol] + shift, name, path, NATIVE, build_id)
                place = bisect_left(addresses, high, place + 1, limit)
                found.append((place, span))
        if place < len(addresses):
            for end, span in self.kernel_symbols.runs(addresses, place):
                # [vsyscall] lies among the kernel's addresses, but belongs to processes
                if not span.name and self.processes.find(pid, addresses[place]) is not None:
                    span = self._span(pid, addresses[place])
                found.append((end, span))
                place = end
        return found

    def stack(self, pid: int, addresses: Sequence[int], user: bool = True, exact: Sequence[int] = (0,)) -> list[Frame]:
        """Frames of a stack, innermost first.

        All addresses but those of ``exact`` are return addresses.  They belong to the call before them: lines are those of the call, and
        a call at the very end of a function that does not return is not taken for the function behind it.

        Args:
            user: the stack of a process; False: the kernel's.
            exact: indexes of addresses that are instructions: the first, and those that a signal interrupted (``unwind.Walk.exact``).
        """
        frames: list[Frame] = []
        if not user:
            resolve = self.kernel_symbols.resolve
            for place, address in enumerate(addresses):
                frame = resolve(address)
                if not frame.offset and frame.name and place not in exact:
                    before = resolve(address - 1)
                    if before.name:
                        frame = before.replace(address=address, offset=before.offset + 1)
                frames.append(frame)
            return frames
        memo = self._memo_of(pid).frames
        for place, address in enumerate(addresses):
            if place in exact:
                frames += self.user(pid, address)
                continue
            key = ~address  # as a return address
            found = memo.get(key)
            if found is None:
                found = self._look(pid, address, address - 1)
                if not found[-1].name:
                    # a signal handler returns to the first instruction of code that has called nobody
                    found = self._look(pid, address, address)
                self._remember(memo, key, found)
            frames += found
        return frames

    def file(self, path: str, vaddr: int) -> tuple[Frame, ...]:
        """Frames for a virtual address of an ELF file, as ``user``."""
        image = self._images.of_file(path)
        return self._frames(image, vaddr, vaddr, vaddr)

    def addresses(self, name: str, path: str = "", pid: int = -1) -> list[int]:
        """Addresses of a symbol by its name as the file has it (mangled).

        Args:
            path: in this file; addresses are the file's own.
            pid: in every file that this process has mapped; addresses are the process's.
        """
        if path:
            table = self._images.of_file(path).table
            found = table.find(name) if table is not None else None
            return [found[0]] if found else []
        places: dict[tuple[str, int], int] = {}
        for mapping in self.processes.mappings(pid):
            if (mapping.path.startswith("/") and not mapping.path.startswith(_ANONYMOUS)) or mapping.path == "[vdso]":
                image = self._images.of_mapping(pid, mapping, self.processes)
                found = image.table.find(name) if image.table is not None else None
                offset = image.table.file_offset(found[0]) if image.table is not None and found else None
                inside = offset is not None and mapping.offset <= offset < mapping.offset + mapping.end - mapping.start
                if offset is not None and inside and (mapping.executable or (image.path, offset) not in places):
                    places[image.path, offset] = mapping.start + offset - mapping.offset
        return sorted(set(places.values()))

    # -- private

    def _memo_of(self, pid: int) -> Memo:
        """What is known of a process; forgotten when its mappings change."""
        changes = self._changes = self.processes.changes(pid)
        known = self._memo.get(pid)
        if known is None or known.changes != changes:
            known = self._memo[pid] = Memo(changes)
        return known

    def _remember(self, memo: dict[int, tuple[Frame, ...]], key: int, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
        if frames[-1].name:  # else it may be found later
            memo[key] = frames
            self._size += 1
            if self._size > _MEMO:
                self._memo.clear()
                self._size = 0
        return frames

    def _span(self, pid: int, address: int) -> Span:
        """The largest range around an address of a process that has one answer."""
        part = self._part_at(pid, address)
        if isinstance(part, Span):
            return part
        image, shift = part.image, part.shift
        low, high, symbol = part.table.piece(address - shift)
        low, high = max(low + shift, part.start), min(high + shift, part.end)
        if symbol < 0:
            return Span(low, high, 0, "", part.path, NATIVE, part.table.build_id)
        return Span(low, high, part.table.starts[symbol] + shift, self._name(image, symbol), part.path, NATIVE, part.table.build_id)

    def _part_at(self, pid: int, address: int) -> Part | Span:
        """The part of a file's mapping that contains an address, or the span itself where no file has symbols for it."""
        part = self._part
        if part is not None and part.pid == pid and part.start <= address < part.end and part.changes == self._changes:
            return part
        mapping = self.processes.find(pid, address)
        if mapping is None:
            return Span(address, address + 1, kind=UNKNOWN)
        path = mapping.path
        if path != "[vdso]" and (not path.startswith("/") or path.startswith(_ANONYMOUS)):
            frame = self._jit(pid, mapping, address, address)
            low, high = self._jits[pid].range(address)
            return Span(max(low, mapping.start), min(high, mapping.end), frame.start, frame.name, frame.module, frame.kind)
        image = self._image(pid, mapping)
        if image.table is None:
            return Span(mapping.start, mapping.end, 0, "", path, NATIVE, mapping.build_id)
        vaddr = image.table.vaddr(mapping.file_offset(address), mapping.executable)
        if vaddr is None:
            return Span(address, address + 1, 0, "", path, NATIVE, image.table.build_id)
        part = self._part = Part(pid, self._changes, mapping, image, image.table, address - vaddr)
        return part

    def _image(self, pid: int, mapping: Mapping) -> Image:
        """The file of a mapping, remembered by mapping, since this is asked for every symbol."""
        key = id(mapping)
        known = self._of_mapping.get(key)
        if known is not None and known[0] is mapping:
            return known[1]
        image = self._images.of_mapping(pid, mapping, self.processes)
        if len(self._of_mapping) > _MEMO:
            self._of_mapping.clear()
        self._of_mapping[key] = mapping, image
        return image

    def _name(self, image: Image, place: int) -> str:
        name = image.names.get(place)
        if name is None:
            assert image.table is not None
            name = image.table.name(place)
            if self._readable is not None:
                name = self._readable(name)
            image.names[place] = name
        return name

    def _look(self, pid: int, address: int, lookup: int) -> tuple[Frame, ...]:
        """Frames of ``address``, looked up as ``lookup`` (the byte before a return address)."""
        mapping = self.processes.find(pid, lookup)
        if mapping is None:
            return (Frame(address, kind=UNKNOWN),)
        path = mapping.path
        if path != "[vdso]" and (not path.startswith("/") or path.startswith(_ANONYMOUS)):
            return (self._jit(pid, mapping, address, lookup),)
        image = self._image(pid, mapping)
        if image.table is None:
            return (Frame(address, module=path, build_id=mapping.build_id),)
        vaddr = image.table.vaddr(mapping.file_offset(lookup), mapping.executable)
        if vaddr is None:
            return (Frame(address, module=path, build_id=image.build_id),)
        return self._frames(image, address, lookup, vaddr)

    def _frames(self, image: Image, address: int, lookup: int, vaddr: int) -> tuple[Frame, ...]:
        table = image.table
        place = table.piece(vaddr)[2] if table is not None else -1
        name, offset, start = "", 0, 0
        if table is not None and place >= 0:
            start = table.starts[place] + lookup - vaddr
            offset = address - start
            name = self._name(image, place)
        if not self._lines:
            return (Frame(address, name, offset, image.path, build_id=image.build_id, start=start),)
        lines = self._images.lines(image)
        chain = lines.lookup(vaddr) if lines is not None else []
        if not chain:
            return (Frame(address, name, offset, image.path, build_id=image.build_id, start=start),)
        frames = []
        if self._inlines:
            for function, file, line, inlined in chain[:-1]:
                if inlined:
                    text = self._readable(function) if self._readable is not None else function
                    frames.append(Frame(address, text, 0, image.path, file, line, True, NATIVE, image.build_id))
            function, file, line, _ = chain[-1]
        else:
            function, file, line, _ = chain[0]
        if not name and not self._inlines:
            function = chain[-1][0]
        frames.append(Frame(address, name or function, offset, image.path, file, line, False, NATIVE, image.build_id, start))
        return tuple(frames)

    def _jit(self, pid: int, mapping: Mapping, address: int, lookup: int) -> Frame:
        known = self._jits.get(pid)
        if known is None:
            known = self._jits[pid] = Jit()
        found = known.lookup(lookup)
        if found is None and self._kernel is not None and known.read(self._kernel, pid, self.processes):
            found = known.lookup(lookup)
        if found is None:
            return Frame(address, module=mapping.path or "//anon", kind=JIT if mapping.executable else UNKNOWN)
        name, offset, start, module, line = found
        if self._readable is not None:
            name = self._readable(name)
        return Frame(address, name, offset + address - lookup, module, *(line if self._lines and line else ("", 0)), kind=JIT, start=start)
