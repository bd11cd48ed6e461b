"""Connections of clients that hang: ended, so that they take no place from others."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 5.0  # seconds in which a request's head must have come
STUCK_S = 30.0  # seconds that a client may leave an answer unread


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn has it; uvicorn itself waits for a client for ever.

    A request's body has its time where it is read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._await_head()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # a request is under way
            self._end_wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._end_wait()
        super().on_response_complete()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def _end_wait(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
