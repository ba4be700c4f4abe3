"""Settings are checked once, together, and refused by name."""

import json

import pytest

from sem_search.errors import SettingsError
from sem_search.settings import (
    AS_THE_PAPER,
    PAPER_BATCH_SIZES,
    PAPER_LEARNING_RATES,
    PRESETS,
    build_paper_settings,
    build_settings,
    read_stored_settings,
)


def test_plain_call_is_a_quick_look_at_the_demonstration_set() -> None:
    settings = build_settings({})
    assert (settings.data, settings.preset) == ("demo", "quick")
    assert settings.n_cells < len(PAPER_LEARNING_RATES) * len(PAPER_BATCH_SIZES)


def test_own_data_get_the_standard_preset() -> None:
    assert build_settings({"data": "micrographs"}).preset == "standard"


def test_paper_preset_is_the_papers_protocol() -> None:
    settings = build_settings({"preset": "paper"})
    assert settings.learning_rates == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    assert settings.batch_sizes == (16, 32, 48, 64)
    assert (settings.epochs, settings.patience, settings.momentum) == (100, 0, 0.9)
    assert (settings.folds, settings.tile_px, settings.pruner, settings.select_on) == (5, 224, "none", "test")
    assert settings.resolved_stride_px == 224
    assert (settings.engine, settings.precision) == ("tensorflow", "float32"), "nothing that a machine measures"
    assert (settings.heads, settings.augment, settings.class_weight, settings.refit) == (
        ("finetune",),
        "none",
        "none",
        False,
    )
    assert settings.n_cells == 20


@pytest.mark.parametrize(("preset", "augment"), [("standard", "dihedral"), ("quick", "none")])
def test_other_presets_try_the_linear_head_as_well_and_waste_no_image(preset: str, augment: str) -> None:
    settings = build_settings({"preset": preset})
    assert (settings.heads, settings.augment, settings.refit) == (("linear", "finetune"), augment, True)


@pytest.mark.parametrize(
    ("heads", "n_cells"),
    [("linear", 1), ("finetune", 6), ("linear,finetune", 7), ("finetune,linear_init", 12), ("linear_init,linear", 7)],
)
def test_the_linear_head_is_one_cell_and_each_other_a_grid(heads: str, n_cells: int) -> None:
    given = {"heads": heads, "learning_rates": "1e-1,1e-2,1e-3", "batch_sizes": "16,32"}
    assert build_settings(given).n_cells == n_cells


def test_settings_of_an_older_study_are_the_paper_s_where_it_had_none() -> None:
    stored = build_settings({"preset": "quick", **AS_THE_PAPER}).model_dump(mode="json", exclude=set(AS_THE_PAPER))
    settings = read_stored_settings(json.dumps(stored))
    assert {name: getattr(settings, name) for name in AS_THE_PAPER} == dict(AS_THE_PAPER)
    assert settings.n_cells == 4


def test_heads_in_any_order_are_the_same_search() -> None:
    assert build_settings({"heads": "finetune,linear"}) == build_settings({"heads": "linear,finetune"})


@pytest.mark.parametrize("unset", [None, "auto"])
def test_auto_means_not_given(unset: str | None) -> None:
    assert build_settings({"epochs": unset, "data": unset}) == build_settings({})


def test_auto_is_a_value_of_its_own_for_weights() -> None:
    assert build_settings({"weights": "auto"}).weights == "auto"


def test_words_of_the_command_line_are_understood() -> None:
    settings = build_settings(
        {"learning_rates": "1e-2, 1e-3", "batch_sizes": "16,48", "exclude": "a,b", "skip_unreadable": "true"}
    )
    assert settings.learning_rates == (0.01, 0.001)
    assert settings.batch_sizes == (16, 48)
    assert settings.exclude == ("a", "b")
    assert settings.skip_unreadable is True


@pytest.mark.parametrize(("given", "size"), [("common", "common"), ("40", 40.0), (12.5, 12.5), ("auto", None)])
def test_a_pixel_size_is_a_number_or_that_of_the_coarsest_image(given: object, size: object) -> None:
    settings = build_settings({"pixel_size_nm": given})
    assert settings.pixel_size_nm == size
    assert read_stored_settings(settings.model_dump_json()) == settings


@pytest.mark.parametrize("given", ["0", "-3", "nan", "inf", "coarsest"])
def test_another_pixel_size_is_refused_in_one_sentence(given: str) -> None:
    with pytest.raises(
        SettingsError, match=f"^pixel_size_nm='{given}': give the width of a pixel in nm, above 0, or co"
    ):
        build_settings({"pixel_size_nm": given})


def test_given_beats_preset_and_preset_beats_default() -> None:
    settings = build_settings({"preset": "quick", "batch_sizes": "8"})
    assert settings.batch_sizes == (8,)
    assert settings.learning_rates == PRESETS["quick"]["learning_rates"]


