"""What inspection says of pixel sizes that differ by class."""

import pytest

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.inspection.confounds import compute_confounds, find_confounds, find_mixtures
from sem_search.micrographs.inspection.pixel_sizes import advise_on_pixel_size
from sem_search.micrographs.tiles import TileGrid
from tests.micrographs.conftest import MakeCatalogue, MakeRecord

GRID = TileGrid()


@pytest.fixture
def two_sizes(make_catalogue: MakeCatalogue, make_record: MakeRecord) -> Catalogue:
    """Ten images of each of two classes at two pixel sizes, and one without."""
    return make_catalogue(
        *(make_record(f"coarse/{n}.tif", pixel_size_nm=50.0) for n in range(10)),
        *(make_record(f"fine/{n}.tif", pixel_size_nm=20.0) for n in range(10)),
        make_record("fine/a.png"),
    )


def test_cost_of_the_common_size_stands_in_the_finding(two_sizes: Catalogue) -> None:
    advice = advise_on_pixel_size(two_sizes, grid=GRID, pixel_size_nm=None)
    (finding,) = find_confounds(two_sizes, compute_confounds(two_sizes), pixel_advice=advice)

    assert finding.kind == "confounded_pixel_size"
    assert finding.message.endswith(
        "pixel_size_nm=common is 50 nm, that of the coarsest image, and leaves 220 of 420 tiles (coarse 200 of 200; "
        "fine 20 of 220), and 1 image would be refused (fine/a.png), without a known pixel size or with no room for a "
        "tile."
    )


def test_tiles_of_an_image_are_counted_as_they_are_taken(two_sizes: Catalogue) -> None:
    advice = advise_on_pixel_size(two_sizes, grid=TileGrid(per_image=5), pixel_size_nm=None)

    assert "leaves 70 of 105 tiles (coarse 50 of 50; fine 20 of 55)" in advice


def test_what_a_search_does_is_said_instead(two_sizes: Catalogue) -> None:
    advice = advise_on_pixel_size(two_sizes, grid=GRID, pixel_size_nm=50.0)

    assert advice.startswith("All images are brought to 50 nm per pixel (pixel_size_nm), which leaves 220 of 420 tiles")


def test_nothing_is_offered_where_no_size_is_known(make_catalogue: MakeCatalogue, make_record: MakeRecord) -> None:
    catalogue = make_catalogue(make_record("a/0.png"), make_record("b/0.png"))

    assert "pixel_size_nm" not in advise_on_pixel_size(catalogue, grid=GRID, pixel_size_nm=None)


def test_sizes_within_a_class_are_no_matter_once_there_is_one(two_sizes: Catalogue) -> None:
    assert [finding.kind for finding in find_mixtures(two_sizes)] == ["mixed_pixel_size"]
    assert find_mixtures(two_sizes, is_brought_to_one=True) == []
