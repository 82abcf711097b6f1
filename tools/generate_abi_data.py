#!/usr/bin/env python3
"""Extracts names and numbers of the kernel's user ABI from header files into ``tools/abi/*.json``.

This is needed only when the project moves to newer headers; ``tools/generate_abi.py`` makes the Python modules from the
JSON files on any machine, without headers or a compiler.

    python tools/generate_abi_data.py DIR

``DIR`` is an unpacked ``linux-libc-dev`` package of Linux 6.19 or newer (``dpkg -x``), which holds the headers of all
architectures: ``DIR/usr/include`` and ``DIR/usr/lib/linux/uapi/{x86,arm64}``.  Needs gcc (for ``-gbtf``, GCC 12) and bpftool.
Enums, structs and their layouts are read from the BTF of a compiled file that includes the headers; macros are
evaluated by compiling them.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
HEADERS = ("linux/bpf.h", "linux/bpf_common.h", "linux/btf.h", "linux/perf_event.h", "linux/hw_breakpoint.h", "linux/elf.h")
MACROS = re.compile(r"(BPF_|BTF_|PERF_|HW_BREAKPOINT_|MAX_BPF_)\w*$")
#: <elf.h> of the C library knows the GNU extensions, which linux/elf.h does not
ELF_MACROS = re.compile(
    r"(EM|ET|PT|PF_[RWX]$|SHT|SHF|SHN|STB|STT|STV|NT_GNU|ELFCLASS|ELFDATA|ELFOSABI|EV|EI|DT|R_X86_64|R_AARCH64|R_BPF)"
    r"(_\w+|32|64|2LSB|2MSB|NONE|)$"
)
SKIP = re.compile(
    r".*_H_*$|PERF_(MEM_S|.*_SHIFT$)|ELFDATANUM|ELFCLASSNUM|\w+_NUM$|(SHT|PT|DT|SHF|STT|SHN|R)_(MIPS|ALPHA|PARISC|HP|IA_64|ARM|PPC|"
    r"PPC64|SPARC|SUNW|OPENBSD|NIOS2|X86_64_UNWIND|AARCH64|RISCV|CHECKSUM)(_\w+)?$"
)
STRUCTS = (
    "bpf_insn bpf_prog_info bpf_map_info bpf_link_info bpf_btf_info bpf_func_info bpf_line_info bpf_core_relo "
    "bpf_perf_event_value perf_event_attr perf_event_mmap_page perf_event_header elf64_hdr elf64_phdr elf64_shdr elf64_sym "
    "elf64_rela elf32_hdr elf32_phdr elf32_shdr elf32_sym btf_header"
).split()


def compile_btf(root: pathlib.Path, arch: str, text: str) -> list[dict[str, Any]]:
    """The BTF types of a C text, as bpftool's JSON."""
    with tempfile.TemporaryDirectory() as folder:
        source, binary = pathlib.Path(folder, "x.c"), pathlib.Path(folder, "x.o")
        source.write_text(text)
        flags = ["-gbtf", "-fno-eliminate-unused-debug-types", "-nostdinc", *includes(root, arch)]
        subprocess.run(["gcc", *flags, "-c", str(source), "-o", str(binary)], check=True)
        output = subprocess.run(["bpftool", "btf", "dump", "file", str(binary), "-j"], check=True, capture_output=True).stdout
    types: list[dict[str, Any]] = json.loads(output)["types"]
    return types


def includes(root: pathlib.Path, arch: str) -> list[str]:
    return ["-I", str(root / "usr/lib/linux/uapi" / arch), "-I", str(root / "usr/include")]


def macro_names(flags: list[str], headers: tuple[str, ...], wanted: re.Pattern[str]) -> list[str]:
    text = "".join(f"#include <{header}>\n" for header in headers)
    output = subprocess.run(["gcc", "-E", "-dM", *flags, "-x", "c", "-"], input=text, check=True, capture_output=True, text=True).stdout
    names = re.findall(r"^#define (\w+) \S", output, re.M)
    return sorted(name for name in names if wanted.match(name) and not SKIP.match(name))


