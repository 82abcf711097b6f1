"""BPF object files: a Spec as a relocatable ELF file that libbpf's loaders take, and back.

The layout is the one that clang and libbpf agreed on: a section per kind of program (``formats.bpf_sections``), subprograms in ``.text``,
maps as variables of ``.maps`` whose BTF types say what they are, read-only and writable data in ``.rodata*`` and ``.data*``, ``license``,
``.BTF`` and ``.BTF.ext`` with names of functions and source lines, relocations that name maps and functions.  So ``bpftool prog load``,
``llvm-objdump`` and everything on top of libbpf read what harken builds, and harken reads what clang built for this kernel's types
(objects with CO-RE relocations are refused).

What the user asked for beyond that (which attacher, an event's layout) is not in the object.

References: Documentation/bpf/libbpf, Documentation/bpf/llvm_reloc.rst, Documentation/bpf/btf.rst (".BTF.ext").

Example:
    >>> from harken.formats.insn import R0, encode, exit_, mov64
    >>> from harken.formats.spec import ProgramSpec
    >>> spec = Spec(programs=(ProgramSpec("probe", 5, encode([mov64(R0, imm=0), exit_()])),))
    >>> read(write(spec)).programs[0].name
    'probe'
"""

from __future__ import annotations

from struct import iter_unpack, pack, pack_into

from ..abi import bpf as abi
from ..base.errors import FormatError
from .bpf_object_read import read
from .bpf_sections import name as section_name
from .btf_types import TypeWriter
from .elf_writer import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, STT_FUNC, STT_NOTYPE, STT_OBJECT, STT_SECTION, ElfWriter
from .spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import MapSpec, ProgramSpec, Reloc

__all__ = ("functions_of", "read", "write")

EM_BPF = 247
_R_64_64, _R_64_32 = 1, 10
_PSEUDO_CALL, _PSEUDO_FUNC = 1, 4


def write(spec: Spec) -> bytes:
    """A Spec as an object file.

    Raises:
        FormatError: it holds what an object cannot: programs for which libbpf has no section, maps with contents that are not data.
    """
    return _Writer(spec).build()


def functions_of(program: ProgramSpec) -> list[int]:
    """The slots where a program's functions begin, by what calls or points to them and by func_info; the entry (0) first."""
    starts = {0}
    starts.update([slot for slot, _ in iter_unpack("<II", program.func_info)])
    for slot, (code, registers, _, imm) in enumerate(iter_unpack("<BBhi", program.insns)):
        source = registers >> 4
        if (code == 0x85 and source == _PSEUDO_CALL) or (code == 0x18 and source == _PSEUDO_FUNC):
            starts.add(slot + 1 + imm)
    return sorted(starts)


