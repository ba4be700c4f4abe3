"""Heat maps held against themselves and against particles: what is said follows what was found."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.heat_maps import morphology as room
from sem_search.audits.heat_maps.heat import HeadWeights
from sem_search.audits.heat_maps.morphology import MorphologyAudit, audit_morphology
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.heat_maps.agreement import compute_heat_map_agreement
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.report.answer_page import Table
from tests.audits.conftest import MAP_TOLERANCE


@pytest.fixture(scope="module")
def audit(morphology: MorphologyAudit) -> MorphologyAudit:
    return morphology


def test_every_tile_is_explained_by_the_head_that_never_saw_it(
    audit: MorphologyAudit, subject: AuditSubject, head_weights: dict[int, HeadWeights]
) -> None:
    fold = subject.winner.folds[1]
    own = room.Explainer(subject).explain(head_weights[fold.fold], fold.test_tiles)
    # In batches of other shapes float32 sums run in another order: on some processors the last digit differs.
    np.testing.assert_allclose(audit.maps[fold.test_tiles], own, rtol=0, atol=MAP_TOLERANCE)


def test_the_folds_are_held_against_one_another_by_heads_that_were_not_trained_on_the_tile(
    audit: MorphologyAudit, subject: AuditSubject, head_weights: dict[int, HeadWeights]
) -> None:
    explainer = room.Explainer(subject)
    maps = np.zeros((2, *audit.maps.shape))
    for fold in subject.winner.folds:
        for place, tiles in enumerate((fold.test_tiles, fold.validation_tiles)):
            maps[place, tiles] = explainer.explain(head_weights[fold.fold], tiles)
    expected = compute_heat_map_agreement(maps, image_of_tile=subject.tiles.image_of_tile, seed=subject.seed)
    assert audit.folds == expected


def test_with_refit_the_heads_of_the_search_explain_validation_tiles(
    subject: AuditSubject, head_weights: dict[int, HeadWeights], show
) -> None:
    """The served heads have learnt from them."""
    explainer = room.Explainer(subject)
    served = {fold: explainer.randomise(weights, with_convolution=True) for fold, weights in head_weights.items()}
    audit = audit_morphology(subject, head_weights=served, searched_weights=head_weights, show=show)
    maps = np.zeros((2, *audit.maps.shape))
    for fold in subject.winner.folds:
        maps[0, fold.test_tiles] = explainer.explain(served[fold.fold], fold.test_tiles)
        maps[1, fold.validation_tiles] = explainer.explain(head_weights[fold.fold], fold.validation_tiles)
    expected = compute_heat_map_agreement(maps, image_of_tile=subject.tiles.image_of_tile, seed=subject.seed)
    assert audit.folds == expected


def test_images_of_one_group_count_as_one(
    subject: AuditSubject, head_weights: dict[int, HeadWeights], monkeypatch: pytest.MonkeyPatch, show
) -> None:
    pairs = [place // 2 for place in range(5)] * 3  # of the five images of each class
    groups = tuple(f"{image.split('/')[0]} {pair}" for image, pair in zip(subject.tiles.image_ids, pairs, strict=True))
    tiles = dataclasses.replace(subject.tiles, group_of_image=groups)
    joined = dataclasses.replace(subject, outcome=dataclasses.replace(subject.outcome, tiles=tiles))
    asked: list[dict] = []
    correlate = room.correlate_heat
    monkeypatch.setattr(room, "correlate_heat", lambda maps, **given: asked.append(given) or correlate(maps, **given))
    audit = audit_morphology(joined, head_weights=head_weights, searched_weights=head_weights, show=show)
    assert audit.folds.n_images == audit.deletion.n_images == len(set(groups)) < len(groups)
    assert {given["group_of_image"] for given in asked} == {groups}


def test_everything_that_was_checked_stands_in_a_table(morphology_text: str) -> None:
    for words in (
        "order, heads of two folds",
        "hottest tenth shared, heads of two folds",
        "order left, new layers randomised",
        "order left, last convolution randomised, too",
        "loss, hottest cells deleted first",
        "gain, hottest cells inserted first",
        "order, network of study a study (tiny)",
        "particles were found; they cover",
        "\nequivalent diameter  ",
        "\nroughness  ",
        "\nstripes  ",
    ):
        assert words in morphology_text


@pytest.fixture
def morphology_text(audit: MorphologyAudit) -> str:
    return audit.to_text()


@pytest.mark.parametrize(
    ("randomised", "chance", "deletion", "light", "verdict"),
    [
        (0.1, 0.2, -0.1, "good", "The maps can be read"),
        (0.9, 0.2, -0.1, "bad", "Do not read the maps as what was learnt"),
        (0.1, 0.6, -0.1, "unclear", "Read the maps with care"),
        (0.1, 0.2, 0.1, "unclear", "Read the maps with care"),
    ],
)
def test_maps_are_read_only_if_all_three_checks_hold(
    audit: MorphologyAudit, randomised: float, chance: float, deletion: float, light: str, verdict: str
) -> None:
    folds = dataclasses.replace(
        audit.folds, rank_correlation=Interval(value=0.6, low=0.5, high=0.7), chance_rank_correlation=chance
    )
    agreement = dataclasses.replace(audit.all_trained, rank_correlation=Interval(value=0.05, low=0.0, high=randomised))
    changed = Interval(value=deletion, low=deletion - 0.01, high=deletion + 0.01)
    curves = dataclasses.replace(audit.deletion, difference=changed)
    no_gain = dataclasses.replace(audit.insertion, difference=Interval(value=0.0, low=-0.1, high=0.1))
    answer = dataclasses.replace(
        audit, folds=folds, all_trained=agreement, deletion=curves, insertion=no_gain
    ).to_answer()
    assert (answer.light, answer.verdict) == (light, verdict)


@pytest.mark.parametrize(
    ("p_value", "value", "words"),
    [
        (0.01, 0.4, "The heat lies on particles with large equivalent diameter."),
        (0.01, -0.4, "The heat lies on particles with small equivalent diameter."),
        (0.5, 0.4, "The heat goes with no measure of the particles: no more than chance."),
    ],
)
def test_a_correlation_is_told_with_its_sign(audit: MorphologyAudit, p_value: float, value: float, words: str) -> None:
    entry = dataclasses.replace(
        audit.correlations[0],
        adjusted_p_value=p_value,
        chance_correlation=0.0,
        correlation=Interval(value=value, low=value - 0.1, high=value + 0.1),
    )
    assert dataclasses.replace(audit, correlations=(entry,)).to_text().endswith(words)


def test_a_class_s_row_marks_what_was_found(audit: MorphologyAudit) -> None:
    entry = dataclasses.replace(
        audit.correlations[1], adjusted_p_value=0.01, correlation=Interval(value=-0.25, low=-0.3, high=-0.2)
    )
    (table,) = dataclasses.replace(audit, of_class={"blobs": (entry,)}).to_answer().sections[1].parts
    assert isinstance(table, Table)
    assert table.rows[0].cells == ("blobs", "", "-0.25 *", "", "", "", "small aspect ratio")


def test_too_few_images_to_exchange_say_nothing(audit: MorphologyAudit) -> None:
    entry = dataclasses.replace(audit.correlations[0], p_value=0.2, adjusted_p_value=1.0, smallest_p_value=0.25)
    few = dataclasses.replace(audit, correlations=(entry,), of_class={"blobs": (entry,), "grains": ()})
    text = few.to_text()
    assert text.count("cannot tell: so few images allow no p below 0.250") == 2
    assert "Cannot tell on which particles the heat lies: so few images allow no p below 0.250." in text
    assert "goes with no measure" not in text
    assert "cannot tell: too few images with particles" in text
    table = dataclasses.replace(audit, correlations=(dataclasses.replace(entry, chance_correlation=None),))
    assert table.to_answer().sections[0].parts[1].rows[0].cells[2] == ""  # type: ignore[union-attr]


def test_a_closed_bed_is_told(audit: MorphologyAudit) -> None:
    assert "Hardly any ground is seen" in dataclasses.replace(audit, share_covered=0.9).to_text()
    assert "Hardly any ground is seen" not in dataclasses.replace(audit, share_covered=0.4).to_text()
