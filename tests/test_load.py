"""Many workers on one real PostgreSQL: every cell is claimed once."""

from importlib.util import find_spec

import pytest

from benchmarks.load import measure_load
from tests.servers.postgres import find_obstacle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle())),
    pytest.mark.skipif(
        not (find_spec("psycopg") or find_spec("pg8000")), reason="no driver for PostgreSQL is installed"
    ),
]


def check_load(*, n_workers: int, n_cells: int, n_processes: int) -> None:
    figures = measure_load(n_workers=n_workers, n_cells=n_cells, n_processes=n_processes)
    assert (figures["lost"], figures["doubled"]) == (0, 0)
    assert figures["finished"] == figures["complete"] == n_cells


def test_eight_workers_share_eighty_cells() -> None:
    check_load(n_workers=8, n_cells=80, n_processes=2)


@pytest.mark.long
def test_sixty_four_workers_share_two_thousand_cells() -> None:
    check_load(n_workers=64, n_cells=2000, n_processes=4)
