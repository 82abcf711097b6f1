"""Names of tasks that are read again and again during a recording, since the kernel keeps few of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harken.session.recorder_ftrace_parts import merged_cmdlines

lines_of_names = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([b"a", b"ab", b"x y"])).map(lambda line: b"%d %b\n" % line), max_size=9
)


@given(lines_of_names, lines_of_names, lines_of_names, lines_of_names)
def test_names_that_the_kernel_no_longer_has_stay_known(
    before: list[bytes], was: list[bytes], now: list[bytes], behind: list[bytes]
) -> None:
    old, new = b"".join([*before, *was, *behind]), b"".join([*before, *now, *behind])
    merged = merged_cmdlines(old, new)
    named = {line.partition(b" ")[0] for line in new.split(b"\n")}
    kept = {line for line in old.split(b"\n") if line.partition(b" ")[0] not in named}
    assert merged.endswith(new) and set(merged.split(b"\n")) == kept | set(new.split(b"\n"))