class _Writer:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._elf = ElfWriter(EM_BPF)
        self._types = TypeWriter(spec.btf)
        self._symbols: dict[str, int] = {}
        self._data = {map.name: map for map in spec.maps if _is_data(map)}
        #: section's name -> its code, its records of functions and of lines
        self._code: dict[str, bytearray] = {}
        self._functions: dict[str, list[tuple[int, int]]] = {}
        self._lines: dict[str, list[tuple[int, int, int, int]]] = {}
        #: (section, byte offset, what it refers to, relocation type)
        self._relocs: list[tuple[str, int, str, int]] = []
        #: (symbol, section, offset, size, local)
        self._places: list[tuple[str, str, int, int, bool]] = []

    def build(self) -> bytes:
        for program in self._spec.programs:
            self._program(program)
        sections: dict[str, int] = {}
        for name in sorted(self._code, key=lambda name: name != ".text"):
            sections[name] = self._elf.section(name, bytes(self._code[name]), flags=SHF_ALLOC | SHF_EXECINSTR, align=8)
        if ".text" in sections:
            # static functions are referred to by their section, and where in it they are stands in the instruction
            self._symbols[".text"] = self._elf.symbol("", sections[".text"], 0, 0, STT_SECTION, True)
        for symbol, section, offset, size, local in self._places:
            self._symbols[symbol] = self._elf.symbol(symbol, sections[section], offset, size, STT_FUNC, local)
        self._maps()
        licenses = {program.license for program in self._spec.programs} or {"GPL"}
        if len(licenses) > 1:
            raise FormatError("BPF object", f"an object has one licence; these programs have {', '.join(sorted(licenses))}")
        license = licenses.pop().encode() + b"\0"
        where = self._elf.section("license", license, flags=SHF_ALLOC | SHF_WRITE)
        self._elf.symbol("_license", where, 0, len(license), STT_OBJECT)
        self._elf.section(".BTF", self._types.data(), align=4)
        # the names of sections are strings of .BTF, so they went into it before
        self._elf.section(".BTF.ext", self._extension, align=4)
        for section, offset, symbol, kind in self._relocs:
            token = self._symbols.get(symbol)
            if token is None:  # of the kernel
                token = self._symbols[symbol] = self._elf.symbol(symbol, 0, 0, 0, STT_NOTYPE)
            self._elf.reloc(sections[section], offset, token, kind)
        return self._elf.build()

    # -- programs

    def _program(self, program: ProgramSpec) -> None:
        probe = program.attach[0].probe if program.attach else ""
        sleepable = bool(program.flags & abi.BPF_F_SLEEPABLE)
        section = section_name(program.type, program.expected_attach_type, probe, program.attach_function, sleepable)
        if not section:
            raise FormatError("BPF object", f"there is no section for a program of type {program.type} ({program.name!r})")
        starts = functions_of(program)
        ends = [*starts[1:], len(program.insns) // 8]
        names = {0: program.name}
        placed: dict[int, tuple[str, int]] = {}
        for start, end in zip(starts, ends):
            where = section if start == 0 else ".text"
            code = self._code.setdefault(where, bytearray())
            placed[start] = (where, len(code) // 8)
            names.setdefault(start, f"{program.name}.{start}")
            self._places.append((names[start], where, len(code), 8 * (end - start), start != 0))
            code += program.insns[8 * start : 8 * end]
        relocs = {reloc.insn: reloc for reloc in program.relocs}
        for start, end in zip(starts, ends):
            where, first = placed[start]
            self._function(program, where, first - start, range(start, end), placed, relocs)
        for slot, type in iter_unpack("<II", program.func_info):
            if slot in placed:
                where, first = placed[slot]
                self._functions.setdefault(where, []).append((8 * first, type))
        for slot, file, line, place in iter_unpack("<IIII", program.line_info):
            start = max(s for s in starts if s <= slot)
            where, first = placed[start]
            self._lines.setdefault(where, []).append((8 * (first + slot - start), file, line, place))

    def _function(
        self, program: ProgramSpec, where: str, shift: int, slots: range, placed: dict[int, tuple[str, int]], relocs: dict[int, Reloc]
    ) -> None:
        """Takes out of a function's instructions what the loader puts in, and asks for it by relocations."""
        code = self._code[where]
        for slot in slots:
            at = 8 * (slot + shift)
            opcode, source = code[at], code[at + 1] >> 4
            target = int.from_bytes(code[at + 4 : at + 8], "little", signed=True) + slot + 1
            if opcode == 0x85 and source == _PSEUDO_CALL:
                pack_into("<i", code, at + 4, placed[target][1] - 1)
                self._relocs.append((where, at, placed[target][0], _R_64_32))
            elif opcode == 0x18 and source == _PSEUDO_FUNC:
                pack_into("<i", code, at + 4, 8 * placed[target][1])
                self._relocs.append((where, at, placed[target][0], _R_64_64))
            reloc = relocs.get(slot)
            if reloc is None:
                continue
            symbol, kind, addend = reloc.symbol, reloc.kind, reloc.addend
            if kind == "kfunc":
                code[at + 1] = code[at + 1] & 0x0F | _PSEUDO_CALL << 4
                pack_into("<i", code, at + 4, -1)
                self._relocs.append((where, at, symbol, _R_64_32))
                continue
            if kind == "map_value" and symbol not in self._data:
                raise FormatError("BPF object", f"program {program.name!r} points into the map {symbol!r}, which an object cannot say")
            code[at + 1] &= 0x0F
            pack_into("<i", code, at + 4, addend)
            pack_into("<i", code, at + 12, 0)
            self._relocs.append((where, at, symbol, _R_64_64))

    @property
    def _extension(self) -> bytes:
        """``.BTF.ext``: header, functions, lines."""
        parts = []
        for size, records in ((8, self._functions), (16, self._lines)):
            part = pack("<I", size) if records else b""
            for section, rows in records.items():
                part += pack("<II", self._types.string(section), len(rows))
                part += b"".join([pack(f"<{size // 4}I", *row) for row in sorted(rows)])
            parts.append(part)
        functions, lines = parts
        return pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(functions), len(functions), len(lines)) + functions + lines

    # -- maps

    def _maps(self) -> None:
        variables, offset = [], 0
        symbols = []
        for map in self._spec.maps:
            if map.name in self._data:
                self._data_section(map)
                continue
            if map.contents:
                raise FormatError(
                    "BPF object", f"the map {map.name!r} has contents; an object can only have such data in arrays of one element"
                )
            type, size = self._definition(map)
            variables.append((self._types.variable(map.name, type), offset, size))
            symbols.append((map.name, offset, size))
            offset += size
        if not variables:
            # the strings of .BTF.ext must be in .BTF before that is written
            self._name_sections()
            return
        self._types.section(".maps", offset, variables)
        self._name_sections()
        section = self._elf.section(".maps", bytes(offset), flags=SHF_ALLOC | SHF_WRITE, align=8)
        for name, place, size in symbols:
            self._symbols[name] = self._elf.symbol(name, section, place, size, STT_OBJECT)

    def _name_sections(self) -> None:
        for records in (self._functions, self._lines):
            for name in records:
                self._types.string(name)

    def _data_section(self, map: MapSpec) -> None:
        data = map.contents[0][1] if map.contents else bytes(map.value_size)
        prefix = ".rodata" if map.flags & abi.BPF_F_RDONLY_PROG else ".data"
        name = map.name if map.name.startswith(prefix) else f"{prefix}.{map.name}"
        section = self._elf.section(name, data, flags=SHF_ALLOC | (0 if prefix == ".rodata" else SHF_WRITE), align=8)
        self._symbols[map.name] = self._elf.symbol(map.name, section, 0, len(data), STT_OBJECT)

    def _definition(self, map: MapSpec) -> tuple[int, int]:
        """The struct type that defines a map, and its size: ``int (*type)[N]`` for numbers, pointers for the types of key and value."""
        fields: list[tuple[str, int]] = [("type", self._number(map.type))]
        if map.key_type:
            fields.append(("key", self._types.pointer(map.key_type)))
        elif map.key_size:
            fields.append(("key_size", self._number(map.key_size)))
        if map.value_type:
            fields.append(("value", self._types.pointer(map.value_type)))
        elif map.value_size and map.inner is None:
            fields.append(("value_size", self._number(map.value_size)))
        if map.max_entries:
            fields.append(("max_entries", self._number(map.max_entries)))
        if map.flags:
            fields.append(("map_flags", self._number(map.flags)))
        size = 8 * len(fields)
        members = [(name, type, 8 * place) for place, (name, type) in enumerate(fields)]
        if map.inner is not None:
            inner, _ = self._definition(map.inner)
            members.append(("values", self._types.array(self._types.pointer(inner), 0), size))
        return self._types.members(size, members), size

    def _number(self, value: int) -> int:
        from ..base.ctype import Int

        return self._types.pointer(self._types.array(self._types.ctype(Int("int", 4, True)), value))


def _is_data(map: MapSpec) -> bool:
    """Whether a map is what a section of data becomes: an array of one element with contents of its own, or constants."""
    return map.type == abi.BPF_MAP_TYPE_ARRAY and map.max_entries == 1 and map.key_size == 4 and (bool(map.contents) or map.frozen)
