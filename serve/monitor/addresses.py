"""Where a webhook may go: public addresses only, and exactly the address that was checked."""

import asyncio
import ipaddress
import socket

from ray_sft.core import ServeError

__all__ = ["AddressError", "is_public", "resolve"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressError(ServeError):
    """The host has no address that the webhook may use."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, and not of this machine, network or provider.

    An IPv4 address within an IPv6 one counts as what it leads to.
    """
    parsed: Address | None = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _UNICAST and parsed.sixtofour is None:
            return parsed.is_global
        parsed = _inner(parsed)
    return parsed is not None and parsed.is_global and not parsed.is_multicast


async def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of ``host``, one or more; the name must not be looked up again.

    Raises:
        AddressError: the name is unknown, or one of its addresses is private.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError(f"host '{host}' cannot be resolved: {error.strerror}.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise AddressError(
                f"host '{host}' has the private address {address}, which the webhook does not "
                "use. Choose a public host, or set webhook_allow_private: true."
            )
    return addresses


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
