"""Destinations: what an administrator may name as a server, as tables."""

import pytest

from mailroom.destinations import ANYWHERE, MAIL_PORTS, destinations, relay

STRICT = destinations((), ())


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - nothing listens: it is looked at
        "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1",
        "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "100::1",
    ],
)  # fmt: skip
def test_sec_5_the_inside_is_refused(address: str) -> None:
    """No address of the inside may be connected to, in whatever form it is written."""
    assert not STRICT.allow("smtp.company.test", 587, [address])


@pytest.mark.parametrize(
    "address",
    ["9.9.9.9", "172.32.0.1", "100.128.0.1", "169.253.1.1", "2606:4700::1111", "::ffff:9.9.9.9", "64:ff9b::909:909"],
)
@pytest.mark.parametrize("port", sorted(MAIL_PORTS))
def test_public_servers_are_allowed(address: str, port: int) -> None:
    """The public Internet can be reached at every port for mail."""
    assert STRICT.allow("smtp.company.test", port, [address])


@pytest.mark.parametrize("port", [22, 80, 443, 5432, 6379, 8025, 65535])
def test_sec_5_other_ports_are_refused(port: int) -> None:
    """A port that is none for mail is refused even where the address is public."""
    assert not STRICT.allow("smtp.company.test", port, ["9.9.9.9"])


def test_sec_5_one_address_of_the_inside_spoils_all() -> None:
    """A name that also leads to the inside is refused, whichever address would be tried first."""
    assert not STRICT.allow("smtp.company.test", 587, ["9.9.9.9", "10.0.0.1"])
    assert not STRICT.allow("smtp.company.test", 587, ["10.0.0.1", "9.9.9.9"])


@pytest.mark.parametrize(
    ("setting", "host", "port", "address", "allowed"),
    [
        ("10.1.2.0/24", "relay", 25, "10.1.2.9", True),
        ("10.1.2.0/24", "relay", 25, "::ffff:10.1.2.9", True),
        ("10.1.2.0/24", "relay", 2526, "10.1.2.9", False),
        ("10.1.2.0/24", "relay", 25, "10.1.3.1", False),
        ("10.1.2.7", "relay", 587, "10.1.2.7", True),
        ("10.1.2.0/24:2526", "relay", 2526, "10.1.2.9", True),
        ("10.1.2.0/24:2526", "relay", 25, "10.1.2.9", False),
        ("relay.internal", "relay.internal", 25, "10.9.9.9", True),
        ("relay.internal", "RELAY.internal.", 25, "10.9.9.9", True),
        ("relay.internal", "relay.internal", 2526, "10.9.9.9", False),
        ("relay.internal", "other.internal", 25, "10.9.9.9", False),
        ("relay.internal:2526", "relay.internal", 2526, "10.9.9.9", True),
        ("smtp.provider.test:2587", "smtp.provider.test", 2587, "9.9.9.9", True),
        ("127.0.0.0/8:*", "localhost", 8025, "127.0.0.1", True),
        ("127.0.0.0/8:*", "localhost", 8025, "::1", False),
        ("[::1]:*", "localhost", 8025, "::1", True),
        ("fd00::/8", "relay", 25, "fd00::5", True),
        ("[fd00::/8]:2526", "relay", 2526, "fd00::5", True),
    ],
)
def test_sec_5_relays_are_allowed_as_written(
    setting: str, host: str, port: int, address: str, *, allowed: bool
) -> None:
    """A network or a name opens itself, at the ports for mail or at the one that is written, and nothing else."""
    assert destinations([setting], ()).allow(host, port, [address]) is allowed


@pytest.mark.parametrize(
    "setting", ["10.1.2.5/24", "10.1.2", "relay.internal:0", "relay.internal:65536", "http://relay", "a b", "", "-x-/"]
)
def test_what_is_no_relay_is_told(setting: str) -> None:
    """A setting that means nothing is no silent gap."""
    with pytest.raises(ValueError, match=r"\w"):
        relay(setting)


def test_what_the_settings_configure_is_the_operators_word() -> None:
    """Host and port of an integration of the settings file are allowed, together only."""
    allowed = destinations((), [("Relay.internal", 2526)])

    assert allowed.allow("relay.internal", 2526, ["10.0.0.1"])
    assert not allowed.allow("relay.internal", 25, ["10.0.0.1"])
    assert not allowed.allow("other.internal", 2526, ["10.0.0.1"])


def test_anywhere_is_anywhere() -> None:
    """Whoever connects only to what it was given by itself refuses nothing."""
    assert ANYWHERE.allow("127.0.0.1", 1, ["127.0.0.1"])
