"""What a store is: a place to run queries in, and the three ways that can fail."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

Args = ParamSpec("Args")
Result = TypeVar("Result")


class StoreUnavailable(Exception):
    """The database could not be reached or would not do it; nothing was done."""


class CommitUnknown(Exception):
    """Contact was lost after the work had been sent: it may or may not have been done."""


class BadRow(Exception):
    """The database refuses the data itself; trying again cannot help."""


class Store(Protocol):
    """Runs queries: functions whose first argument is a Connection.

    All three raise StoreUnavailable, BadRow, and (not `read`) CommitUnknown; nothing else of the database gets out.
    """

    async def statement(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work of a single statement that finds its rows by key, which is committed when this returns."""
        ...

    async def transaction(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work in one transaction, which is committed when this returns."""
        ...

    async def read(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work that changes nothing."""
        ...

    async def aclose(self) -> None:
        """Let go of every connection."""
        ...
