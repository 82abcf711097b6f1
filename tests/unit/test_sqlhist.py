"""SQL to histogram triggers and synthetic events; the expected commands are those of trace-cmd 3.4."""

import re

import pytest

from harken.base.diagnostics import Source
from harken.base.errors import SourceError
from harken.formats.event_format import parse as parse_format
from harken.languages.sqlhist.build import build
from harken.languages.sqlhist.parse import parse

WAKING = "char comm[16] 8 16 0;pid_t pid 24 4 1;int prio 28 4 1;int target_cpu 32 4 1"
SWITCH = (
    "char prev_comm[16] 8 16 0;pid_t prev_pid 24 4 1;int prev_prio 28 4 1;long prev_state 32 8 1;char next_comm[16] 40 16 0;"
    "pid_t next_pid 56 4 1;int next_prio 60 4 1"
)
EVENTS = {
    ("sched", "sched_waking"): WAKING,
    ("sched", "sched_switch"): SWITCH,
    ("sched", "sched_process_exec"): "__data_loc char[] filename 8 4 0;pid_t pid 12 4 1",
    ("raw_syscalls", "sys_enter"): "long id 8 8 1;unsigned long args[6] 16 48 0",
    ("kmem", "kmalloc"): "unsigned long call_site 8 8 0;size_t bytes_req 16 8 0;const void * ptr 24 8 0",
}
JOIN = "from sched_waking as start join sched_switch as end on start.pid = end.next_pid"
LATENCY = f"SELECT start.pid, (end.TIMESTAMP_USECS - start.TIMESTAMP_USECS) AS lat {JOIN}"


def find(system, name):
    for (category, event), fields in EVENTS.items():
        if event == name and system in ("", category):
            lines = [
                "field:unsigned short common_type 0 2 0",
                "field:int common_pid 4 4 1",
                *[f"field:{text}" for text in fields.split(";")],
            ]
            rows = [re.sub(r" (\d+) (\d+) (\d+)$", r";\toffset:\1;\tsize:\2;\tsigned:\3;", line) for line in lines]
            text = "\n\t".join(rows[:2]) + "\n\n\t" + "\n\t".join(rows[2:])
            return parse_format(f'name: {event}\nID: 1\nformat:\n\t{text}\n\nprint fmt: ""\n', category)
    return None


def made(text, **more):
    return build(parse(Source("sql", text)), find, number=7, **more)


@pytest.mark.parametrize(
    "text, trigger",
    [
        ("SELECT pid, comm FROM sched_waking", "hist:keys=pid,comm"),
        ("select CAST(common_pid AS comm), CAST(id AS SYSCALL) FROM sys_enter", "hist:keys=common_pid.execname,id.syscall"),
        ("select cast(pid as log), CAST(prio AS _COUNTER_) from sched.sched_waking", "hist:keys=pid.log2:vals=prio"),
        ("select cast(bytes_req as buckets=50), cast(call_site as sym-offset) from kmalloc",
         "hist:keys=bytes_req.buckets=50,call_site.sym-offset"),
        ('select comm from sched_waking where comm ~ "a*"', 'hist:keys=comm if comm~"a*"'),
        (
            'select pid from sched_waking where pid & 3 && !(prio != 4) && comm == "x"',
            'hist:keys=pid if pid & 3&&(!(prio != 4))&&(comm == "x")',
        ),
        ("select pid from sched_waking where !pid = -4 , prio = 0x10 || pid == 4", "hist:keys=pid if !(pid == -4)&&(prio == 16||pid == 4)"),
    ],
)  # fmt: skip
def test_histograms(text, trigger):
    built = made(text)
    assert built.start[2] == trigger and built.end is None and built.fields == ""


def test_a_latency():
    built = made(LATENCY + " where start.prio < 100 && (!(end.prev_pid < 1 || end.prev_prio > 100) || end.prev_pid == 0)", name="lat")
    assert (built.name, built.fields) == ("lat", "pid_t pid; u64 lat;")
    assert built.start == ("sched", "sched_waking", "hist:keys=pid:__arg_7_2=pid,__arg_7_3=common_timestamp.usecs if prio < 100")
    assert built.end == (
        "sched",
        "sched_switch",
        "hist:keys=next_pid:__pid_7_1=$__arg_7_2,__lat_7_4=common_timestamp.usecs-$__arg_7_3:onmatch(sched.sched_waking)"
        ".trace(lat,$__pid_7_1,$__lat_7_4) if (!(prev_pid < 1||prev_prio > 100)||prev_pid == 0)",
    )


