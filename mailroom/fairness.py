"""An event loop on which a crowd of visitors does not hold up our own work.

asyncio serves whatever is ready in one long round. With two thousand connections a round takes half a second, and a
question to the database several rounds: no snapshot is fresh any more, no commit is in time, and all that comes is
refused. Here a round serves a few visitors and everything else; the others wait where they are, at the kernel (OVL-1).
"""

import asyncio
import contextlib
import select
import selectors
from typing import Any

#: Visitors that one round serves: a few milliseconds' worth. With twice as many a burst fills all places before a commit
#: has had its turn to free some, and what is then refused takes the time of what could have been taken in.
MOST_VISITORS = 16

_Ready = list[tuple[selectors.SelectorKey, int]]


class _Lobby:
    """Where visitors wait. It tells of a few of them: to list a whole crowd takes as long as to serve some of it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def find(self, descriptor: int) -> selectors.SelectorKey | None:
        """What is waited for on this descriptor."""
        return self._keys.get(descriptor)

    def watch(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        """Wait for this on its descriptor, and for nothing else on it."""
        mask = (select.EPOLLIN if key.events & selectors.EVENT_READ else 0) | (
            select.EPOLLOUT if key.events & selectors.EVENT_WRITE else 0
        )
        (self._epoll.modify if key.fd in self._keys else self._epoll.register)(key.fd, mask)
        self._keys[key.fd] = key
        return key

    def forget(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        """Wait for nothing on its descriptor any more."""
        with contextlib.suppress(OSError):  # it was closed, and so the kernel has forgotten it
            self._epoll.unregister(key.fd)
        return self._keys.pop(key.fd)

    def few(self) -> _Ready:
        """Those that have been ready longest: the kernel puts whom it has told of behind the others."""
        ready = []
        for descriptor, event in self._epoll.poll(0, MOST_VISITORS):
            key = self._keys[descriptor]
            # Whatever is neither is an end, and told to both.
            events = (selectors.EVENT_READ if event & ~select.EPOLLOUT else 0) | (
                selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            )
            ready.append((key, events & key.events))
        return ready


class _Doorkeeper(selectors.DefaultSelector):
    """Lets few visitors in at once, in the order in which they came, and holds up nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.visitors: set[int] = set()
        self._lobby = _Lobby()
        self._door = super().register(self._lobby, selectors.EVENT_READ)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for this; a visitor waits in the lobby."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if descriptor not in self.visitors:
            return super().register(fileobj, events, data)
        return self._lobby.watch(selectors.SelectorKey(fileobj, descriptor, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for something else."""
        key = self._visitor(fileobj)
        if key is None:
            return super().modify(fileobj, events, data)
        return self._lobby.watch(key._replace(events=events, data=data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Wait no more."""
        key = self._visitor(fileobj)
        return super().unregister(fileobj) if key is None else self._lobby.forget(key)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What is waited for; KeyError where it is nothing."""
        return self._visitor(fileobj) or super().get_key(fileobj)

    def see_out(self, descriptor: int) -> None:
        """Have it wait in the lobby, also with what is waited for already."""
        self.visitors.add(descriptor)
        if (key := self.get_map().get(descriptor)) is not None:
            self._lobby.watch(super().unregister(key.fileobj))

    def let_in(self, descriptor: int) -> None:
        """Have it wait like our own."""
        self.visitors.discard(descriptor)
        if (key := self._lobby.find(descriptor)) is not None:
            self._lobby.forget(key)
            super().register(key.fileobj, key.events, key.data)

    def select(self, timeout: float | None = None) -> _Ready:
        """What is ready and may be served now."""
        ready = super().select(timeout)
        ours = [one for one in ready if one[0] is not self._door]
        return ours if len(ours) == len(ready) else ours + self._lobby.few()

    def close(self) -> None:
        """The end."""
        super().close()
        self._lobby.close()

    def _visitor(self, fileobj: Any) -> selectors.SelectorKey | None:
        return self._lobby.find(fileobj if isinstance(fileobj, int) else fileobj.fileno())


class FairLoop(asyncio.SelectorEventLoop):
    """The event loop of a process that serves strangers."""

    def __init__(self) -> None:
        self._doorkeeper = _Doorkeeper()
        super().__init__(self._doorkeeper)

    def visited_by(self, descriptor: int) -> None:
        """This connection is a visitor's from now on."""
        self._doorkeeper.see_out(descriptor)

    def left_by(self, descriptor: int) -> None:
        """It is nobody's any more, or its visitor has come in and is served like our own."""
        self._doorkeeper.let_in(descriptor)
