import numpy as np
import pytest

from sem_search.transfer import embeddings
from sem_search.transfer.embeddings import average_channels, embed_stored_features


def draw(n_tiles: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n_tiles)
    return [rng.normal(size=(n_tiles, 7, 5, 3)).astype(np.float32), rng.normal(size=(n_tiles, 2, 2, 4)).astype("f4")]


def test_each_channel_is_averaged_over_the_tile() -> None:
    arrays = draw(6)
    wanted = np.concatenate([array.mean(axis=(1, 2)) for array in arrays], axis=1)
    assert average_channels(arrays).numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("n_tiles", [1, 4, 5, 9])
def test_stored_features_are_read_in_parts(n_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "CHUNK_TILES", 4)
    arrays = draw(n_tiles)
    found = embed_stored_features(arrays)
    assert found.dtype == np.float64
    assert found == pytest.approx(average_channels(arrays).numpy(), abs=1e-6)


def test_features_without_place_are_taken_as_they_are() -> None:
    flat = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(average_channels([flat]).numpy(), flat)
