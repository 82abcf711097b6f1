"""LLVM's object file to our program: one section, its relocations, the functions in it."""

from __future__ import annotations

import struct

from ....base.errors import HarkenError
from ....formats.spec import Reloc
from ...ir import Function
from ...passes.legalise import RODATA
from ...passes.stack import Placement
from ...target import Target
from ..bpf.emit import Linked
from .text import DATA, KFUNC, KSYM, MAP, RODATA_SYMBOL, SECTION, module_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ....base.diagnostics import Span

__all__ = ("generate", "compile_text")

_SHT_SYMTAB, _SHT_REL = 2, 9
_LD_IMM64, _CALL = 0x18, 0x85


def compile_text(text: str, target: Target) -> bytes:
    """LLVM assembly to an optimised BPF object file."""
    try:
        from llvmlite import binding
    except ImportError as error:
        raise HarkenError("the LLVM back end is not installed", "pip install harken[llvm]") from error
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = binding.Target.from_triple("bpfel")
    cpu = "v4" if target.has("cpu_v4") else "v3" if target.has("jmp32") and target.has("atomic_fetch") else "v2"
    machine = triple.create_target_machine(cpu=cpu, opt=2)
    module = binding.parse_assembly(text)
    module.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def generate(functions: Sequence[tuple[Function, Placement]], target: Target) -> Linked:
    """One program from legal functions, the entry first."""
    data = compile_text(module_text(functions, target), target)
    return _link(data, [function.name for function, _ in functions], functions[0][0].span)


def _link(data: bytes, names: list[str], span: Span | None) -> Linked:
    sections = _sections(data)
    index = next(i for i, s in enumerate(sections) if s["name"] == SECTION)
    code = bytearray(sections[index]["data"])
    symtab = next(s for s in sections if s["type"] == _SHT_SYMTAB)
    strings = sections[symtab["link"]]["data"]
    symbols = []
    for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", symtab["data"]):
        symbols.append((strings[name : strings.index(b"\0", name)].decode(), info & 15, section, value, size))
    starts = {name: value // 8 for name, _, section, value, _ in symbols if section == index and name in names}
    relocs: list[Reloc] = []
    for section in sections:
        if section["type"] != _SHT_REL or section["info"] != index:
            continue
        for offset, info in struct.iter_unpack("<QQ", section["data"]):
            name, _, where, value, _ = symbols[info >> 32]
            slot = offset // 8
            low, high = struct.unpack_from("<i", code, offset + 4)[0], 0
            wide = code[offset] == _LD_IMM64
            if wide:
                high = struct.unpack_from("<i", code, offset + 12)[0]
            addend = (low & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32
            if where == index:
                # within the section: a call counts in slots from the next one, a callback's address is relative alike
                to = value // 8 + (addend // 8 if wide else low + 1)
                struct.pack_into("<i", code, offset + 4, to - slot - 1)
                if wide:
                    code[offset + 1] = code[offset + 1] & 0x0F | 4 << 4
                    struct.pack_into("<i", code, offset + 12, 0)
                else:
                    code[offset + 1] = 1 << 4
                continue
            if name.startswith(MAP):
                relocs.append(Reloc(slot, "map", name[len(MAP) :]))
                code[offset + 1] = code[offset + 1] & 0x0F | 1 << 4
            elif name == RODATA_SYMBOL or name.startswith(DATA):
                relocs.append(Reloc(slot, "map_value", RODATA if name == RODATA_SYMBOL else name[len(DATA) :], addend))
                code[offset + 1] = code[offset + 1] & 0x0F | 2 << 4
                struct.pack_into("<i", code, offset + 4, 0)
                struct.pack_into("<i", code, offset + 12, low)
            elif name.startswith(KSYM):
                relocs.append(Reloc(slot, "ksym", name[len(KSYM) :]))
                code[offset + 1] = code[offset + 1] & 0x0F | 3 << 4
            elif name.startswith(KFUNC):
                relocs.append(Reloc(slot, "kfunc", name[len(KFUNC) :]))
                code[offset + 1] = 2 << 4
            else:
                raise HarkenError(f"LLVM made a reference to {name!r}")
    ordered = sorted(starts.items(), key=lambda item: item[1])
    return Linked(
        bytes(code), tuple(relocs), [(start, name) for name, start in ordered], [(start, span) for _, start in ordered], len(code) // 8
    )


def _sections(data: bytes) -> list[dict[str, Any]]:
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    out: list[dict[str, Any]] = []
    for i in range(count):
        name, kind, _, _, start, length, link, info, _, _ = struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size)
        out.append({"name": name, "type": kind, "data": data[start : start + length], "link": link, "info": info})
    strings = out[names]["data"]
    for section in out:
        start = section["name"]
        section["name"] = strings[start : strings.index(b"\0", start)].decode()
    return out
