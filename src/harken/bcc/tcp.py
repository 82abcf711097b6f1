"""Names of TCP's states and header flags (``bcc.tcp``).

Facts: include/net/tcp_states.h, include/net/tcp.h.

Example:
    >>> flags2str(TCPHDR_SYN | TCPHDR_ACK), state2str(10)
    ('SYN|ACK', 'LISTEN')
"""

from __future__ import annotations

__all__ = (
    "tcpstate", "flags2str", "state2str", "TCPHDR_FIN", "TCPHDR_SYN", "TCPHDR_RST", "TCPHDR_PSH", "TCPHDR_ACK", "TCPHDR_URG", "TCPHDR_ECE",
    "TCPHDR_CWR",
)  # fmt: skip

#: number -> name of a state
tcpstate = dict(
    enumerate(
        "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING NEW_SYN_RECV".split(), 1
    )
)

TCPHDR_FIN, TCPHDR_SYN, TCPHDR_RST, TCPHDR_PSH = 0x01, 0x02, 0x04, 0x08
TCPHDR_ACK, TCPHDR_URG, TCPHDR_ECE, TCPHDR_CWR = 0x10, 0x20, 0x40, 0x80

_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


def flags2str(flags: int) -> str:
    """The flags that are set, joined by ``|``."""
    return "|".join([name for bit, name in enumerate(_FLAGS) if flags >> bit & 1])


def state2str(state: int) -> str:
    """A state's name, "<UNKNOWN>" for none."""
    return tcpstate.get(state, "<UNKNOWN>")
