"""What the help says is what the settings are."""

from sem_search.options import OPTIONS
from sem_search.settings import SearchSettings


def write(default: object) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, tuple):
        return ",".join(f"{value:g}" for value in default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_every_setting_has_one_option_in_the_same_order() -> None:
    assert [option.name for option in OPTIONS] == list(SearchSettings.model_fields)


def test_defaults_are_those_of_the_settings() -> None:
    for option in OPTIONS:
        field = SearchSettings.model_fields[option.name]
        assert option.default == ("" if field.default_factory else write(field.default)), option.name
        assert option.is_switch == (field.annotation is bool), option.name


def test_every_option_is_explained_in_a_sentence() -> None:
    for option in OPTIONS:
        assert option.description.endswith("."), option.name
