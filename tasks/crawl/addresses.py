"""Name resolution that gives no way into private networks, and `connect_to`."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer  # type: ignore[import-untyped]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def public(address: str) -> bool:
    """Tell whether `address` is one of the public internet, looking through the ways to wrap IPv4 into IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return public(str(wrapped))
    return ip.is_global and not ip.is_multicast


@implementer(IHostnameResolver)
class GuardedResolver:
    """Wraps a resolver: only public addresses come out of it, and hosts in `connect_to` lead where that says.

    It stands between every connection and the system's resolver, so it sees each redirect, each spelling of an
    address (`127.1`, `[::1]`, `0x7f000001`) and the very address that is then connected to. `refused` remembers the
    hosts that had no public address.
    """

    def __init__(self, resolver: Any, *, allow_private: bool, connect_to: dict[str, str]) -> None:
        self._resolver, self._allow_private = resolver, allow_private
        self._connect_to = {host.lower(): _split(target) for host, target in connect_to.items()}
        self.refused: dict[str, str] = {}

    def resolveHostName(  # noqa: N802 (Twisted's interface)
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Resolve as IHostnameResolver says."""
        host = hostName.lower()
        if target := self._connect_to.get(host):
            resolution = _Resolution(host)
            resolutionReceiver.resolutionBegan(resolution)
            kind = IPv6Address if ":" in target[0] else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", *target))
            resolutionReceiver.resolutionComplete()
            return resolution
        receiver = resolutionReceiver if self._allow_private else _PublicOnly(resolutionReceiver, host, self.refused)
        return self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: the resolution is over when this object is handed out."""


@implementer(IResolutionReceiver)
class _PublicOnly:
    def __init__(self, receiver: Any, host: str, refused: dict[str, str]) -> None:
        self._receiver, self._host, self._refused = receiver, host, refused
        self._private: list[str] = []
        self._passed = 0

    def resolutionBegan(self, resolution: Any) -> None:  # noqa: N802
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        if public(address.host):
            self._passed += 1
            self._receiver.addressResolved(address)
        else:
            self._private.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802
        if self._private and not self._passed:
            self._refused[self._host] = self._private[0]
        else:
            self._refused.pop(self._host, None)
        self._receiver.resolutionComplete()


def _split(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)
