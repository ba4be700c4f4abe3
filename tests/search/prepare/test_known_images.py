"""What the study's materials look like to the trunk."""

import numpy as np

from sem_search.evaluation.novelty import UNKNOWN_ABOVE, score_novelty
from sem_search.search.prepare.known_images import fit_known_images
from sem_search.transfer.features import embed_stored_features


def test_the_study_s_own_images_are_known(data, features) -> None:
    model = fit_known_images(data, features=features)
    assert model.n_images == len(data.tiles.image_ids)
    _, scores = score_novelty(model, embed_stored_features(features.arrays), image_of_tile=data.tiles.image_of_tile)
    assert (scores <= UNKNOWN_ABOVE).mean() > 0.9


def test_what_looks_otherwise_is_not(data, features) -> None:
    model = fit_known_images(data, features=features)
    strange = embed_stored_features(features.arrays)[:4] * -3 + 7
    _, scores = score_novelty(model, strange, image_of_tile=np.zeros(4, dtype=np.int64))
    assert scores[0] > UNKNOWN_ABOVE


def test_it_is_computed_once_for_all_trials(prepared) -> None:
    assert prepared.novelty is prepared.novelty
