"""The event loop that does not let a crowd hold up our own work."""

import socket
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
