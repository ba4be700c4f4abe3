"""One connection: uvicorn's, which reads a little at once and does not wait for ever for who sends or takes nothing."""

import asyncio
import sys

from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 16_384
"""Taken from a connection at once. A body in chunks of one byte takes a second and more for each megabyte: in between,
others are answered."""

PACE_BYTES, PACE_S = 100_000, 10.0
"""A body, and an answer, must move by so many bytes in so many seconds: 10 kB/s. Slower callers are dropped."""

FIRST_LIMIT_S = 60.0
"""Longest that a new connection may be silent."""


class Connection(H11Protocol):
    """A connection of a caller."""

    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to read."""
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's transports on sockets
        super().connection_made(transport)
        self.loop.call_later(FIRST_LIMIT_S, self._end_if_silent)

    def pause_writing(self) -> None:
        """Watch, from now on, whether the caller takes its answer."""
        super().pause_writing()
        self._look_at_pace(sys.maxsize)

    def resume_writing(self) -> None:
        """The caller has taken all, or has gone."""
        super().resume_writing()
        if self._looking is not None:
            self._looking.cancel()

    def _end_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.abort()

    def _look_at_pace(self, n_before: int) -> None:
        n_left = self.transport.get_write_buffer_size()
        if n_left > n_before - PACE_BYTES:
            self.transport.abort()
        else:
            self._looking = self.loop.call_later(PACE_S, self._look_at_pace, n_left)
