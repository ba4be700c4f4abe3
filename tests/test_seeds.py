"""Derived seeds are stable, in range and independent of each other."""

from sem_search.seeds import derive_seed


def test_the_same_name_gives_the_same_seed_on_every_machine() -> None:
    assert derive_seed(0, "fold", 3) == derive_seed(0, "fold", 3) == 189398717


def test_names_and_seeds_make_a_difference() -> None:
    seeds = {derive_seed(seed, "fold", fold) for seed in range(10) for fold in range(10)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
