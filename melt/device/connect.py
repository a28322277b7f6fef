"""From an address to the transport that reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.files import SCHEMES
from melt.transport import LocalTransport, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def connect(address: str) -> Transport:
    """The transport for `address` (`SCHEME:…`).

    Raises UsageError for an unknown scheme or a package that is missing, TransportError when the device cannot be
    reached.
    """
    scheme = address.partition(":")[0]
    if scheme not in _TRANSPORTS:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise UsageError(f"address '{address}': this version of melt reaches {known}")
    return _TRANSPORTS[scheme](address)


def _local(_address: str) -> Transport:
    return LocalTransport()


def _ssh(address: str) -> Transport:
    try:
        from melt.transport.ssh import SshTransport  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UsageError(f"{address} is reached with the package paramiko: pip install 'melt[ssh]'") from None
    return SshTransport(address)


def _adb(address: str) -> Transport:
    from melt.transport.adb import AdbTransport  # noqa: PLC0415 - what only some labs need

    return AdbTransport.connect(address)


def _adb_tcp(address: str) -> Transport:
    try:
        from melt.transport.adb_tcp import AdbTcpTransport  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UsageError(f"{address} is reached with the package adb-shell: pip install 'melt[adb]'") from None
    return AdbTcpTransport.connect(address)


_TRANSPORTS: Mapping[str, Callable[[str], Transport]] = {
    "local": _local,
    "ssh": _ssh,
    "adb": _adb,
    "adb+tcp": _adb_tcp,
}
