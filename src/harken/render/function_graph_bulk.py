"""Lines of very many records of the function graph at once (``function_graph_report`` makes them one by one).

Which entry and return are one line is a comparison of columns; durations are rows of digits; indentation and name come from a table of
the different ones.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..analysis.function_graph_records import Decoder
    from .ftrace_batches import Group
    from .ftrace_bulk import Texts

__all__ = ("graph_texts",)

_DEEPEST = 200
_LEAF, _ENTRY, _EXIT = range(3)
_BLANK = b"             |  "


def graph_texts(decoder: Decoder, name: Callable[[int], str], groups: Sequence[Group], any_cpu: bool, np: Any) -> list[Texts] | None:
    """The texts of all graph records of a window, without the returns that are part of another line; None if they must be made singly.

    Args:
        name: the function's name for its address, "" if it has none.
        groups: those of the graph's events.
        any_cpu: as ``ReportOptions.any_cpu``.
    """
    columns = []
    for group in groups:
        found = decoder.columns(group.kind, group.batch.buffer, group.starts, group.shortest, np)
        if found is None:
            return None
        columns.append(found)
    number = np.concatenate([np.full(len(group.where), at, dtype="i8") for at, group in enumerate(groups)])
    index = np.concatenate([np.arange(len(group.where)) for group in groups])
    place = np.concatenate([group.where for group in groups])
    order = np.argsort(place, kind="stable")
    joined = [np.concatenate([column[field] for column in columns])[order] for field in range(5)]
    func, depth, pid, duration, returns = joined
    if int(depth.max()) > _DEEPEST or int(depth.min()) < 0:
        return None
    place, number, index = place[order], number[order], index[order]
    leaf = np.zeros(len(place), dtype=bool)
    leaf[:-1] = ~returns[:-1] & returns[1:] & (func[:-1] == func[1:]) & (pid[:-1] == pid[1:]) & (place[1:] == place[:-1] + 1)
    if not any_cpu:
        cpus = np.array([group.batch.cpu for group in groups])[number]
        leaf[:-1] &= cpus[:-1] == cpus[1:]
    part = np.zeros(len(place), dtype=bool)
    part[1:] = leaf[:-1]
    duration[:-1][leaf[:-1]] = duration[1:][leaf[:-1]]
    form = np.where(returns, _EXIT, np.where(leaf, _LEAF, _ENTRY))
    texts = []
    for at, group in enumerate(groups):
        mine = np.nonzero((number == at) & ~part)[0]
        if not len(mine):
            continue
        kept = index[mine]
        chosen = group.replace(where=group.where[kept], starts=group.starts[kept], sizes=group.sizes[kept], times=group.times[kept])
        texts.append((chosen, _maker(func[mine], depth[mine], duration[mine], form[mine], name, np)))
    return texts


def _maker(func: Any, depth: Any, duration: Any, form: Any, name: Callable[[int], str], np: Any) -> Callable[[int, int], list[Any]]:
    from ..formats.print_fmt_rows import table_rows

    def make(low: int, high: int) -> list[Any]:
        addresses, code = np.unique(func[low:high], return_inverse=True)
        known = addresses.tolist()

        def call(key: int) -> str:
            rest, kind = divmod(key, 3)
            which, level = divmod(rest, _DEEPEST + 1)
            if kind == _EXIT:
                return "  " * level + "}"
            address = known[which]
            return f"{'  ' * level}{name(address) or f'{address:x}'}(){';' if kind == _LEAF else ' {'}"

        kinds = form[low:high]
        # of a return nothing but the depth is shown
        code = np.where(kinds == _EXIT, 0, code)
        calls = table_rows((code * (_DEEPEST + 1) + depth[low:high]) * 3 + kinds, call, np)
        return [_durations(duration[low:high], kinds == _ENTRY, np), calls]

    return make


def _durations(values: Any, without: Any, np: Any) -> Any:
    """Rows of ``"+ 12.345 us  |  "``; blanks where there is none."""
    from ..formats.print_fmt_rows import decimal

    values = np.where(without, np.uint64(0), values)
    micros = values // np.uint64(1000)
    rest = (values - micros * np.uint64(1000)).astype("u4")
    digits = decimal(micros, np)
    wide = digits.shape[1]
    out = np.zeros((len(values), max(2 + wide + 4 + 4 + 2 + 3, len(_BLANK))), dtype="u1")
    out[:, 0], out[:, 1] = 32, 32
    for limit, sign in ((10_000, b"+"), (100_000, b"!"), (1_000_000, b"#"), (1_000_000_000, b"$")):
        out[values > np.uint64(limit), 0] = sign[0]
    out[:, 2 : 2 + wide] = digits
    at = 2 + wide
    short = micros < np.uint64(1000000)  # longer ones have no fraction
    for place, value in enumerate((46 - 48, rest // 100, rest // 10 % 10, rest % 10)):
        out[:, at + place] = np.where(short, value + 48, 0)
    out[:, at + 4 : at + 8] = np.frombuffer(b" us ", dtype="u1")
    out[:, at + 8] = np.where(micros < np.uint64(100), 32, 0)
    out[:, at + 9] = np.where(micros < np.uint64(10), 32, 0)
    out[:, at + 10 : at + 13] = np.frombuffer(b"|  ", dtype="u1")
    out[without] = 0
    out[without, : len(_BLANK)] = np.frombuffer(_BLANK, dtype="u1")
    return out
