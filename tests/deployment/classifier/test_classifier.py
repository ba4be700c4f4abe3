import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sem_search.deployment.classifier import classifier as classifier_module
from sem_search.deployment.classifier.classifier import (
    LARGEST,
    Deadline,
    ImageAnswer,
    MicrographClassifier,
)
from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.package.writing import ClassifierParts, write_model_folder
from sem_search.errors import ImageTooSmallError, RefusedRequestError, UnreadableImageError
from sem_search.evaluation.conformal import CrossAnswers
from sem_search.evaluation.metrics import combine_tiles
from sem_search.evaluation.novelty import score_novelty
from sem_search.micrographs.reading.micrograph import encode_tiff, read_micrograph
from sem_search.micrographs.tiles import TileGrid, cut_tiles

BAR_PX = 8


@pytest.fixture(scope="module")
def classifier(parts: ClassifierParts, tmp_path_factory: pytest.TempPathFactory) -> MicrographClassifier:
    folder = tmp_path_factory.mktemp("model") / "classifier"
    write_model_folder(parts, folder=folder)
    return read_classifier(folder)


@pytest.fixture(scope="module")
def bare(classifier: MicrographClassifier) -> MicrographClassifier:
    """The same network, not calibrated."""
    return MicrographClassifier(description=classifier.description, ensemble=classifier._ensemble)


@pytest.fixture(scope="module")
def images(pictures: Any) -> list[np.ndarray]:
    shapes = [(70, 100), (32, 32), (130, 200), (96, 33)]
    return [pictures.draw(*shape, seed=seed).astype(np.float32) / 255 for seed, shape in enumerate(shapes)]


def test_as_many_tiles_answer_as_the_model_was_measured_with(
    parts: ClassifierParts, images: list[np.ndarray], tmp_path: Path
) -> None:
    description = replace(parts.description, tiles_per_image=3, tiles_seed=5)
    write_model_folder(replace(parts, description=description), folder=tmp_path / "model")
    some = read_classifier(tmp_path / "model")
    for image in images:
        (answer,) = some.classify([image])
        assert answer.corners == tuple(description.grid.iter_corners(*image.shape))
        of_heads = some._ensemble.run(cut_tiles(image, grid=description.grid)).head_probabilities
        assert of_heads.shape[1] == min(3, len(list(parts.description.grid.iter_corners(*image.shape))))
        _, of_tiles = combine_tiles(np.concatenate(of_heads), image_of_tile=np.tile(np.arange(of_heads.shape[1]), 3))
        np.testing.assert_allclose(answer.tile_probabilities, of_tiles, atol=1e-6)
        np.testing.assert_allclose(some.explain(image).tile_probabilities, of_tiles, atol=1e-6)


def test_image_answers_are_its_tiles_and_heads_combined(bare: MicrographClassifier, images: list[np.ndarray]) -> None:
    image = images[0]
    tiles = cut_tiles(image, grid=TileGrid(size_px=32, stride_px=32))
    of_heads = bare._ensemble.run(tiles).head_probabilities
    _, wanted = combine_tiles(of_heads.reshape(-1, 3), image_of_tile=np.zeros(3 * len(tiles), dtype=np.int64))
    (answer,) = bare.classify([image])
    assert answer.corners == ((0, 0), (0, 32), (0, 64), (32, 0), (32, 32), (32, 64))
    assert np.abs(answer.probabilities - wanted[0]).max() < 1e-6
    assert answer.label == wanted[0].argmax()
    assert answer.overlay_png is None


def test_tiles_and_heads_lead_to_the_same_answer(bare: MicrographClassifier, images: list[np.ndarray]) -> None:
    """Heads first or tiles first: one rule joins both, so the order does not matter."""
    (answer,) = bare.classify([images[0]])
    for rows in (answer.tile_probabilities, answer.head_probabilities):
        _, joined = combine_tiles(rows, image_of_tile=np.zeros(len(rows), dtype=np.int64))
        assert np.abs(joined[0] - answer.probabilities).max() < 1e-6


def test_heads_and_tiles_together_are_no_worse_than_their_average(
    classifier: MicrographClassifier, images: list[np.ndarray]
) -> None:
    for answer in classifier.classify(images):
        losses, loss = -np.log(answer.head_probabilities), -np.log(answer.probabilities)
        assert (loss <= losses.mean(axis=0) + 1e-9).all()


def test_agreement_and_spread_of_the_heads() -> None:
    answer = ImageAnswer(
        probabilities=np.array([0.6, 0.3, 0.1]),
        head_probabilities=np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]]),
        tile_probabilities=np.array([[0.6, 0.3, 0.1]]),
        novelty=None,
        corners=((0, 0),),
    )
    assert answer.label == 0
    assert answer.agreement == pytest.approx(2 / 3)
    assert answer.spread == pytest.approx(np.std([0.7, 0.5, 0.3]))


