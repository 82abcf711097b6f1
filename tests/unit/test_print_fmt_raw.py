"""``report -R``: fields with the conversions of the print format, as libtraceevent 1.7 has it."""

import struct

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.print_fmt_raw import raw_renderer

FIELDS = (
    "\tfield:int cpu;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:unsigned long ino;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:char name[4];\toffset:24;\tsize:4;\tsigned:0;\n\tfield:u16 mode;\toffset:28;\tsize:2;\tsigned:0;\n"
)
RECORD = bytes(8) + struct.pack("<i4xQ4sH", 3, 0x2A, b"abc", 0o644)


def shown(print_fmt, record=RECORD):
    event = parse(f"name: x\nID: 7\nformat:\n{FIELDS}\nprint fmt: {print_fmt}\n")
    return raw_renderer(event, Env(dialect="trace-cmd-3.1"))(record)


def test_conversions_of_the_print_format():
    assert shown('"%03d ino %lx mode 0%o", REC->cpu, (unsigned long) REC->ino, REC->mode') == " cpu=003 ino=2a name=abc mode=644"
    assert shown('"cpu=0x%x ino=0x%lx", REC->cpu, REC->ino') == " cpu=0x3 ino=0x2a name=abc mode=420"


def test_what_is_more_than_a_field_is_printed_by_its_type():
    assert shown('"%d %s", REC->cpu + 1, __print_flags(REC->mode, "|", { 4, "r" })') == " cpu=3 ino=0x2a name=abc mode=420"


def test_behind_the_last_conversion_nothing_is_looked_up():
    assert shown('"%lu %04d", REC->ino, REC->cpu') == " cpu=0003 ino=0x2a name=abc mode=420"
    assert shown('"%lu %04d.", REC->ino, REC->cpu') == " cpu=0003 ino=42 name=abc mode=420"


def test_formats_that_cannot_be_parsed():
    assert shown('"%d", nothing(((') == " cpu=3 ino=0x2a name=abc mode=420"
    assert shown('"no fields"') == " cpu=3 ino=0x2a name=abc mode=420"
