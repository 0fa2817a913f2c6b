"""Who may come in: room, rates, and whose word about an address is believed."""

import pytest

from gateway.admission import Admission, ClientRates, Proxies, limited_as
from mailroom.rates import Rate
from mailroom.settings import LimitSettings


def test_room_for_requests_and_bytes() -> None:
    """A request is inside until it ends, and what is inside leaves so much less room."""
    admission = Admission(LimitSettings(requests_in_flight=2, bytes_in_flight=100))
    with admission.entered(60):
        assert admission.has_room_for(40)
        assert not admission.has_room_for(41)
        with admission.entered(10):
            assert not admission.has_room_for(1)

    assert admission.has_room_for(100)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # A stranger's word is not believed.
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        # Our proxy's is; what stands left of the last stranger anybody can have written.
        ("10.0.0.2", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4", "198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.2", ["nonsense"], "nonsense"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("::1", ["198.51.100.1"], "::1"),
    ],
)
def test_the_address_of_the_client(peer: str, forwarded: list[str], client: str) -> None:
    """The client is the last address before our own proxies."""
    assert Proxies(["10.0.0.0/24"]).client(peer, forwarded) == client


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("unknown", "unknown"),
    ],
)
def test_what_an_address_is_counted_as(address: str, counted: str) -> None:
    """An IPv6 network of /64 is one client, an IPv4 address in IPv6 clothes is itself."""
    assert limited_as(address) == counted


async def test_a_rate_is_per_service_and_client() -> None:
    """One client's requests to one service do not use up another's."""
    rates, rate = ClientRates(), Rate(count=2, seconds=60)

    assert [await rates.allows(rate, "a", "198.51.100.7") for _ in range(3)] == [True, True, False]
    assert await rates.allows(rate, "b", "198.51.100.7")
    assert await rates.allows(rate, "a", "198.51.100.8")
    assert await rates.allows(None, "a", "198.51.100.7")