def test_fields_have_types():
    assert made(f"select start.comm as who, end.prev_state, start.target_cpu as c, end.prev_pid as p {JOIN}").fields == (
        "char who[16]; s64 prev_state; s32 c; pid_t p;"
    )
    text = "select a.filename, b.prev_comm as c, a.STACKTRACE as st from sched_process_exec a join sched_switch b on a.pid = b.prev_pid"
    assert made(text).fields == "char filename[]; char c[16]; unsigned long[] st;"


def test_calculations_in_both_directions():
    assert "=next_prio-$__arg_7_1:" in made(f"select end.next_prio - start.prio as d {JOIN}").end[2]
    assert "=$__arg_7_1-next_prio:" in made(f"select start.prio - end.next_prio as d {JOIN}").end[2]
    assert "=next_prio+$__arg_7_1:" in made(f"select (start.prio + end.next_prio) as d {JOIN}").end[2]


def test_actions_at_maxima_and_changes():
    end = made(LATENCY, handler="onmax", variable="lat").end[2]
    assert end.endswith(":onmax($__lat_7_4).trace(Anonymous,$__pid_7_1,$__lat_7_4)")
    end = made(LATENCY, handler="onchange", variable="lat", snapshot=True).end[2]
    assert end.endswith(":onchange($__lat_7_4).snapshot()") and ".trace(" not in end
    end = made(LATENCY, handler="onmax", variable="lat", save=("next_comm", "next_prio"), snapshot=True, trace=True, new_trace=False).end[2]
    actions = ":onmax($__lat_7_4).save(next_comm,next_prio):onmax($__lat_7_4).Anonymous($__pid_7_1,$__lat_7_4):onmax($__lat_7_4).snapshot()"
    assert end.endswith(actions)


@pytest.mark.parametrize(
    "text, message, place",
    [
        ("select pid from nope", "event not found", "nope"),
        ("select foo from sched_waking", "Field 'foo' not part of event sched_waking", "foo"),
        ("select pid frm sched_waking", "FROM should be", "sched_waking"),
        ("select from nothing", "FROM stands where a field should be", "from"),
        ("select pid; from x", "';' has no meaning", ";"),
        ("select pid from sched_waking join", "the statement ends", ""),
        (f"select start.pid {JOIN} where start.prio < 100 || end.prev_prio < 100", "can not be grouped", "end.prev_prio < 100"),
        (f"select start.pid {JOIN[:-8]}next_comm", "is not compatible to match", "start.pid = end.next_comm"),
        (f"select start.pid {JOIN[:-12]}start.prio", "must be a field for each event", "start.pid = start.prio"),
        (f"select (end.next_prio - start.prio) {JOIN}", "must be labeled", "end.next_prio - start.prio"),
        (f"select (end.next_prio - end.prev_prio) as d {JOIN}", "a field of each event", "end.next_prio - end.prev_prio"),
        (f"select pid {JOIN}", "does not say of which event", "pid"),
        (f"select cast(start.pid as hex) {JOIN}", "CAST is for histograms", "hex"),
        ("select cast(pid as foo) from sched_waking", "unknown type 'foo'", "foo"),
        ("select cast(comm as hex) from sched_waking", "is of type string", "hex"),
        ("select cast(pid as comm) from sched_waking", "only allowed for common_pid", "comm"),
        ("select cast(pid as buckets) from sched_waking", "must have '=[number]'", "buckets"),
        ("select cast(pid as _COUNTER_) from sched_waking", "Not all SELECT items", "pid"),
        ("select pid - prio from sched_waking", "do not allow comparisons", "pid - prio"),
        ('select pid from sched_waking where comm < "x"', "is not compatible to be compared", 'comm < "x"'),
        ("select pid from sched_waking where pid ~ 3", "a text in double quotes should be", "3"),
        ("select pid from sched_waking where " + "(" * 200 + "pid = 1" + ")" * 200, "nested more than", "("),
    ],
)  # fmt: skip
def test_errors_have_a_place(text, message, place):
    with pytest.raises(SourceError, match=re.escape(message)) as raised:
        made(text)
    span = raised.value.diagnostics[0].span
    assert span.text == place and span.source.text == text


def test_a_variable_that_is_none():
    with pytest.raises(SourceError, match="'foo' is not a variable"):
        made(LATENCY, handler="onmax", variable="foo")
