"""Recipes fit each other."""

from pretraining.recipe import RECIPES, PretrainingRecipe, shorten
from tests.pretraining.recipes import SCANS, TWIN


def test_every_teacher_has_a_recipe_and_no_teacher() -> None:
    teachers = {row.twin.teacher for row in RECIPES.values()} - {None}
    assert {RECIPES[str(name)].twin.teacher for name in teachers} <= {None}


def test_a_share_of_a_recipe_keeps_a_round() -> None:
    whole = PretrainingRecipe(scans=SCANS, twin=TWIN)
    assert [shorten(whole, share=share).twin.n_rounds for share in (1.0, 0.5, 0.01)] == [3, 2, 1]
