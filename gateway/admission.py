"""Admission: who may come in at all, decided before a body is read."""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from mailroom.rates import Rate
from mailroom.settings import LimitSettings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: A household or a phone has a whole /64 of IPv6 to itself, so it is limited as one.
_IPV6_PREFIX = 64


@dataclass(slots=True)
class Admission:
    """What one process has in hand at once: requests, and the bytes they may bring."""

    limits: LimitSettings
    requests: int = 0
    bytes: int = 0

    def has_room_for(self, size: int) -> bool:
        """Whether one more request of at most this size may come in."""
        return self.requests < self.limits.requests_in_flight and self.bytes + size <= self.limits.bytes_in_flight

    @contextlib.contextmanager
    def entered(self, size: int) -> Iterator[None]:
        """Count a request while it is inside."""
        self.requests += 1
        self.bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= size


class ClientRates:
    """How often each client address may come, per service; kept in this process."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items: dict[Rate, RateLimitItem] = {}

    async def allows(self, rate: Rate | None, service: str, client: str) -> bool:
        """Count one request; False when it is one too many."""
        if rate is None:
            return True
        return await self._limiter.hit(self._item(rate), service, limited_as(client))

    async def is_used_up(self, rate: Rate, service: str, client: str) -> bool:
        """Whether one more would be one too many; counts nothing."""
        return not await self._limiter.test(self._item(rate), service, limited_as(client))

    def _item(self, rate: Rate) -> RateLimitItem:
        item = self._items.get(rate)
        if item is None:
            item = self._items[rate] = RateLimitItemPerSecond(rate.count, max(1, int(rate.seconds)))
        return item


def limited_as(client: str) -> str:
    """What an address is counted as: itself, or its /64 where it is IPv6."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


class Proxies:
    """Whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks: list[_Network] = [ipaddress.ip_network(one, strict=False) for one in trusted]

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The address of the client: the last one before our own proxies (anybody can write what stands further left)."""
        hops = [hop.strip() for header in forwarded for hop in header.split(",")]
        client = peer
        while hops and self.is_ours(client):
            client = hops.pop()
        return client

    def is_ours(self, text: str) -> bool:
        """Whether this is the address of a proxy of ours."""
        try:
            address: _Address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks if network.version == address.version)
