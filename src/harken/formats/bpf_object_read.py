"""Object file -> Spec: what ``formats.bpf_object`` writes, and what clang writes for libbpf.

The file is not trusted: every offset and symbol is checked; what does not fit raises FormatError.
"""

from __future__ import annotations

from struct import iter_unpack, pack, pack_into, unpack_from

from ..abi import bpf as abi
from ..base.ctype import Array, Ptr, Struct
from ..base.errors import FormatError
from .bpf_sections import parse
from .btf import Btf
from .elf import Elf
from .spec import AttachSpec, MapSpec, ProgramSpec, Reloc, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .elf import Symbol

__all__ = ("read",)

_SHT_PROGBITS, _SHT_NOBITS, _SHT_REL = 1, 8, 9
_SHF_EXECINSTR = 4
_DATA = (".rodata", ".data", ".bss")
_MOST_BYTES = 64 << 20


def read(data: bytes, what: str = "BPF object", *, ignore_core: bool = False) -> Spec:
    """An object file as a Spec.

    Args:
        data: the file.
        what: what the user calls it, for messages.
        ignore_core: take an object although it has CO-RE relocations, whose offsets then are those of the kernel it was built for.

    Raises:
        FormatError: it is not an object for BPF, it contradicts itself, or it has CO-RE relocations.
    """
    return _Reader(data, what, ignore_core).spec()


class _Function:
    """A piece of a section: one program or subprogram."""

    __slots__ = ("name", "offset", "section", "size")

    def __init__(self, name: str, section: int, offset: int, size: int) -> None:
        self.name, self.section, self.offset, self.size = name, section, offset, size


