"""Seats: urgent lanes first, and some kept for the agents."""

import asyncio

import pytest

from mailroom.message import Lane
from worker.consumer import tickets_to_hold
from worker.places import Place
from worker.seats import READY_PER_SEAT, Seats, kept_for_agents


@pytest.mark.parametrize(("seats", "kept"), [(1, 0), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (20, 5)])
def test_one_in_four_is_kept_for_agents(seats: int, kept: int) -> None:
    """One seat in four is kept for agents' mail, at least one of two, and none of a single one."""
    assert kept_for_agents(seats) == kept


def test_agents_go_first_and_forms_leave_them_room() -> None:
    """Free seats go to the agent lane first; forms may take all but the kept ones."""
    seats: Seats[str] = Seats(4)
    for number in range(5):
        seats.wait(Lane.FORM, f"form {number}")
    seats.wait(Lane.AGENT, "agent")

    assert [seats.next() for _ in range(4)] == ["agent", "form 0", "form 1", None]
    seats.wait(Lane.AGENT, "another agent")
    assert seats.next() == "another agent"
    assert seats.next() is None


def test_a_seat_given_back_is_taken_by_whoever_waits() -> None:
    """A seat that is left serves the next in line."""
    seats: Seats[str] = Seats(1)
    seats.wait(Lane.CAMPAIGN, "first")
    seats.wait(Lane.CAMPAIGN, "second")

    assert seats.next() == "first"
    assert seats.next() is None
    seats.leave()
    assert seats.next() == "second"
    assert seats.waiting == 0


@pytest.mark.parametrize(
    ("seats", "ids_per_ticket", "tickets"), [(8, 1, 16), (8, 2, 8), (8, 16, 1), (8, 32, 1), (1, 1, 2), (20, 3, 14)]
)
def test_the_fewest_tickets_that_cover_twice_the_seats(seats: int, ids_per_ticket: float, tickets: int) -> None:
    """A worker holds just enough tickets to keep its seats busy, so that others find work too."""
    assert tickets_to_hold(seats, ids_per_ticket) == tickets


def test_a_worker_may_keep_all_its_seats_for_agents_or_none() -> None:
    """How many seats are kept is decided for all workers together: one may have only such, another none."""
    seats: Seats[str] = Seats(1, kept=1)
    seats.wait(Lane.FORM, "form")
    seats.wait(Lane.AGENT, "agent")
    only_agents = [seats.next(), seats.next()]
    seats.leave()
    after_agents = seats.next()
    seats.kept = 0

    assert only_agents == ["agent", None]
    assert after_agents is None
    assert seats.next() == "form"


def test_nobody_sits_down_without_a_permit() -> None:
    """A free seat stays free while the limits allow no message; who waits keeps its place, and no permit is asked in vain."""
    permits = [False, True]
    seats: Seats[str] = Seats(4, permitted=lambda: permits.pop(0))
    nobody = seats.next()
    seats.wait(Lane.FORM, "form")

    assert (nobody, seats.next(), seats.next()) == (None, None, "form")
    assert permits == []


def test_seats_given_back_while_taken_are_none() -> None:
    """A worker whose part shrinks below what is taken seats nobody until enough have left; its peak is remembered."""
    seats: Seats[str] = Seats(3, kept=0)
    for name in "abcd":
        seats.wait(Lane.FORM, name)
    seated = [seats.next() for _ in range(3)]
    seats.total = 1
    seats.leave()

    assert seated == ["a", "b", "c"]
    assert (seats.free, seats.next(), seats.peak) == (-1, None, 4)


async def test_forms_get_ready_behind_taken_seats_and_sit_down_in_order() -> None:
    """So many forms are let begin without a seat; the first of them that is ready has the next one, before other forms."""
    seats: Seats[str] = Seats(2, kept=0, may_get_ready=lambda: True)
    most = 2 * READY_PER_SEAT
    for number in range(most + 4):
        seats.wait(Lane.FORM, f"form {number}")
    seated = [seats.next(), seats.next()]
    ready = [seats.next_without() for _ in range(most + 1)]
    sitting = [asyncio.create_task(Place(seats, seated=False).sit()) for _ in range(2)]
    await asyncio.sleep(0)
    seats.leave()
    following = seats.next()

    assert seated == ["form 0", "form 1"]
    assert ready == [*(f"form {number}" for number in range(2, most + 2)), None]
    assert following is None
    assert await sitting[0]
    assert not sitting[1].done()
    assert (seats.taken, seats.without, seats.waiting) == (2, most - 1, most + 1)
    seats.send_away()
    assert not await sitting[1]


async def test_agents_sit_down_before_who_is_ready_and_never_get_ready() -> None:
    """A free seat goes to the agent lane first; its mail, and campaigns, are not begun before there is a seat."""
    seats: Seats[str] = Seats(1, kept=0, may_get_ready=lambda: True)
    for lane in Lane:
        seats.wait(lane, lane)
        seats.wait(lane, f"second {lane}")
    first, ready, beside = seats.next(), seats.next_without(), [seats.next_without(), seats.next_without()]
    place = Place(seats, seated=False)
    sitting = asyncio.create_task(place.sit())
    await asyncio.sleep(0)
    seats.leave()
    second = seats.next()
    seats.leave()

    assert (first, ready, beside, second) == ("agent", "form", ["second form", None], "second agent")
    assert seats.next() is None
    assert await sitting
    assert (place.leave(), place.leave(), seats.taken) == (True, False, 0)
    assert seats.next() == "campaign"


async def test_who_gets_ready_while_the_seats_are_left_sits_down_at_once() -> None:
    """Whoever had a seat may be done first: nobody is left to call the one who comes behind."""
    seats: Seats[str] = Seats(1, kept=0, may_get_ready=lambda: True)
    for number in range(2):
        seats.wait(Lane.FORM, f"form {number}")
    begun = seats.next(), seats.next_without()
    seats.leave()

    async with asyncio.timeout(5):
        assert await Place(seats, seated=False).sit()
    assert begun == ("form 0", "form 1")
    assert (seats.taken, seats.without) == (1, 0)


def test_nobody_gets_ready_where_a_permit_will_be_needed() -> None:
    """While a limit or the gate decides who may go, nobody is claimed who might have to wait for that."""
    seats: Seats[str] = Seats(1, kept=0, may_get_ready=lambda: False)
    seats.wait(Lane.FORM, "form")

    assert seats.next_without() is None
    assert seats.waiting == 1
