"""Who may come in: room, rates, and whose word about an address is believed."""

import contextlib

import pytest

from gateway.admission import TURN_SECONDS, Admission, ClientRates, Full, Proxies, limited_as
from mailroom.attachments import LARGEST_IN_A_ROW
from mailroom.rates import Rate
from mailroom.settings import LimitSettings


def test_ovl_1_room_for_requests_and_bytes() -> None:
    """A request is inside until it ends, and what is inside leaves so much less room."""
    forms = Admission(LimitSettings(requests_in_flight=3, bytes_in_flight=100)).forms
    with forms.entered(60):
        assert forms.full_for(15) is None
        assert forms.full_for(16) == "too many bytes are in hand"
        with forms.entered(10), forms.entered(0):
            assert forms.full_for(0) == "too many requests are in hand"

    assert forms.full_for(75) is None


def test_ovl_1_who_is_turned_away_is_counted_and_not_inside() -> None:
    """Whoever finds no room leaves no trace but the count."""
    admission = Admission(LimitSettings(bytes_in_flight=100))
    with pytest.raises(Full), admission.forms.entered(100):
        pass

    assert (admission.requests, admission.bytes, admission.forms.turned_away) == (0, 0, 1)


@pytest.mark.parametrize(("flooded", "other"), [("forms", "platform"), ("platform", "forms")])
def test_ovl_4_a_flood_at_one_entrance_leaves_room_at_the_other(flooded: str, other: str) -> None:
    """However many come to one API, a quarter of requests and bytes is left for the other; together never more than all."""
    admission = Admission(LimitSettings(requests_in_flight=8, bytes_in_flight=800))
    with contextlib.ExitStack() as inside:
        for entrance, most in ((getattr(admission, flooded), 6), (getattr(admission, other), 2)):
            for _ in range(most):
                inside.enter_context(entrance.entered(100))
            with pytest.raises(Full), entrance.entered(1):
                pass

        assert (admission.requests, admission.bytes) == (8, 800)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_ovl_5_while_memory_is_short_one_at_a_time_comes_in() -> None:
    """Who is admitted is alone: a process that has grown goes on, slowly, instead of never again."""
    short = "memory is short"
    forms = Admission(LimitSettings(), memory=lambda _, __: short).forms
    with forms.entered(10):
        assert forms.full_for(0) == short

    assert forms.full_for(10) is None


def test_ovl_5_who_is_slow_shuts_out_nobody_while_memory_is_short() -> None:
    """Whoever is inside for five seconds has had its turn: one small request comes in beside it, and no large one."""
    now, short = [0.0], "memory is short"
    forms = Admission(LimitSettings(), memory=lambda _, __: short, clock=lambda: now[0]).forms
    with forms.entered(10):
        now[0] += TURN_SECONDS
        assert [forms.full_for(size) for size in (LARGEST_IN_A_ROW, LARGEST_IN_A_ROW + 1)] == [None, short]
        with forms.entered(10):
            assert forms.full_for(0) == short


def test_what_needs_a_disk_that_is_short_stays_outside() -> None:
    """Without room for files only small bodies come in; without room for rows only requests without a body do."""
    files = Admission(LimitSettings(), files_disk=lambda: "full").forms
    rows = Admission(LimitSettings(), rows_disk=lambda: "full").platform

    assert [files.full_for(size) for size in (LARGEST_IN_A_ROW, LARGEST_IN_A_ROW + 1)] == [None, "full"]
    assert [rows.full_for(size) for size in (0, 1)] == [None, "full"]


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
        # A socket for both kinds of addresses tells IPv4 in IPv6 clothes, and some proxies add the port.
        ("::ffff:10.0.0.2", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["198.51.100.1:50123, 10.0.0.3:443"], "198.51.100.1:50123"),
    ],
)
def test_sec_4_the_address_of_the_client(peer: str, forwarded: list[str], client: str) -> None:
    """The client is the last address before our own proxies."""
    assert Proxies(["10.0.0.0/24"]).client(peer, forwarded) == client


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:50123", "198.51.100.7"),
        ("[2001:db8:1:2::9]:50123", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("unknown", "no address"),
        ("nonsense", "no address"),
    ],
)
def test_sec_4_what_an_address_is_counted_as(address: str, counted: str) -> None:
    """An IPv6 network of /64 is one client, an IPv4 address in IPv6 clothes is itself."""
    assert limited_as(address) == counted


def test_sec_4_a_rate_is_per_service_and_client() -> None:
    """One client's requests to one service do not use up another's."""
    rates, rate = ClientRates(), Rate(count=2, seconds=60)

    assert [rates.allows(rate, "a", "198.51.100.7") for _ in range(3)] == [True, True, False]
    assert rates.allows(rate, "b", "198.51.100.7")
    assert rates.allows(rate, "a", "198.51.100.8")
    assert rates.allows(None, "a", "198.51.100.7")


def test_sec_4_no_length_of_time_has_more_than_its_rate() -> None:
    """However a client spreads 200 requests a second, no minute lets in more than the rate and a twentieth."""
    now, rate, let_in = 0.0, Rate(count=60, seconds=60), []
    rates = ClientRates(lambda: now)
    for _ in range(200 * 300):
        now += 0.005
        if rates.allows(rate, "a", "198.51.100.7"):
            let_in.append(now)

    assert max(_within(let_in, first, 60) for first in let_in) <= 60 * 1.05
    assert len(let_in) >= 60 * 300 / 60 * 0.9


def _within(moments: list[float], first: float, seconds: float) -> int:
    return sum(first <= moment < first + seconds for moment in moments)


def test_sec_4_looking_counts_nothing() -> None:
    """Whether a rate is used up can be asked as often as one likes."""
    rates, rate = ClientRates(), Rate(count=1, seconds=60)

    assert not any(rates.is_used_up(rate, "a", "198.51.100.7") for _ in range(3))
    assert rates.allows(rate, "a", "198.51.100.7")
    assert rates.is_used_up(rate, "a", "198.51.100.7")


def test_sec_4_any_number_of_clients_is_counted_in_bounded_memory() -> None:
    """A flood from ever new networks is remembered up to a bound, and one that comes all the time is not forgotten."""
    rates, rate = ClientRates(most=2000), Rate(count=1, seconds=3600)
    assert rates.allows(rate, "a", "198.51.100.7")
    for number in range(20_000):
        rates.allows(rate, "a", f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
        if number % 1000 == 0:
            assert not rates.allows(rate, "a", "198.51.100.7")

    assert rates.remembered == 2000
