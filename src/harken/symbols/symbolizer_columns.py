"""The text of very many samples by numpy: which addresses are different ones, and the lines of all of them put together.

What is done for each address of every call chain costs a tenth of what dictionaries cost, but importing numpy takes as long as naming
100,000 samples: ``symbolizer_recording`` comes here for long recordings only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("text",)

_USER_BITS = 48
_MOST_TABLES = 1 << (63 - _USER_BITS)
_CONTEXT_MAX = (1 << 64) - 4095
_KERNEL = 1 << 63
_USER = (1 << 64) - 512  # PERF_CONTEXT_USER


def text(
    resolve: Callable[[Any, str], None],
    every: list[Any],
    tables: list[Any],
    addresses: list[int],
    keys: list[bytes] | None,
    before: list[str] | None,
    unknown: Callable[[int], str],
) -> str:
    """The samples as text.

    Args:
        resolve: fills in the texts of (table, ascending addresses).
        every: all tables, by their ``number``.
        tables: of every sample: dictionaries of texts by address.
        addresses: of every sample, if no call chains are wanted.
        keys: call chains as words.
        before: what stands before each sample, if anything.
        unknown: the text of an address that is in no process and not in the kernel.
    """
    import numpy as np

    of_sample = np.array([table.number for table in tables], np.uint64)
    if keys is None:
        flat = np.array(addresses, np.uint64)
        of_address = of_sample
    else:
        lengths = np.fromiter(map(len, keys), np.int64, len(keys)) >> 3
        flat = np.frombuffer(b"".join(keys), np.uint64)
        of_address = np.repeat(of_sample, lengths)
    strangers = {at: unknown(at) for at in _strangers(flat)} if keys is not None else {}
    # the kernel's addresses mean the same in all processes: the first table has them
    user = flat < np.uint64(1 << 63)
    combined = np.where(user, flat | of_address << np.uint64(_USER_BITS), flat) if len(every) < _MOST_TABLES else None
    if combined is None or bool((flat[user] >> np.uint64(_USER_BITS)).any()):
        order = np.lexsort((flat, of_address))
        new = np.ones(len(flat), bool)
        new[1:] = (np.diff(flat[order]) != 0) | (np.diff(of_address[order]) != 0)
        inverse = np.empty(len(flat), np.int64)
        inverse[order] = np.cumsum(new) - 1
        unique, owners = flat[order][new], of_address[order][new]
    else:
        found, inverse = np.unique(combined, return_inverse=True)
        kernel = found >= np.uint64(1 << 63)
        unique = np.where(kernel, found, found & np.uint64((1 << _USER_BITS) - 1))
        owners = np.where(kernel, np.uint64(0), found >> np.uint64(_USER_BITS))
    cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(unique)] if len(unique) else [0]
    work: list[tuple[Any, list[int]]] = []
    for start, end in zip(cuts, cuts[1:]):
        mine = unique[start:end].tolist()
        work.append((every[int(owners[start])], mine))
    resolve(
        [(table, [at for at in mine if at < _CONTEXT_MAX] if mine[-1] >= _CONTEXT_MAX else mine) for table, mine in work],
        " \t"[keys is not None],
    )
    lines: list[str] = []
    for table, mine in work:
        if mine[-1] >= _KERNEL:
            table.update(strangers)
            table.update([(at, "") for at in mine if at >= _CONTEXT_MAX])
        lines += map(table.__getitem__, mine)
    del combined
    if keys is None:
        texts = map(lines.__getitem__, inverse.tolist())
        return "".join(texts if before is None else map(str.__add__, before, texts))
    # a chain is its lines between "\n" and another, which is the next sample's: one index for all of them, -1 in front of each sample
    starts = np.cumsum(lengths) - lengths
    if before is None:
        lines += ["\n", "\n\n"]
        heads = np.full(len(keys), len(lines) - 1)
        heads[:1] -= 1
    else:
        heads = np.arange(len(lines), len(lines) + len(keys))
        lines += [f"\n{head}\n" for head in before]
        if keys:
            lines[-len(keys)] = lines[-len(keys)][1:]
    index = np.insert(inverse, starts, heads)
    return "".join(map(lines.__getitem__, index.tolist())) + ("\n" if keys else "")


def _strangers(flat: Any) -> list[int]:
    """What looks like addresses of the kernel in the process's part of call chains only: stray values of frame pointers."""
    import numpy as np

    marks = flat >= np.uint64(_CONTEXT_MAX)
    kernel = (flat >= np.uint64(_KERNEL)) & ~marks
    if not kernel.any():
        return []
    # every chain begins with a marker, so that the last one before an address is its own chain's
    places = np.maximum.accumulate(np.where(marks, np.arange(len(flat)), 0))
    of_user = flat[places] == np.uint64(_USER)
    stray = np.unique(flat[kernel & of_user])
    return [] if not len(stray) else np.setdiff1d(stray, flat[kernel & ~of_user]).tolist()
