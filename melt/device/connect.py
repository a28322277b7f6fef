"""From an address to the transport that reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.transport import LocalTransport, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMES: Mapping[str, Callable[[str], Transport]] = {
    "local": lambda _address: LocalTransport(),
}


def connect(address: str) -> Transport:
    """The transport for `address` (`SCHEME:…`).

    Raises UsageError for an unknown scheme, TransportError when the device cannot be reached.
    """
    scheme = address.partition(":")[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise UsageError(f"address '{address}': this version of melt reaches {known} only")
    return SCHEMES[scheme](address)
