"""Two networks on the same tiles: alike where they are one, not alike where one looks anywhere."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.heat_maps.heat import HeadWeights
from sem_search.audits.heat_maps.morphology import MorphologyAudit
from sem_search.audits.heat_maps.other_network import OtherMaps, compare_networks, explain_study
from sem_search.audits.subject import AuditSubject
from tests.audits.conftest import MAP_TOLERANCE


def test_every_tile_is_explained_by_the_head_that_never_saw_it(
    subject: AuditSubject, head_weights: dict[int, HeadWeights], morphology: MorphologyAudit
) -> None:
    other = explain_study(subject, head_weights=head_weights)
    assert (other.study, other.backbone) == ("a study", "tiny")
    # The morphology audit explains all tiles with every head, so in batches of other shapes.
    np.testing.assert_allclose(other.maps, morphology.maps, rtol=0, atol=MAP_TOLERANCE)


def test_a_network_agrees_with_itself_at_any_resolution(subject: AuditSubject, morphology: MorphologyAudit) -> None:
    finer = OtherMaps(study="b", backbone="x", maps=morphology.maps.repeat(2, axis=1).repeat(2, axis=2))
    found = compare_networks(morphology.maps, other=finer, subject=subject)
    assert found.agreement.rank_correlation.value == pytest.approx(1.0)
    assert found.looks_alike
    assert "alike: belongs to the material" in dataclasses.replace(morphology, other=found).to_text()


def test_a_network_that_looks_anywhere_does_not_agree(subject: AuditSubject, morphology: MorphologyAudit) -> None:
    anywhere = np.random.default_rng(0).random(morphology.maps.shape)
    found = compare_networks(morphology.maps, other=OtherMaps(study="b", backbone="x", maps=anywhere), subject=subject)
    doubtful = dataclasses.replace(found.agreement, chance_rank_correlation=0.5)
    unlike = dataclasses.replace(morphology, other=dataclasses.replace(found, agreement=doubtful))
    assert "unlike: belongs to each network" in unlike.to_text()
    assert abs(found.agreement.rank_correlation.value) < 0.2
