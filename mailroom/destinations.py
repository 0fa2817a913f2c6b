"""Destinations: which servers a worker connects to when an administrator, not the operator, named them (SSRF).

Who may set an integration's host through API or command could otherwise have workers knock at every door of the inside:
the database, the cloud's metadata service, a printer. So a host must be one of the public Internet and a port one for
mail, unless the settings file allows it: by naming it in `[integrations]`, or in `[smtp] private_relays`.

The rule is about the address that is connected to, after resolving: names and odd notations (0x7f.1) prove nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Relay, submission over TLS, submission, and what providers offer where 25 is blocked.
MAIL_PORTS = frozenset({25, 465, 587, 2525})

#: Anything goes to these ports of a relay.
EVERY_PORT = "*"

#: IANA's special-purpose IPv4 addresses (RFC 6890 and its registry), and one more.
_NOT_PUBLIC = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for loopback
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind carriers; a cloud's metadata service at 100.100.100.200
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local, and most clouds' metadata service
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "168.63.129.16/32",  # a public address by which a cloud's machines reach their host
        ),
    )
)

#: All that is public of IPv6, and what of it is not: other protocols' tunnels, tests and documentation.
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))

#: An IPv4 address at the end of an IPv6 one that a translator sends on to it (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")

_RELAY = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:\s]+))(?::(?P<port>\d{1,5}|\*))?")
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Relay:
    """A server that the operator allows: a network or a name, at these ports (None = every one)."""

    where: Network | str
    ports: frozenset[int] | None

    def takes(self, host: str, port: int, address: Address) -> bool:
        """Whether this is about it."""
        if self.ports is not None and port not in self.ports:
            return False
        if isinstance(self.where, str):
            return host == self.where
        return any(one.version == self.where.version and one in self.where for one in _meanings(address))


def relay(text: str) -> Relay:
    """A relay as the settings write it: `10.1.2.0/24`, `relay.internal:2525`, `[fd00::/8]:*`. Raises ValueError."""
    match = _RELAY.fullmatch(text.strip())
    if match is None:
        # An IPv6 address or network needs brackets only before a port.
        return Relay(ip_network(text.strip()), MAIL_PORTS)
    return Relay(_where(match["bracketed"] or match["plain"]), _ports(match["port"]))


def _where(text: str) -> Network | str:
    try:
        return ip_network(text)
    except ValueError:
        name = text.lower().rstrip(".")
        if not _NAME.fullmatch(name) or "/" in text or name.replace(".", "").isdigit():
            raise
        return name


def _ports(text: str | None) -> frozenset[int] | None:
    if text is None:
        return MAIL_PORTS
    if text == EVERY_PORT:
        return None
    if not 0 < int(text) <= _LARGEST_PORT:
        raise ValueError(f"{text} is no port")
    return frozenset({int(text)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where workers may connect to."""

    relays: tuple[Relay, ...] = ()
    #: Host and port of what the settings file has as integrations: the operator's own words.
    configured: frozenset[tuple[str, int]] = frozenset()
    #: Nothing is refused; for whoever connects only to what it was given by itself.
    anywhere: bool = False

    def allow(self, host: str, port: int, addresses: Sequence[str]) -> bool:
        """Whether a host that resolved to these may be connected to; one address of the inside spoils them all."""
        name = host.lower().rstrip(".")
        if self.anywhere or (name, port) in self.configured:
            return True
        return all(self._allows(name, port, ip_address(text.partition("%")[0])) for text in addresses)

    def _allows(self, host: str, port: int, address: Address) -> bool:
        if any(one.takes(host, port, address) for one in self.relays):
            return True
        return port in MAIL_PORTS and is_public(address)


ANYWHERE = Destinations(anywhere=True)

#: What an administrator is told: the same for every place that is not allowed, whatever is there.
NOT_ALLOWED = (
    "this server may not be used: its address is not one of the public Internet, or its port not one for mail "
    f"({', '.join(map(str, sorted(MAIL_PORTS)))}); who runs Mailroom can allow it in [smtp] private_relays"
)


def destinations(private_relays: Iterable[str], configured: Iterable[tuple[str, int]]) -> Destinations:
    """The rule of a deployment."""
    return Destinations(
        relays=tuple(map(relay, private_relays)),
        configured=frozenset((host.lower().rstrip("."), port) for host, port in configured),
    )


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, in whatever form it hides."""
    return all(_is_public(one) for one in _meanings(address))


def _meanings(address: Address) -> tuple[Address, ...]:
    """Where an address leads: an IPv6 one may stand for one of IPv4."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return (address.ipv4_mapped,)
        if address in _TRANSLATED:
            return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    return (address,)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    return address in _PUBLIC_IPV6 and not any(address in network for network in _NOT_PUBLIC_IPV6)