def test_temperature_makes_answers_less_sure_and_leaves_tiles_alone(
    bare: MicrographClassifier, images: list[np.ndarray]
) -> None:
    calibration = Calibration(
        temperature=2.0,
        answers=CrossAnswers(
            of_true_class=np.array([0.5]), network_of_image=np.array([0]), group_of_image=np.array([0])
        ),
    )
    warm = MicrographClassifier(description=bare.description, ensemble=bare._ensemble, calibration=calibration)
    (cold_answer,), (answer,) = bare.classify([images[0]]), warm.classify([images[0]])
    root = np.sqrt(cold_answer.probabilities)
    assert answer.probabilities == pytest.approx(root / root.sum())
    assert answer.head_probabilities.sum(axis=1) == pytest.approx(np.ones(3))
    assert answer.tile_probabilities == pytest.approx(cold_answer.tile_probabilities)


def test_novelty_is_scored_over_all_tiles_of_an_image(
    classifier: MicrographClassifier, images: list[np.ndarray]
) -> None:
    novelty = classifier.calibration.novelty
    tiles = cut_tiles(images[2], grid=TileGrid(size_px=32, stride_px=32))
    embeddings = classifier._ensemble.run(tiles).embeddings
    _, (wanted,) = score_novelty(novelty, embeddings, image_of_tile=np.zeros(len(tiles), dtype=np.int64))
    assert classifier.classify([images[2]])[0].novelty == pytest.approx(wanted, rel=1e-4)
    assert classifier.explain(images[2]).novelty == pytest.approx(wanted, rel=1e-4)


def test_what_cannot_be_scored_has_no_novelty_and_infinity_is_a_number(
    classifier: MicrographClassifier, bare: MicrographClassifier, images: list[np.ndarray]
) -> None:
    assert bare.classify([images[0]])[0].novelty is None
    assert classifier._score_novelty(np.full((2, 8), np.nan)) == LARGEST


@pytest.mark.parametrize("ask", ["classify", "explain"])
def test_a_deadline_that_has_passed_ends_the_work(
    classifier: MicrographClassifier, images: list[np.ndarray], ask: str
) -> None:
    deadline = Deadline(limit_s=9.0, ends_s=time.monotonic() - 1)
    with pytest.raises(
        RefusedRequestError,
        match=r"than the 9 s that there are: send fewer at once, or .* longer --timeout.*augment=none",
    ):
        classifier.classify(images, deadline=deadline) if ask == "classify" else classifier.explain(
            images[0], deadline=deadline
        )


def test_images_are_answered_alike_in_any_company(classifier: MicrographClassifier, images: list[np.ndarray]) -> None:
    together = classifier.classify(images)
    for image, answer in zip(images, together, strict=True):
        (alone,) = classifier.classify([image])
        assert answer.corners == alone.corners
        assert np.abs(answer.probabilities - alone.probabilities).max() < 1e-6
        assert np.abs(answer.tile_probabilities - alone.tile_probabilities).max() < 1e-6


def test_no_image_no_answer(classifier: MicrographClassifier) -> None:
    assert classifier.classify([]) == ()


@pytest.mark.parametrize("kept_tiles", [0, 256], ids=["features computed again", "features kept"])
def test_explained_answers_are_the_same_answers(
    classifier: MicrographClassifier, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, kept_tiles: int
) -> None:
    monkeypatch.setattr(classifier_module, "KEPT_TILES", kept_tiles)
    image = images[2]
    (plain,) = classifier.classify([image])
    explained = classifier.explain(image)
    assert np.abs(plain.probabilities - explained.probabilities).max() < 1e-6
    with Image.open(io.BytesIO(explained.overlay_png)) as picture:
        assert picture.size == (200, 130)


