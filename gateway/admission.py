"""Admission: who may come in at all, decided before a body is read."""

import contextlib
import functools
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mailroom.attachments import LARGEST_IN_A_ROW
from mailroom.rates import Rate
from mailroom.settings import LimitSettings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: A household or a phone has a whole /64 of IPv6 to itself, so it is limited as one.
_IPV6_PREFIX = 64

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")
_NO_ADDRESS = "no address"


#: While memory is short one request at a time comes in. Seconds after which it has had its turn, so that who is slow, or
#: waits for something, shuts out nobody else: bodies that need no disk still fit beside it.
TURN_SECONDS = 5.0


class Full(Exception):
    """Nothing more may come in at the moment; the text says why."""


def _never() -> None:
    return None


def _enough(in_hand: int, coming: int) -> None:
    return None


class Admission:
    """What one process has in hand at once: requests, and the bytes they may bring. It has an entrance for each API."""

    def __init__(
        self,
        limits: LimitSettings,
        memory: Callable[[int, int], str | None] = _enough,
        files_disk: Callable[[], str | None] = _never,
        rows_disk: Callable[[], str | None] = _never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.requests_within_reach, self.bytes_within_reach = limits.requests_within_reach, limits.bytes_within_reach
        self.memory = memory
        self.files_disk = files_disk
        self.rows_disk = rows_disk
        self.clock = clock
        #: When one came in last.
        self.entered_at = float("-inf")
        self.forms = Entrance(self)
        self.platform = Entrance(self)

    @property
    def requests(self) -> int:
        """How many requests are inside."""
        return self.forms.requests + self.platform.requests

    @property
    def bytes(self) -> int:
        """How many bytes they may bring."""
        return self.forms.bytes + self.platform.bytes


@dataclass(slots=True, eq=False)
class Entrance:
    """Where the requests of one API come in."""

    whole: Admission
    requests: int = 0
    bytes: int = 0
    #: How many were turned away since the start.
    turned_away: int = 0

    @contextlib.contextmanager
    def entered(self, size: int) -> Iterator[None]:
        """Have a request whose body has at most this size inside. Raises Full when there is no room for it."""
        self.enter(size)
        try:
            yield
        finally:
            self.leave(size)

    def enter(self, size: int) -> None:
        """Have it inside until it leaves; the same, where a context manager for each takes too long. Raises Full."""
        full = self.full_for(size)
        if full is not None:
            self.turned_away += 1
            raise Full(full)
        self.whole.entered_at = self.whole.clock()
        self.requests += 1
        self.bytes += size

    def leave(self, size: int) -> None:
        """One that had entered with this size is outside again."""
        self.requests -= 1
        self.bytes -= size

    def full_for(self, size: int) -> str | None:
        """Why one more request of at most this size may not come in; None when it may."""
        whole, limits = self.whole, self.whole.limits
        if self.requests >= whole.requests_within_reach or whole.requests >= limits.requests_in_flight:
            return "too many requests are in hand"
        if self.bytes + size > whole.bytes_within_reach or whole.bytes + size > limits.bytes_in_flight:
            return "too many bytes are in hand"
        # The files of a smaller body stay in the database where their own disk takes none.
        if size > LARGEST_IN_A_ROW and (short := whole.files_disk()) is not None:
            return short
        if size and (short := whole.rows_disk()) is not None:
            return short
        # Asked in any case, because it learns what is used with nothing in hand. One at a time goes on: a process that
        # has grown, and has nothing in hand, would never take anything again.
        short = whole.memory(whole.bytes, size)
        had_its_turn = size <= LARGEST_IN_A_ROW and whole.clock() - whole.entered_at >= TURN_SECONDS
        return short if whole.requests and not had_its_turn else None


#: Clients of which is remembered how often they came; who came longest ago is forgotten for a new one. Whoever has
#: more addresses than this is not stopped by counting them.
MOST_CLIENTS = 50_000


@dataclass(slots=True)
class _Count:
    """How often somebody came in one window of time, and in the one before."""

    window: int
    now: int = 0
    before: int = 0

    def moved_to(self, window: int) -> None:
        """Forget what is older than the window before this one."""
        if window != self.window:
            self.before = self.now if window == self.window + 1 else 0
            self.window, self.now = window, 0

    def lately(self, part: float) -> int:
        """How often within the last length of a window, of which this part lies in the present one."""
        return self.now + int(self.before * (1 - part))


class ClientRates:
    """How often each client address may come, per service; kept in this process, in bounded memory and time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST_CLIENTS) -> None:
        self._clock = clock
        self._most = most
        self._counts: OrderedDict[tuple[Rate, str, str], _Count] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many counts there are."""
        return len(self._counts)

    def allows(self, rate: Rate | None, service: str, client: str) -> bool:
        """Count one request; False, and not counted, when it is one too many."""
        if rate is None:
            return True
        count, part = self._count(rate, service, client)
        if count.lately(part) >= rate.count:
            return False
        count.now += 1
        return True

    def is_used_up(self, rate: Rate, service: str, client: str) -> bool:
        """Whether one more would be one too many; counts nothing."""
        count, part = self._count(rate, service, client)
        return count.lately(part) >= rate.count

    def _count(self, rate: Rate, service: str, client: str) -> tuple[_Count, float]:
        """The client's count, and how much of the present window is over."""
        window, part = divmod(self._clock() / rate.seconds, 1)
        key = (rate, service, limited_as(client))
        count = self._counts.setdefault(key, _Count(int(window)))
        self._counts.move_to_end(key)
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        count.moved_to(int(window))
        return count, part


def limited_as(client: str) -> str:
    """What an address is counted as: itself, or its /64 where it is IPv6. Whatever is no address is one client."""
    # Who comes often is read once; what a header says may be long, and nothing of that is kept.
    return _remembered(client) if len(client) <= _LONGEST_REMEMBERED else _read(client)


#: Characters of an address with its zone and port, generously, and addresses that are remembered: about a megabyte.
_LONGEST_REMEMBERED = 64
_MOST_REMEMBERED = 4096


def _read(client: str) -> str:
    match _address_in(client):
        case None:
            return _NO_ADDRESS
        case ipaddress.IPv6Address() as address:
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        case address:
            return str(address)


_remembered = functools.lru_cache(_MOST_REMEMBERED)(_read)


def _address_in(text: str) -> _Address | None:
    """The address in what a connection or a proxy says: IPv4 in IPv6 clothes is IPv4, and some proxies add the port."""
    port = _WITH_PORT.fullmatch(text)
    try:
        address: _Address = ipaddress.ip_address((port[1] or port[2]) if port else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


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
        address = _address_in(text)
        return address is not None and any(
            address in network for network in self._networks if network.version == address.version
        )
