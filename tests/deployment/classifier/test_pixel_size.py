import pytest

from sem_search.deployment.classifier.pixel_size import check_pixel_size

TRAINED_NM = {"lactose": (100.0, 200.0), "starch": (1000.0,)}


@pytest.mark.parametrize(
    ("pixel_size_nm", "state"),
    [
        (150.0, "as trained"),
        (67.0, "as trained"),
        (300.0, "as trained"),
        (1000.0, "as trained"),
        (1500.0, "as trained"),
        (66.0, "far"),
        (301.0, "far"),
        (600.0, "far"),
        (1501.0, "far"),
        (None, "unknown"),
    ],
)
def test_near_one_class_is_near_enough(pixel_size_nm: float | None, state: str) -> None:
    found, warning = check_pixel_size(pixel_size_nm, trained_nm=TRAINED_NM)
    assert found == state
    assert (warning is not None) == (state == "far")


def test_the_warning_gives_both_sizes() -> None:
    _, warning = check_pixel_size(12.34567, trained_nm=TRAINED_NM)
    assert warning is not None
    assert warning.startswith("its pixels are 12.35 nm wide, and those of the training images 100 to 1000 nm")


@pytest.mark.parametrize("trained_nm", [{}, {"starch": ()}])
def test_nothing_to_compare_with(trained_nm: dict[str, tuple[float, ...]]) -> None:
    assert check_pixel_size(10.0, trained_nm=trained_nm) == ("untold in training", None)


def test_less_is_said_where_all_images_are_brought_to_one_size() -> None:
    _, warning = check_pixel_size(9.0, trained_nm=TRAINED_NM, is_brought_to_one=True)
    assert warning is not None
    assert "sharpness and noise are others" in warning
    assert "means little" not in warning
