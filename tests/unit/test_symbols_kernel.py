"""symbols.kernel_symbols: the index, its cache, symbols that come and go, refusals."""

from __future__ import annotations

import random

import pytest

from harken.base.errors import ProbeError
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.kernel_symbols_index import KallsymsIndex, build
from harken.testing.fake_kernel import FakeKernel

BOOT = "/proc/sys/kernel/random/boot_id"
TEXT = b"""0000000000000000 A fixed_percpu_data
0000000000001000 A cpu_number
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 t do_nothing
ffffffff81000100 t show
ffffffff81000200 T vfs_read
ffffffff81000300 t show
ffffffff82000000 D jiffies
ffffffffc0100000 t init\t[ext4]
ffffffffc0100080 t ext4_read\t[ext4]
ffffffffc0200000 t init\t[xfs]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path))


def test_names_offsets_and_modules():
    symbols = KernelSymbols(None, TEXT)
    assert symbols.resolve(0xFFFFFFFF81000210).label == "vfs_read+0x10"
    assert symbols.resolve(0xFFFFFFFF81000210).module == "[kernel.kallsyms]"
    frame = symbols.resolve(0xFFFFFFFFC0100084)
    assert (frame.name, frame.offset, frame.module, frame.kind, frame.start) == ("ext4_read", 4, "[ext4]", "kernel", 0xFFFFFFFFC0100080)
    assert symbols.resolve(0x1004).name == "", "per-CPU offsets are no addresses"
    assert symbols.resolve(0xFFFFFFFF80000000).name == ""


def test_the_alias_that_perf_shows():
    assert KernelSymbols(None, TEXT).resolve(0xFFFFFFFF81000004).name == "do_nothing"


def test_the_last_of_a_module_ends_with_the_page():
    symbols = KernelSymbols(None, TEXT)
    assert symbols.resolve(0xFFFFFFFFC0101FFF).label == "ext4_read+0x1f7f"
    assert symbols.resolve(0xFFFFFFFFC0102000).name == ""
    assert symbols.resolve(0xFFFFFFFFC0200FFF).name == "init"
    assert symbols.resolve(0xFFFFFFFFC0201000).name == ""


def test_duplicates_are_refused_aloud():
    symbols = KernelSymbols(None, TEXT)
    assert symbols.address("vfs_read") == 0xFFFFFFFF81000200
    with pytest.raises(ProbeError, match=r"2 kernel symbols are called show .*0xffffffff81000100") as error:
        symbols.address("show")
    assert "address" in error.value.hint
    with pytest.raises(ProbeError, match="2 kernel symbols are called init") as error:
        symbols.address("init")
    assert "module" in error.value.hint
    assert symbols.address("init", "xfs") == 0xFFFFFFFFC0200000
    with pytest.raises(ProbeError, match="no symbol vfs_reed"):
        symbols.address("vfs_reed")


def test_hidden_addresses_are_told():
    symbols = KernelSymbols(None, b"0000000000000000 T _stext\n0000000000000000 T vfs_read\n")
    assert symbols.hidden and symbols.resolve(0xFFFFFFFF81000210).name == ""
    with pytest.raises(ProbeError, match="hidden") as error:
        symbols.address("vfs_read")
    assert "kptr_restrict" in error.value.hint
    assert KernelSymbols(None, b"").hidden and not KernelSymbols(None, TEXT).hidden


def live(text=TEXT, boot="b1", modules="ext4 1 0 - Live 0xffffffffc0100000\n"):
    return FakeKernel({"/proc/kallsyms": text, BOOT: boot + "\n", "/proc/modules": modules})


class Counting(FakeKernel):
    """Counts whole reads of kallsyms."""

    whole = 0

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        if path == "/proc/kallsyms" and limit > 1 << 20:
            self.whole += 1
        return super().read(path, limit)


def test_the_second_start_reads_nothing_whole():
    kernel = Counting({"/proc/kallsyms": TEXT, BOOT: "b1\n", "/proc/modules": "a 1 0 - Live 0x1\n"})
    assert KernelSymbols(kernel).resolve(0xFFFFFFFF81000200).name == "vfs_read" and kernel.whole == 1
    symbols = KernelSymbols(kernel)
    assert symbols.resolve(0xFFFFFFFF81000200).name == "vfs_read"
    assert symbols.address("vfs_read") == 0xFFFFFFFF81000200
    assert kernel.whole == 1
    kernel.files["/proc/modules"] = b"a 1 0 - Live 0x1\nb 1 0 - Live 0x2\n"
    assert KernelSymbols(kernel).resolve(0xFFFFFFFF81000200).name == "vfs_read" and kernel.whole == 2, "other modules"
    kernel.files[BOOT] = b"b2\n"
    assert KernelSymbols(kernel).resolve(0xFFFFFFFF81000200).name == "vfs_read" and kernel.whole == 3, "another boot"


def test_a_cached_index_does_not_tell_what_the_kernel_hides_now():
    kernel = live()
    assert KernelSymbols(kernel).resolve(0xFFFFFFFF81000200).name == "vfs_read"
    kernel.files["/proc/kallsyms"] = b"\n".join(b"0" * 16 + line[16:] for line in TEXT.split(b"\n") if line) + b"\n"
    symbols = KernelSymbols(kernel)
    assert symbols.hidden and symbols.resolve(0xFFFFFFFF81000200).name == ""


def test_programs_that_come_later_are_found_and_not_cached():
    kernel = Counting({"/proc/kallsyms": TEXT, BOOT: "b1\n", "/proc/modules": ""})
    symbols = KernelSymbols(kernel)
    assert symbols.resolve(0xFFFFFFFFC0300004).name == ""
    kernel.files["/proc/kallsyms"] = TEXT + b"ffffffffc0300000 t bpf_prog_6deef7357e7b4530_probe\t[bpf]\n"
    other = KernelSymbols(kernel)
    frame = other.resolve(0xFFFFFFFFC0300004)
    assert (frame.name, frame.offset, frame.module) == ("bpf_prog_6deef7357e7b4530_probe", 4, "[bpf]")
    assert other.address("bpf_prog_6deef7357e7b4530_probe") == 0xFFFFFFFFC0300000
    kernel.files["/proc/kallsyms"] = TEXT
    assert KernelSymbols(kernel).resolve(0xFFFFFFFFC0300004).name == "", "gone"
    before = kernel.whole
    many = KernelSymbols(kernel)
    for address in range(0xFFFFFFFFC0300000, 0xFFFFFFFFC0300400, 16):
        many.resolve(address)
    assert kernel.whole - before <= 2, "unknown addresses do not make it read again and again"
    assert KernelSymbols(kernel, look_again=False).resolve(0xFFFFFFFFC0300004).name == ""


def test_a_name_that_nothing_new_can_have_is_not_looked_for_again(monkeypatch):
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr("harken.symbols.kernel_symbols.time.monotonic", lambda: next(clock))
    kernel = Counting({"/proc/kallsyms": TEXT, BOOT: "b1\n", "/proc/modules": ""})
    symbols = KernelSymbols(kernel)
    assert symbols.addresses("vfs_read") and symbols.addresses("gone_since_6_5") == [] and kernel.whole == 1
    assert symbols.addresses("bpf_prog_1234") == [] and kernel.whole == 2, "programs come at any time"
    kernel.files["/proc/modules"] = b"late 1 0 - Live 0x1\n"
    kernel.files["/proc/kallsyms"] = TEXT + b"ffffffffc0400000 t of_a_module\t[late]\n"
    assert symbols.addresses("of_a_module") == [0xFFFFFFFFC0400000] and kernel.whole == 3


def test_symbols_of_recordings_come_and_go():
    symbols = KernelSymbols(None, TEXT)
    symbols.add(0xFFFFFFFF81000240, 0x20, "bpf_prog_1", "bpf")
    got = [symbols.resolve(0xFFFFFFFF81000000 + low).name for low in (0x230, 0x240, 0x25F, 0x260)]
    assert got == ["vfs_read", "bpf_prog_1", "bpf_prog_1", "vfs_read"]
    addresses = [0xFFFFFFFF81000230, 0xFFFFFFFF81000245, 0xFFFFFFFF81000261]
    assert [span.name for span in symbols.spans(addresses)] == ["vfs_read", "bpf_prog_1", "vfs_read"]
    symbols.remove(0xFFFFFFFF81000240)
    assert symbols.resolve(0xFFFFFFFF81000245).name == "vfs_read"


def test_many_at_once_agree_with_one_at_a_time():
    random.seed(3)
    starts = sorted(random.sample(range(0xFFFFFFFF81000000, 0xFFFFFFFF81100000, 16), 500))
    text = b"".join(b"%016x t f%d\n" % (start, number) for number, start in enumerate(starts))
    symbols = KernelSymbols(None, text)
    addresses = [random.randrange(0xFFFFFFFF80FFFFF0, 0xFFFFFFFF81101000) for _ in range(3000)]
    one = [KernelSymbols(None, text).resolve(address) for address in addresses[:50]]
    frames = symbols.resolve_many(addresses)
    assert frames[:50] == one
    for address, frame, span in zip(addresses, frames, symbols.spans(addresses)):
        below = [start for start in starts if start <= address]
        assert frame.address == address and span.start <= address < span.end
        assert frame.name == span.name
        if below and frame.name:
            assert frame.name == f"f{starts.index(below[-1])}" and frame.offset == address - below[-1]
    ordered = sorted(addresses)
    place = 0
    for end, span in symbols.runs(ordered):
        assert all(span.start <= address < span.end for address in ordered[place:end]) and end > place
        place = end
    assert place == len(ordered)


def test_rubbish_is_left_out():
    text = b"\n\nrubbish\nffffffff81000000\nzz T x\nffffffff81000000 T good\nffffffff81000010 T \nffffffff8100002000 T wide\n"
    text += b"c1000000 T short\n"
    index = KallsymsIndex(build(text)[0])
    assert [entry[0] for entry in index.symbols()] == ["short", "good"]
    assert index.named("good\0") == [] and index.named("") == []
    for wrong in (b"", b"x" * 100, build(text)[0][:-1], build(text)[0] + b"x"):
        with pytest.raises(ValueError):
            KallsymsIndex(wrong)
