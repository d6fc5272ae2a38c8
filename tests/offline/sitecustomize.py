"""No socket leads out of this machine: loaded by conftest.py, and by every Python that the tests start.

Python itself loads a module of this name at its start, if it finds one; conftest.py puts this folder into PYTHONPATH.
What is refused looks to its caller like a firewall: an OSError.
"""

import errno
import socket
import sys
from typing import Any

LOOPBACK = ("127.", "::1", "::ffff:127.", "localhost", "ip6-localhost")
NOWHERE = ("", "0.0.0.0", "::")
"""Addresses without a host: to connect to them is to connect to this machine."""
SENT = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKED = {"socket.getaddrinfo", "socket.gethostbyname"}


def is_here(host: Any) -> bool:
    """Whether a host, a name or an address, is this machine."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    return host is None or host in NOWHERE or host.startswith(LOOPBACK) or host == socket.gethostname()


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, which sees every socket of this process, however it was made."""
    if event in SENT:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and isinstance(address[0], str) else None  # else no internet
    elif event in ASKED:
        host = arguments[0]
    else:
        return
    if not is_here(host):
        raise PermissionError(errno.EACCES, f"the tests connect to nothing but this machine, not to {host}")


sys.addaudithook(refuse)