@pytest.mark.parametrize("epochs", ["1", "2", "30"])
def test_any_number_of_epochs_is_fine_without_patience(epochs: str) -> None:
    assert build_settings({"epochs": epochs}).patience == 0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"epochs": "0"}, ["epochs", "0"]),
        ({"epochs": "many"}, ["epochs", "many"]),
        ({"epochs": "10", "patience": "10"}, ["patience=10", "epochs=10"]),
        ({"learning_rates": "0.1,-1"}, ["learning_rates", "-1"]),
        ({"learning_rates": "nan"}, ["learning_rates"]),
        ({"learning_rates": ","}, ["learning_rates"]),
        ({"learning_rates": "0.1,1e-1"}, ["learning_rates", "twice"]),
        ({"batch_sizes": "16,0"}, ["batch_sizes", "0"]),
        ({"batch_sizes": "16,16"}, ["batch_sizes", "twice"]),
        ({"heads": "linear,finetune,linear"}, ["heads=linear,linear,finetune", "twice"]),
        ({"heads": "linear", "sampler": "tpe"}, ["sampler=tpe", "heads=linear"]),
        ({"select_on": "test", "preset": "standard"}, ["refit=true", "select_on=test", "refit=false"]),
        ({"folds": "2"}, ["folds", "2", "3"]),
        ({"backbone": "vgg61"}, ["vgg61", "vgg16"]),
        ({"preset": "fast"}, ["fast", "standard"]),
        ({"engine": "onnx"}, ["engine='onnx'", "onnxruntime", "tensorflow"]),
        (
            {"engine": "onnxruntime", "precision": "bfloat16"},
            ["engine=onnxruntime contradicts precision=bfloat16", "leave one of them out"],
        ),
        ({"sampler": "best"}, ["sampler", "best", "grid"]),
        ({"trials": "22", "preset": "standard"}, ["trials=22", "21"]),
        ({"crop_bottom_px": "12"}, ["crop_bottom_px=12", "demo"]),
        ({"no_such": "1"}, ["no_such"]),
        ({"seed": "-1"}, ["seed", "-1"]),
        ({"dropout": "1"}, ["dropout"]),
        ({"tile_px": "8"}, ["tile_px", "8", "32"]),
        ({"timeout": "0"}, ["timeout"]),
    ],
)
def test_wrong_settings_are_refused_by_name(given: dict[str, str], names: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(given)
    for name in names:
        assert name in str(caught.value)


def test_more_trials_than_cells_are_fine_for_a_sampler() -> None:
    assert build_settings({"sampler": "tpe", "trials": "40", "preset": "standard"}).trials == 40


def test_registered_model_is_named_after_the_backbone() -> None:
    assert build_settings({"backbone": "mobilenet_v2"}).resolved_model_name == "sem-search-mobilenet-v2"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": ""}, "data='' names nothing: give a folder"),
        ({"data": "  "}, "data='  ' names nothing"),
        ({"overlaps": "join"}, "overlaps='join': it must be 'group', 'report' or 'ignore'"),
        ({"allow_errors": "label_conflict,no_such"}, "no_such cannot be allowed; what can is label_conflict"),
        ({"allow_errors": "class_too_small"}, "class_too_small cannot be allowed"),
        (
            {"exclude": "a\nb"},
            r"^exclude='a\\nb': names by commas are expected in one line, but it holds a line break [a-z ]+\.$",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        build_settings(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rates": "0.1;0.01"},
            "learning_rates='0.1;0.01': it must be a valid number, unable to parse string as a number, and "
            "several are separated by commas.",
        ),
        ({"batch_sizes": ","}, "batch_sizes: give at least one value."),
        (
            {"heads": "linear,lineal"},
            "heads='lineal': it must be 'linear', 'finetune' or 'linear_init', and several are separated by commas.",
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_told_once(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(given)
    assert str(caught.value) == message


def test_names_with_commas_stand_in_quotes() -> None:
    assert build_settings({"exclude": '"MCC, 50 um", starch'}).exclude == ("MCC, 50 um", "starch")
    assert build_settings({"exclude": ("MCC, 50 um",)}).exclude == ("MCC, 50 um",)


def test_images_of_one_place_are_grouped_unless_told_otherwise() -> None:
    settings = build_settings({"overlaps": "auto", "allow_errors": "auto"})
    assert (settings.overlaps, settings.allow_errors) == ("group", ())
    assert build_settings({"allow_errors": "label_conflict"}).allow_errors == ("label_conflict",)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("learning_rate", "learning_rate=3: there is no such setting; did you mean learning_rates?"),
        ("zzz", "zzz=3: there is no such setting."),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest_one(name: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        build_settings({name: 3})
    assert str(raised.value) == sentence


def test_the_paper_is_a_search_for_each_backbone_that_differ_in_nothing_else() -> None:
    first, second = build_paper_settings({"data": "x", "threads": "1"}, backbones=["vgg16", "resnet50"])
    assert (first.backbone, first.preset, first.study) == ("vgg16", "paper", None)
    assert second == first.model_copy(update={"backbone": "resnet50"})
    named = build_paper_settings({"study": "x", "preset": "quick"}, backbones=["vgg16", "resnet50"])
    assert [(one.study, one.preset) for one in named] == [("x-vgg16", "quick"), ("x-resnet50", "quick")]


@pytest.mark.parametrize("backbones", [[], ["vgg16", "vgg16"]])
def test_backbones_of_the_paper_are_one_or_more_each_once(backbones: list[str]) -> None:
    with pytest.raises(SettingsError, match=f"backbones='{','.join(backbones)}'"):
        build_paper_settings({}, backbones=backbones)