def other_names(flags: list[str], headers: tuple[str, ...], wanted: re.Pattern[str]) -> list[str]:
    """Identifiers of the preprocessed headers; the enumerators among them have values."""
    text = "".join(f"#include <{header}>\n" for header in headers)
    output = subprocess.run(["gcc", "-E", *flags, "-x", "c", "-"], input=text, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in set(re.findall(r"\b[A-Z]\w+", output)) if wanted.match(name))


def values_of(flags: list[str], headers: tuple[str, ...], names: list[str]) -> dict[str, int]:
    """Values of those names that are integer constants."""
    head = "".join(f"#include <{header}>\n" for header in headers)
    while True:
        text = head + "".join(f"static const unsigned long V_{name} = (unsigned long)({name});\n" for name in names)
        command = ["gcc", "-fsyntax-only", "-w", "-fmax-errors=0", *flags, "-x", "c", "-"]
        errors = subprocess.run(command, input=text, capture_output=True, text=True).stderr
        first = head.count("\n") + 1
        bad = {int(line) - first for line in re.findall(r"^<stdin>:(\d+):\d+: error", errors, re.M)}
        if not bad:
            break
        names = [name for index, name in enumerate(names) if index not in bad]
    body = "".join(f'    {{"{name}", (unsigned long)({name})}},\n' for name in names)
    program = f"#include <stdio.h>\n{head}"
    program += f"static const struct {{ const char *name; unsigned long value; }} table[] = {{\n{body}}};\n"
    program += "int main(void) { for (unsigned i = 0; i < sizeof table / sizeof *table; i++)"
    program += ' printf("%s %lu\\n", table[i].name, table[i].value); }\n'
    with tempfile.TemporaryDirectory() as folder:
        binary = str(pathlib.Path(folder, "x"))
        subprocess.run(["gcc", "-w", *flags, "-x", "c", "-", "-o", binary], input=program, check=True, text=True)
        output = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


class Types:
    """Enums and struct layouts of a BTF dump."""

    def __init__(self, types: list[dict[str, Any]]) -> None:
        self.by_id = {one["id"]: one for one in types}
        self.types = types

    def enums(self) -> dict[str, dict[str, int]]:
        """Named enums by name; the anonymous ones together under ""."""
        found: dict[str, dict[str, int]] = {"": {}}
        for one in self.types:
            if one["kind"] in ("ENUM", "ENUM64"):
                name = "" if one["name"] == "(anon)" else one["name"]
                found.setdefault(name, {}).update({value["name"]: value["val"] for value in one["values"]})
        return {name: dict(sorted(found[name].items(), key=lambda item: (item[1], item[0]))) for name in sorted(found)}

    def layout(self, name: str) -> dict[str, Any]:
        one = next(t for t in self.types if t["kind"] in ("STRUCT", "UNION") and t["name"] == name)
        return {"size": one["size"], "fields": self.fields(one, "", 0)}

    def fields(self, one: dict[str, Any], prefix: str, base: int) -> list[list[Any]]:
        """[name, bit offset, bit size, form] of all leaves; form is "u", "i" (integers), "s<n>" (bytes) or "b" (bit field)."""
        found: list[list[Any]] = []
        for member in one["members"]:
            name = "" if member["name"] == "(anon)" else member["name"]
            offset = base + member["bits_offset"]
            if member.get("bitfield_size"):
                found.append([prefix + name, offset, member["bitfield_size"], "b"])
                continue
            found += self.leaf(member["type_id"], prefix, name, offset)
        return found

    def leaf(self, type_id: int, prefix: str, name: str, offset: int) -> list[list[Any]]:
        one = self.by_id[type_id]
        kind = one["kind"]
        if kind in ("TYPEDEF", "CONST", "VOLATILE"):
            return self.leaf(one["type_id"], prefix, name, offset)
        if kind in ("STRUCT", "UNION"):
            inside = self.fields(one, f"{prefix}{name}." if name else prefix, offset)
            return inside
        if kind == "INT":
            return [[prefix + name, offset, one["size"] * 8, "i" if one["encoding"] == "SIGNED" else "u"]]
        if kind in ("ENUM", "ENUM64"):
            return [[prefix + name, offset, one["size"] * 8, "u"]]
        if kind == "PTR":
            return [[prefix + name, offset, 64, "u"]]
        if kind == "ARRAY":
            size = self.size(one["type_id"]) * one["nr_elems"]
            return [[prefix + name, offset, size * 8, f"s{size}"]]
        raise ValueError(f"unexpected kind {kind}")

    def size(self, type_id: int) -> int:
        one = self.by_id[type_id]
        if one["kind"] in ("TYPEDEF", "CONST", "VOLATILE"):
            return self.size(one["type_id"])
        if one["kind"] == "ARRAY":
            return self.size(one["type_id"]) * int(one["nr_elems"])
        return int(one.get("size", 8))


