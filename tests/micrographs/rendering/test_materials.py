import re

import pytest

from sem_search.micrographs.rendering.materials import MATERIALS, Material


def test_ten_materials_as_in_the_paper() -> None:
    families = [material.name.split("-")[0] for material in MATERIALS]
    assert {family: families.count(family) for family in families} == {
        "cellulose": 4,
        "starch": 1,
        "mannitol": 2,
        "lactose": 3,
    }
    assert len({material.name for material in MATERIALS}) == 10


@pytest.mark.parametrize("material", MATERIALS, ids=lambda material: material.name)
def test_parameters_are_in_range(material: Material) -> None:
    assert re.fullmatch(r"[a-z]+-[a-z]+", material.name)
    assert material.aspect >= 1.0 and material.width_px > 0.0
    for share in (material.boxiness, material.flatness, material.facet_depth, material.cover):
        assert 0.0 <= share <= 1.0


def test_celluloses_go_from_fibrous_to_nearly_round_and_lactoses_from_fine_to_coarse() -> None:
    of = {material.name: material for material in MATERIALS}
    forms = ("fibrous", "elongated", "irregular", "rounded")
    aspects = [of[f"cellulose-{form}"].aspect for form in forms]
    widths = [of[f"lactose-{grade}"].width_px for grade in ("fine", "medium", "coarse")]
    assert aspects == sorted(aspects, reverse=True) and aspects[-1] < 1.5
    assert widths == sorted(widths) and widths[-1] > 2.0 * widths[0]
