"""One connection: uvicorn's, which reads a little at once and does not wait for ever for who sends or takes nothing."""

import asyncio
import sys

from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 16_384
"""Taken from a connection at once. A body in chunks of one byte takes a second and more for each megabyte: in between,
others are answered."""

PACE_BYTES, PACE_S = 100_000, 10.0
"""A body, and an answer, must move by so many bytes in so many seconds: 10 kB/s. Slower callers are dropped."""

HEAD_LIMIT_S = 60.0
"""Longest from the beginning of a connection, or the first byte after an answer, to the whole head of a request. What
is left of a body that was refused counts, too."""

MOST_CONNECTIONS = 500
"""Open at once; further ones are dropped. Each takes an open file, of which a process often has 1,024, and models and
databases need some."""


class Connection(H11Protocol):
    """A connection of a caller."""

    _ending: asyncio.TimerHandle | None = None
    """Ends it, unless a request comes before."""
    _looking: asyncio.TimerHandle | None = None
    """Looks at the pace of an answer that is not taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to read."""
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's transports on sockets
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._limit_wait()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._limit_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: a timer would keep the connection in memory."""
        super().connection_lost(exc)
        for timer in (self._ending, self._looking):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Watch, from now on, whether the caller takes its answer."""
        super().pause_writing()
        self._look_at_pace(sys.maxsize)

    def resume_writing(self) -> None:
        """The caller has taken all, or has gone."""
        super().resume_writing()
        if self._looking is not None:
            self._looking.cancel()

    def _limit_wait(self) -> None:
        """Let the time run while no request is under way, however many bytes come."""
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self._ending is None:
            self._ending = self.loop.call_later(HEAD_LIMIT_S, self.transport.abort)
        elif not is_waiting and self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _look_at_pace(self, n_before: int) -> None:
        n_left = self.transport.get_write_buffer_size()
        if n_left > n_before - PACE_BYTES:
            self.transport.abort()
        else:
            self._looking = self.loop.call_later(PACE_S, self._look_at_pace, n_left)
