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


def test_images_of_one_group_count_as_one(
    subject: AuditSubject, head_weights: dict[int, HeadWeights], monkeypatch: pytest.MonkeyPatch, show
) -> None:
    pairs = [place // 2 for place in range(5)] * 3  # of the five images of each class
    groups = tuple(f"{image.split('/')[0]} {pair}" for image, pair in zip(subject.tiles.image_ids, pairs, strict=True))
    joined = dataclasses.replace(subject, tiles=dataclasses.replace(subject.tiles, group_of_image=groups))
    asked: list[dict] = []
    correlate = room.correlate_heat
    monkeypatch.setattr(room, "correlate_heat", lambda maps, **given: asked.append(given) or correlate(maps, **given))
    audit = audit_morphology(joined, head_weights=head_weights, show=show)
    assert audit.folds.n_images == audit.deletion.n_images == len(set(groups)) < len(groups)
    assert {given["group_of_image"] for given in asked} == {groups}


def test_all_questions_are_answered_in_words(audit: MorphologyAudit) -> None:
    text = audit.to_text()
    for words in (
        "Heads of different folds order the places of a tile alike to",
        "With the new layers randomised a map keeps",
        "The network of study a study (tiny) orders the places of a tile alike",
        "Deleting the hottest cells first lowers",
        "particles were found; they cover",
        "equivalent diameter: ",
        "roughness: ",
        "Class by class, adjusted for the number of measures, not of classes:",
        "stripes: ",
    ):
        assert words in text


@pytest.mark.parametrize(("high", "words"), [(0.1, "do depend on what was learnt"), (0.9, "do not read them as what")])
def test_maps_that_randomised_weights_share_are_not_believed(audit: MorphologyAudit, high: float, words: str) -> None:
    folds = dataclasses.replace(audit.folds, rank_correlation=Interval(value=0.6, low=0.5, high=0.7))
    randomised = dataclasses.replace(audit.all_trained, rank_correlation=Interval(value=0.05, low=0.0, high=high))
    assert words in dataclasses.replace(audit, folds=folds, all_trained=randomised).to_text()


@pytest.mark.parametrize(
    ("p_value", "value", "words"),
    [
        (0.01, 0.4, "the heat lies on particles with large equivalent diameter"),
        (0.01, -0.4, "the heat lies on particles with small equivalent diameter"),
        (0.5, 0.4, "no more than chance"),
    ],
)
def test_a_correlation_is_told_with_its_sign(audit: MorphologyAudit, p_value: float, value: float, words: str) -> None:
    entry = dataclasses.replace(
        audit.correlations[0],
        adjusted_p_value=p_value,
        chance_correlation=0.0,
        correlation=Interval(value=value, low=value - 0.1, high=value + 0.1),
    )
    assert words in dataclasses.replace(audit, correlations=(entry,)).to_text()


def test_too_few_images_to_exchange_say_nothing(audit: MorphologyAudit) -> None:
    entry = dataclasses.replace(audit.correlations[0], p_value=0.2, adjusted_p_value=1.0, smallest_p_value=0.25)
    few = dataclasses.replace(audit, correlations=(entry,), of_class={"blobs": (entry,), "grains": ()})
    text = few.to_text()
    assert text.count("nothing can be said, too few images with the same number of tiles can exchange their heat") == 2
    assert "no p-value below 0.250 is possible" in text
    assert "grains: too few images with particles to say anything." in text
    alone = dataclasses.replace(entry, chance_correlation=None)
    assert "with the heat of other images" not in dataclasses.replace(audit, correlations=(alone,)).to_text()


def test_a_closed_bed_is_told(audit: MorphologyAudit) -> None:
    assert "Hardly any ground is seen" in dataclasses.replace(audit, share_covered=0.9).to_text()
    assert "Hardly any ground is seen" not in dataclasses.replace(audit, share_covered=0.4).to_text()
