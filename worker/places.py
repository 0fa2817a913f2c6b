"""Where one message stands that was let begin: on a seat, or getting ready behind one."""

import asyncio
from typing import Generic

from worker.seats import Seats, Waiting


class Place(Generic[Waiting]):
    """The place of one message."""

    def __init__(self, seats: Seats[Waiting], *, seated: bool) -> None:
        self._seats = seats
        self._seated = seated
        self._left = False
        #: Whether it was let begin without a seat, and so without a permit.
        self.got_ready = not seated

    async def sit(self) -> bool:
        """Return with a seat, or False when there is none for us."""
        if not self._seated:
            told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._seats.ready.append(lambda seated: None if told.done() else told.set_result(seated))
            # A seat may have been left while this one was getting ready, when there was nobody to sit down.
            self._seats.seat_ready()
            self._seated = await told
        return self._seated

    def leave(self) -> bool:
        """Give it back; False when that was done before."""
        if self._left:
            return False
        self._left = True
        if self._seated:
            self._seats.leave()
        else:
            self._seats.without -= 1
        return True