def test_overlay_does_not_depend_on_whether_features_were_kept(
    classifier: MicrographClassifier, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images[2]
    kept = classifier.explain(image).overlay_png
    monkeypatch.setattr(classifier_module, "KEPT_TILES", 0)
    pictures = [
        np.asarray(Image.open(io.BytesIO(png)), dtype=int) for png in (kept, classifier.explain(image).overlay_png)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_reading_is_the_search_s_own(classifier: MicrographClassifier, pictures: Any) -> None:
    content = pictures.encode(pictures.draw(), "JPEG")
    assert np.array_equal(classifier.read(content, name="x").pixels, read_micrograph(content).pixels)


def test_reading_removes_the_data_bar(
    tmp_path: Path, make_parts: Callable[..., ClassifierParts], pictures: Any
) -> None:
    write_model_folder(make_parts(crop_bottom_px=BAR_PX, n_heads=1), folder=tmp_path / "model")
    classifier = read_classifier(tmp_path / "model")
    assert classifier.read(pictures.encode(pictures.draw(70, 100)), name="x").pixels.shape == (62, 100)
    with pytest.raises(ImageTooSmallError, match=r"x: is 100 x 31 px without its data bar.*32 x 32"):
        classifier.read(pictures.encode(pictures.draw(39, 100)), name="x")


@pytest.mark.parametrize(
    ("make_content", "error", "message"),
    [
        (lambda pictures: b"", UnreadableImageError, "row 3: is empty"),
        (lambda pictures: b"not a picture", UnreadableImageError, "row 3: is not an image of a known format"),
        (lambda pictures: pictures.encode(pictures.draw())[:500], UnreadableImageError, "row 3: .*truncated"),
        (
            lambda pictures: pictures.encode(np.zeros((1, 4000000), np.uint8)),
            UnreadableImageError,
            "row 3: .*megapixels",
        ),
        (lambda pictures: pictures.encode(pictures.draw(31, 100)), ImageTooSmallError, "row 3: is 100 x 31 px"),
    ],
    ids=["empty", "text", "truncated", "bomb", "too small"],
)
def test_what_cannot_be_read(
    classifier: MicrographClassifier,
    pictures: Any,
    make_content: Callable[[Any], bytes],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        classifier.read(make_content(pictures), name="row 3")


@pytest.fixture(scope="module")
def of_one_size(parts: ClassifierParts, tmp_path_factory: pytest.TempPathFactory) -> MicrographClassifier:
    """The same network, which brings all images to 40 nm per pixel."""
    folder = tmp_path_factory.mktemp("model") / "classifier"
    described = replace(parts.description, pixel_size_nm=40.0)
    write_model_folder(replace(parts, description=described), folder=folder)
    return read_classifier(folder)


def test_images_are_brought_to_the_pixel_size_of_training(of_one_size: MicrographClassifier, pictures: Any) -> None:
    levels = pictures.draw(160, 200, seed=3)
    fine = of_one_size.read(encode_tiff(levels, pixel_nm=20.0), name="x")
    same = of_one_size.read(encode_tiff(levels, pixel_nm=40.0), name="x")
    assert fine.pixels.shape == (80, 100)
    assert same.pixels is same.original
    np.testing.assert_array_equal(fine.original, same.original)
    blocks = same.pixels.reshape(80, 2, 100, 2).mean(axis=(1, 3))
    by_hand, served = of_one_size.classify([blocks, fine.pixels])
    np.testing.assert_allclose(served.probabilities, by_hand.probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("pixel_nm", "words"),
    [
        (60.0, "its pixels are 60 nm wide, too coarse for the 40 nm"),
        (
            5.0,
            r"is 25 x 20 px without its data bar at 40 nm per pixel, and the classifier looks at tiles of 32 x 32 px",
        ),
    ],
)
def test_images_that_cannot_be_brought_to_it_are_refused(
    of_one_size: MicrographClassifier, pictures: Any, pixel_nm: float, words: str
) -> None:
    content = encode_tiff(pictures.draw(160, 200, seed=3), pixel_nm=pixel_nm)
    with pytest.raises((UnreadableImageError, ImageTooSmallError), match=f"row 1: {words}"):
        of_one_size.read(content, name="row 1")


def test_an_image_without_a_pixel_size_is_refused_by_such_a_model(
    of_one_size: MicrographClassifier, pictures: Any
) -> None:
    with pytest.raises(UnreadableImageError, match="row 1: does not state its pixel size"):
        of_one_size.read(pictures.encode(pictures.draw(160, 200, seed=3)), name="row 1")


def test_heat_of_several_classes_is_drawn_on_one_scale_and_of_one_head_alone(
    classifier: MicrographClassifier, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_module, "stretch_contrast", lambda image: image)  # as `explain` shows it
    image = images[2]
    explained = classifier.explain(image)
    (drawn,) = classifier.draw_heat(image, labels=[explained.label])
    expected = np.asarray(Image.open(io.BytesIO(explained.overlay_png)), dtype=int)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    of_head = [
        classifier.draw_heat(image, labels=[explained.label], head=head, max_side_px=100)[0] for head in range(2)
    ]
    assert of_head[0].shape == (65, 100, 3)
    assert not np.array_equal(of_head[0], of_head[1])
    assert len(classifier.draw_heat(image, labels=[0, 1])) == 2