class _Reader:
    def __init__(self, data: bytes, what: str, ignore_core: bool) -> None:
        self._elf = Elf(data, what)
        self._ignore_core = ignore_core
        self._what = what
        if self._elf.machine_name != "bpf" or not self._elf.relocatable or self._elf.bits != 64 or self._elf.big_endian:
            raise FormatError(what, "not an object file for little-endian BPF")
        self._sections = self._elf.sections
        self._symbols: list[Symbol] = list(self._elf.symbols(".symtab"))
        btf = self._elf.section(".BTF")
        self._btf_data = bytes(btf.data) if btf is not None else b""
        self._btf = Btf(self._btf_data, f"{what}, section .BTF") if self._btf_data else None
        #: (section, offset) -> name of map there
        self._map_at: dict[tuple[int, int], str] = {}
        self._functions: dict[tuple[int, int], _Function] = {}
        self._relocs: dict[int, dict[int, tuple[Symbol, int]]] = {}

    def spec(self) -> Spec:
        license = self._elf.section("license")
        text = bytes(license.data).split(b"\0", 1)[0].decode("ascii", "replace") if license is not None else ""
        maps = (*self._defined_maps(), *self._data_maps())
        self._find_functions()
        self._find_relocs()
        functions, lines = self._extension()
        programs = []
        for function in self._functions.values():
            section = self._sections[function.section]
            kind = parse(section.name)
            if section.name == ".text" or kind is None:
                continue
            insns, relocs, func_info, line_info = self._linked(function, functions, lines)
            attach = (AttachSpec(kind.probe, ""),) if kind.probe else ()
            flags = abi.BPF_F_SLEEPABLE if kind.sleepable else 0
            programs.append(
                ProgramSpec(
                    function.name, kind.type, insns, relocs, attach, kind.expected_attach_type, kind.attach_function, flags, text or "GPL",
                    func_info, line_info,
                )
            )  # fmt: skip
        return Spec(maps, tuple(programs), self._btf_data)

    def _wrong(self, problem: str) -> FormatError:
        return FormatError(self._what, problem)

    # -- maps

    def _defined_maps(self) -> list[MapSpec]:
        """The variables of ``.maps`` by their BTF."""
        section = next((i for i, s in enumerate(self._sections) if s.name == ".maps"), 0)
        if not section:
            if any(s.name == "maps" for s in self._sections):
                raise self._wrong("its maps are in the old form (section 'maps'), which libbpf no longer takes either")
            return []
        if self._btf is None:
            raise self._wrong("it defines maps, but has no BTF")
        number = self._btf.id_of(".maps", "datasec")
        if number is None:
            raise self._wrong("BTF does not describe section .maps")
        # clang leaves the offsets in BTF to the linker: the symbols have them
        offsets = {symbol.name: symbol.value for symbol in self._symbols if symbol.section == section}
        found = []
        for variable, offset, _size in self._btf.items(number):
            name = self._btf.name(variable)
            found.append(self._map(name, self._btf.info(variable)[3]))
            self._map_at[section, offsets.get(name, offset)] = name
        return found

    def _map(self, name: str, number: int, depth: int = 0) -> MapSpec:
        btf = self._btf
        assert btf is not None
        kind, _, _, _, _ = btf.info(number)
        while kind in ("typedef", "const", "volatile"):
            number = btf.info(number)[3]
            kind = btf.info(number)[0] if number else "void"
        if kind != "struct" or depth > 1:
            raise self._wrong(f"the definition of map {name!r} is not a struct")
        numbers: dict[str, int] = {}
        key_type = value_type = 0
        inner: MapSpec | None = None
        for name_offset, member, _ in btf.items(number):
            field = btf._string(name_offset)
            if field == "key":
                key_type = self._pointed(member)
            elif field == "value":
                value_type = self._pointed(member)
            elif field == "values":
                element = self._element(member)
                if element is not None:
                    inner = self._map(f"{name}.inner", element, depth + 1)
            else:
                numbers[field] = self._length(member, name, field)
        key_size = numbers.get("key_size", self._size(key_type))
        value_size = numbers.get("value_size", self._size(value_type) or (4 if inner is not None else 0))
        return MapSpec(
            name, numbers.get("type", 0), key_size, value_size, numbers.get("max_entries", 0), numbers.get("map_flags", 0), inner=inner,
            key_type=key_type, value_type=value_type,
        )  # fmt: skip

    def _length(self, member: int, name: str, field: str) -> int:
        """The number that ``int (*field)[N]`` says."""
        assert self._btf is not None
        type = self._btf.type(member).strip()
        array = type.target.strip() if isinstance(type, Ptr) else type
        if not isinstance(array, Array):
            raise self._wrong(f"field {field!r} of map {name!r} is no number")
        return array.count

    def _pointed(self, member: int) -> int:
        assert self._btf is not None
        kind, _, _, last, _ = self._btf.info(member)
        if kind != "ptr":
            raise self._wrong("the type of a map's key or value is given by a pointer to it")
        return last

    def _element(self, member: int) -> int | None:
        """The definition of inner maps: what ``struct {...} *values[]`` points to; None if it points to programs."""
        assert self._btf is not None
        kind, _, _, _, _ = self._btf.info(member)
        if kind != "array":
            raise self._wrong("'values' of a map is an array")
        element = self._btf.items(member)[0][0]
        kind, _, _, last, _ = self._btf.info(element)
        return last if kind == "ptr" and last and self._btf.info(last)[0] == "struct" else None

    def _size(self, number: int) -> int:
        if not number or self._btf is None:
            return 0
        type = self._btf.type(number).strip()
        return type.size if not isinstance(type, Struct) or type.members is not None else 0

    def _data_maps(self) -> list[MapSpec]:
        found = []
        for index, section in enumerate(self._sections):
            prefix = next((p for p in _DATA if section.name == p or section.name.startswith(p + ".")), "")
            if not prefix or section.type not in (_SHT_PROGBITS, _SHT_NOBITS) or not section.size:
                continue
            if section.size > _MOST_BYTES:
                raise self._wrong(f"section {section.name} is too large")
            data = bytes(section.size) if section.type == _SHT_NOBITS else bytes(section.data)
            name = section.name[len(prefix) + 1 :] or section.name
            frozen = prefix == ".rodata"
            flags = abi.BPF_F_RDONLY_PROG if frozen else 0
            found.append(MapSpec(name, abi.BPF_MAP_TYPE_ARRAY, 4, len(data), 1, flags, ((bytes(4), data),), frozen))
            self._map_at[index, -1] = name
        return found

    # -- programs

    def _find_functions(self) -> None:
        for symbol in self._symbols:
            if symbol.kind != "func" or not 0 < symbol.section < len(self._sections):
                continue
            section = self._sections[symbol.section]
            if not section.flags & _SHF_EXECINSTR:
                continue
            if symbol.value % 8 or symbol.size % 8 or symbol.value + symbol.size > len(section.data) or not symbol.size:
                raise self._wrong(f"function {symbol.name!r} does not fit into section {section.name}")
            self._functions[symbol.section, symbol.value] = _Function(symbol.name, symbol.section, symbol.value, symbol.size)

    def _find_relocs(self) -> None:
        for section in self._sections:
            if section.type != _SHT_REL or not 0 < section.info < len(self._sections):
                continue
            found = self._relocs.setdefault(section.info, {})
            for offset, info in iter_unpack("<QQ", section.data[: len(section.data) // 16 * 16]):
                number = info >> 32
                if not 0 < number < len(self._symbols):
                    raise self._wrong(f"a relocation of section {self._sections[section.info].name} names symbol {number}")
                found[offset] = (self._symbols[number], info & 0xFFFFFFFF)

    def _linked(
        self, entry: _Function, functions: dict[int, list[tuple[int, ...]]], lines: dict[int, list[tuple[int, ...]]]
    ) -> tuple[bytes, tuple[Reloc, ...], bytes, bytes]:
        """A program with the subprograms it needs behind it, calls between them resolved."""
        order = self._closure(entry)
        starts: dict[tuple[int, int], int] = {}
        total = 0
        for function in order:
            starts[function.section, function.offset] = total
            total += function.size
        relocs: list[Reloc] = []
        code = bytearray()
        for function in order:
            base = len(code)
            code += self._sections[function.section].data[function.offset : function.offset + function.size]
            for at, reloc in self._instructions(function, code, base):
                target = self._target(function, code, at, base, reloc)
                if target is not None:
                    pack_into("<i", code, at + 4, (starts[target] - at) // 8 - 1)
                elif reloc is not None:
                    relocs.append(self._reloc(function, code, at, reloc))
        func_info: list[bytes] = []
        line_info: list[bytes] = []
        for function in order:
            start = starts[function.section, function.offset] // 8
            for rows, out, form in ((functions, func_info, "<II"), (lines, line_info, "<IIII")):
                for row in rows.get(function.section, ()):
                    if function.offset <= row[0] < function.offset + function.size:
                        out.append(pack(form, start + (row[0] - function.offset) // 8, *row[1:]))
        return bytes(code), tuple(relocs), b"".join(func_info), b"".join(line_info)

    def _closure(self, entry: _Function) -> list[_Function]:
        """A program and every subprogram that it calls or points to, in the order of the file."""
        found = {(entry.section, entry.offset): entry}
        todo = [entry]
        while todo:
            function = todo.pop()
            code = bytearray(self._sections[function.section].data[function.offset : function.offset + function.size])
            for at, reloc in self._instructions(function, code, 0):
                target = self._target(function, code, at, 0, reloc)
                if target is None or target in found:
                    continue
                callee = self._functions.get(target)
                if callee is None:
                    raise self._wrong(f"function {function.name!r} calls what is no function")
                found[target] = callee
                todo.append(callee)
        others = sorted(place for place in found if found[place] is not entry)
        return [entry, *[found[place] for place in others]]

    def _instructions(self, function: _Function, code: bytearray, base: int) -> Iterator[tuple[int, tuple[Symbol, int] | None]]:
        """(byte offset in ``code``, relocation) of each instruction of a function that stands at ``base``."""
        known = self._relocs.get(function.section, {})
        at = base
        while at < len(code):
            yield at, known.get(at - base + function.offset)
            at += 16 if code[at] == 0x18 else 8

    def _target(self, function: _Function, code: bytearray, at: int, base: int, reloc: tuple[Symbol, int] | None) -> tuple[int, int] | None:
        """(section, offset) of the function that an instruction calls or points to; None if it does neither."""
        opcode, source = code[at], code[at + 1] >> 4
        (imm,) = unpack_from("<i", code, at + 4)
        if reloc is None:
            if opcode == 0x85 and source == abi.BPF_PSEUDO_CALL:  # a call inside of the section needs none
                return function.section, at - base + function.offset + 8 * (imm + 1)
            return None
        symbol = reloc[0]
        if symbol.section == 0:
            return None
        if opcode == 0x85:
            return symbol.section, symbol.value + 8 * (imm + 1)
        if opcode == 0x18 and source == abi.BPF_PSEUDO_FUNC:
            return symbol.section, symbol.value + imm
        return None

    def _reloc(self, function: _Function, code: bytearray, at: int, reloc: tuple[Symbol, int]) -> Reloc:
        """What the loader must put into an instruction, which is made ready for that."""
        opcode = code[at]
        (imm,) = unpack_from("<i", code, at + 4)
        symbol = reloc[0]
        if opcode == 0x85 and symbol.section == 0:
            code[at + 1] = code[at + 1] & 0x0F | abi.BPF_PSEUDO_KFUNC_CALL << 4
            pack_into("<i", code, at + 4, 0)
            return Reloc(at // 8, "kfunc", symbol.name)
        if opcode != 0x18 or at + 16 > len(code):
            raise self._wrong(f"function {function.name!r}: a relocation of an instruction that has none")
        if symbol.section == 0:
            return Reloc(at // 8, "ksym", symbol.name)
        name, addend = self._map_at.get((symbol.section, symbol.value)), 0
        if name is not None:
            made, source = Reloc(at // 8, "map", name), abi.BPF_PSEUDO_MAP_FD
        else:
            name, addend = self._map_at.get((symbol.section, -1)), symbol.value + imm
            if name is None:
                raise self._wrong(f"function {function.name!r} refers to {symbol.name!r}, which is neither map nor data")
            if not 0 <= addend <= self._sections[symbol.section].size:
                raise self._wrong(f"function {function.name!r} points outside of section {self._sections[symbol.section].name}")
            made, source = Reloc(at // 8, "map_value", name, addend), abi.BPF_PSEUDO_MAP_VALUE
        code[at + 1] = code[at + 1] & 0x0F | source << 4
        pack_into("<i", code, at + 4, 0)
        pack_into("<I", code, at + 12, addend)
        return made

    # -- lines

    def _extension(self) -> tuple[dict[int, list[tuple[int, ...]]], dict[int, list[tuple[int, ...]]]]:
        """``.BTF.ext``: section's number -> its records of functions, of lines."""
        section = self._elf.section(".BTF.ext")
        if section is None or self._btf is None:
            return {}, {}
        data = section.data
        if len(data) < 24 or unpack_from("<H", data)[0] != 0xEB9F:
            raise self._wrong("section .BTF.ext has a wrong header")
        header, functions, functions_size, lines, lines_size = unpack_from("<IIIII", data, 4)
        if header >= 32 and len(data) >= 32 and unpack_from("<I", data, 28)[0] and not self._ignore_core:
            raise self._wrong("it was built for another kernel's types (CO-RE), to which harken cannot fit it")
        return self._records(data, header + functions, functions_size, 2), self._records(data, header + lines, lines_size, 4)

    def _records(self, data: memoryview, start: int, size: int, words: int) -> dict[int, list[tuple[int, ...]]]:
        found: dict[int, list[tuple[int, ...]]] = {}
        end = start + size
        if end > len(data):
            raise self._wrong("section .BTF.ext is cut off")
        if size < 4:
            return found
        (each,) = unpack_from("<I", data, start)
        if each < 4 * words or each % 4:
            raise self._wrong(f"section .BTF.ext has records of {each} bytes")
        position = start + 4
        numbers = {section.name: index for index, section in reversed(list(enumerate(self._sections)))}
        while position + 8 <= end:
            name, count = unpack_from("<II", data, position)
            position += 8
            if position + count * each > end:
                raise self._wrong("section .BTF.ext is cut off")
            assert self._btf is not None
            rows = found.setdefault(numbers.get(self._btf._string(name), 0), [])
            rows += [unpack_from(f"<{words}I", data, position + i * each) for i in range(count)]
            position += count * each
        return found
