"""Particles of all images, numbered through, and where in the tiles they lie."""

import numpy as np
import pytest

from sem_search.audits.heat_maps.morphology import MorphologyAudit
from sem_search.audits.heat_maps.particle_table import measure_images
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError


def test_particles_of_each_tile_are_those_of_its_image(morphology: MorphologyAudit, subject: AuditSubject) -> None:
    table = morphology.particles
    for tile, image in enumerate(subject.tiles.image_of_tile):
        numbers = np.unique(table.particle_maps[tile])
        assert set(table.image_of_particle[numbers[numbers > 0] - 1]) <= {image}
    assert table.particle_maps.shape[1] % morphology.maps.shape[1] == 0
    assert morphology.n_particles == len(table.measures["solidity"]) > 10


def test_maps_that_do_not_fit_the_tiles_are_refused(subject: AuditSubject) -> None:
    with pytest.raises(DataError, match="tile_px=48 is no multiple of a heat map of 7 x 7 cells"):
        measure_images(subject, shape=(7, 7))
