"""What a client's calls and streams know of the way to the server, together."""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, TypeVar

EventT = TypeVar("EventT", bound=threading.Event | asyncio.Event)


class Link(Generic[EventT]):
    """The way to one server, or to all of one name.

    Attributes:
        closing: set when the client is closed.
        answered: whether there was ever an answer. From then on calls wait, within their timeouts, while there is no
            connection, for the server was there and comes back. Before, the address may be wrong, and they fail.
    """

    def __init__(self, closing: EventT) -> None:
        self.closing = closing
        self.answered = False
