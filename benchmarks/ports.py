"""Free ports of this machine, for servers that benchmarks and tests start."""

import socket


def find_free_port() -> int:
    """Return a port on which no process listens at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
