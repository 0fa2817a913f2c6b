"""The event loop that does not let a crowd hold up our own work."""

import socket
from collections import Counter
from contextlib import ExitStack

from mailroom.fairness import MOST_VISITORS, FairLoop

VISITORS = 200


def test_ovl_4_our_own_work_is_not_behind_a_crowd() -> None:
    """Of two hundred visitors and one of our own who are ready at once, ours is served first, and each visitor in the end."""
    served: list[str] = []
    loop = FairLoop()
    with ExitStack() as stack:
        stack.callback(loop.close)

        def ready(name: str, *, visitor: bool) -> None:
            here, there = (stack.enter_context(one) for one in socket.socketpair())
            there.send(b"x")
            if visitor:
                loop.visited_by(here.fileno())

            def serve() -> None:
                served.append(name)
                loop.remove_reader(here)
                loop.left_by(here.fileno())
                if len(served) == VISITORS + 1:
                    loop.stop()

            loop.add_reader(here, serve)

        for number in range(VISITORS):
            ready(f"visitor {number}", visitor=True)
        ready("ours", visitor=False)
        loop.run_forever()

    assert served.index("ours") == 0
    assert len(set(served)) == VISITORS + 1 > MOST_VISITORS


def test_a_descriptor_that_was_a_visitors_is_ours_again() -> None:
    """What has left is a visitor no more: its number may be the database's next."""
    loop = FairLoop()
    loop.visited_by(7)
    loop.left_by(7)
    loop.left_by(7)
    loop.close()

    assert loop._doorkeeper.visitors == set()


def test_ovl_1_every_visitor_has_its_turn() -> None:
    """Of a crowd that is always ready nobody is served twice more often than another."""
    served: Counter[int] = Counter()
    loop = FairLoop()
    with ExitStack() as stack:
        stack.callback(loop.close)

        def serve(number: int) -> None:
            served[number] += 1
            if served.total() == 5 * VISITORS:
                loop.stop()

        for number in range(VISITORS):
            here, there = (stack.enter_context(one) for one in socket.socketpair())
            there.send(b"x")
            loop.visited_by(here.fileno())
            loop.add_reader(here.fileno(), serve, number)
        loop.run_forever()

    assert set(served.values()) <= {4, 5, 6}
    assert len(served) == VISITORS


def test_a_visitor_is_read_and_written_to_and_left_alone_again() -> None:
    """What is waited for of a visitor can change and end as with anybody."""
    told: list[str] = []
    loop = FairLoop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        here, there = (stack.enter_context(one) for one in socket.socketpair())
        loop.visited_by(here.fileno())

        def written() -> None:
            told.append("written")
            loop.remove_writer(here)
            there.send(b"x")

        def read() -> None:
            told.append("read")
            loop.remove_reader(here)
            loop.call_later(0.01, loop.stop)

        loop.add_reader(here, read)
        loop.add_writer(here, written)
        loop.run_forever()

        assert told == ["written", "read"]
        assert (loop.remove_reader(here), loop.remove_writer(here)) == (False, False)


def test_ovl_1_who_was_let_in_waits_behind_no_crowd() -> None:
    """A visitor that is let in while it waits is served before the others, and once it is out again waits like them."""
    served: list[int] = []
    loop = FairLoop()
    with ExitStack() as stack:
        stack.callback(loop.close)

        def serve(number: int, here: socket.socket) -> None:
            served.append(number)
            loop.remove_reader(here)
            if len(served) == VISITORS:
                loop.stop()

        waiting = []
        for number in range(VISITORS):
            here, there = (stack.enter_context(one) for one in socket.socketpair())
            there.send(b"x")
            loop.visited_by(here.fileno())
            loop.add_reader(here.fileno(), serve, number, here)
            waiting.append(here)
        last, before = waiting[-1], waiting[-2]
        loop.left_by(last.fileno())
        loop.left_by(before.fileno())
        loop.visited_by(before.fileno())
        loop.run_forever()

    assert served[0] == VISITORS - 1
    assert served.index(VISITORS - 2) > MOST_VISITORS
    assert len(set(served)) == VISITORS