def commands(types: Types) -> dict[str, Any]:
    """The members of ``union bpf_attr``, one layout per member; anonymous ones are named by their first field."""
    attr = next(t for t in types.types if t["kind"] == "UNION" and t["name"] == "bpf_attr")
    found = {}
    for member in attr["members"]:
        inner = types.by_id[member["type_id"]]
        fields = types.fields(inner, "", 0)
        name = member["name"] if member["name"] != "(anon)" else fields[0][0]
        found[name] = {"size": inner["size"], "fields": fields}
    return found


def syscalls(root: pathlib.Path, arch: str) -> dict[str, int]:
    text = (root / "usr/lib/linux/uapi" / arch / "asm/unistd_64.h").read_text()
    return {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+)\s+(\d+)$", text, re.M)}


def version(root: pathlib.Path) -> str:
    text = (root / "usr/include/linux/version.h").read_text()
    major, minor = (re.search(rf"LINUX_VERSION_{part} (\d+)", text) for part in ("MAJOR", "PATCHLEVEL"))
    assert major and minor
    return f"{major[1]}.{minor[1]}"


def write(name: str, data: dict[str, Any]) -> None:
    """JSON with one line per innermost table, so that diffs of an update can be read."""
    text = json.dumps(data, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    (HERE / "abi").mkdir(exist_ok=True)
    (HERE / "abi" / name).write_text(text + "\n")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    root = pathlib.Path(arguments[0])
    source = f"Linux {version(root)} user API headers"
    types = Types(compile_btf(root, "x86", "".join(f"#include <{header}>\n" for header in HEADERS)))
    flags = includes(root, "x86")
    enums = types.enums()
    known = {name for values in enums.values() for name in values}
    # GCC 12 leaves enumerators out of BTF that do not fit 32 bits
    wide = values_of(flags, HEADERS, [name for name in other_names(flags, HEADERS, MACROS) if name not in known])
    data: dict[str, Any] = {
        "source": source,
        "enums": enums,
        "wide": wide,
        "macros": values_of(flags, HEADERS, macro_names(flags, HEADERS, MACROS)),
        "elf": values_of([], ("elf.h",), macro_names([], ("elf.h",), ELF_MACROS)),
        "structs": {name: types.layout(name) for name in STRUCTS},
        "bpf_attr": commands(types),
    }
    write("uapi.json", data)
    for arch, machine, struct in (("x86", "x86_64", "pt_regs"), ("arm64", "aarch64", "user_pt_regs")):
        text = "#include <asm/ptrace.h>\n#include <asm/perf_regs.h>\n"
        registers = Types(compile_btf(root, arch, text.replace("asm/", str(root / f"usr/lib/linux/uapi/{arch}/asm") + "/")))
        perf = next(values for name, values in registers.enums().items() if name.endswith("_regs") and name.startswith("perf_event"))
        write(
            f"{machine}.json",
            {"source": source, "pt_regs": registers.layout(struct), "perf_regs": perf, "syscalls": syscalls(root, arch)},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
