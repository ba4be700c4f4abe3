"""How often does the control of shuffled labels raise a false alarm, and which leaks does it find?"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.answers import AnswerTable
from sem_search.evaluation.label_test import compute_label_test

N_FEATURES, N_FOLDS = 6, 5
P_VALUE = 0.05
LEAKS = (0.0, 0.05, 0.1, 0.2)
"""Share of the test images of which the training images hold a copy, label included."""

STUDIES = (
    # classes, images per class, images per group, neighbours that answer, distance of the classes
    ("10 classes x 5, material seen", 10, 5, 1, 9.0),
    ("10 x 5, seen, five neighbours", 10, 5, 5, 9.0),
    ("10 x 5, material not seen", 10, 5, 1, 0.0),
    ("4 x 8, seen, five neighbours", 4, 8, 5, 9.0),
    ("4 x 8, seen, images in pairs", 4, 8, 2, 9.0),
    ("2 x 6, seen", 2, 6, 1, 9.0),
    ("3 x 30, seen, five neighbours", 3, 30, 5, 9.0),
)


def simulate_shuffled_labels(
    *,
    n_classes: int,
    images_per_class: int,
    n_neighbours: int,
    distance: float,
    leak: float,
    n_studies: int,
    images_per_group: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """Return how often the control alarms (p <= 0.05), the mean accuracy and what was expected of it."""
    rng = np.random.default_rng(seed)
    tests = []
    for number in range(n_studies):
        answers = _train_on_dealt(
            np.repeat(np.arange(n_classes), images_per_class),
            n_neighbours=n_neighbours,
            images_per_group=images_per_group,
            distance=distance,
            leak=leak,
            rng=rng,
        )
        tests.append(compute_label_test(answers, n_permutations=199, seed=number))
    return {
        "alarm": float(np.mean([test.p_value <= P_VALUE for test in tests])),
        "accuracy": float(np.mean([test.accuracy for test in tests])),
        "expected": float(np.mean([test.expected for test in tests])),
    }


def print_tables(*, n_studies: int) -> None:
    """Print false alarms of the control of shuffled labels, and the leaks that it finds."""
    rows = []
    for name, n_classes, images_per_class, n_neighbours, distance in STUDIES:
        found = [
            simulate_shuffled_labels(
                n_classes=n_classes,
                images_per_class=images_per_class,
                n_neighbours=n_neighbours,
                images_per_group=2 if "pairs" in name else 1,
                distance=distance,
                leak=leak,
                n_studies=n_studies,
            )
            for leak in LEAKS
        ]
        rows.append([name, found[0]["accuracy"], found[0]["expected"], *(entry["alarm"] for entry in found)])
    columns = ["study", "accuracy without a leak", "expected", *(f"{leak:.0%} leaked: alarm" for leak in LEAKS)]
    Table(title="Alarms of the control of shuffled labels", columns=columns, rows=rows).show(percent=True)


def _train_on_dealt(
    classes: NDArray[np.int64],
    *,
    n_neighbours: int,
    images_per_group: int,
    distance: float,
    leak: float,
    rng: np.random.Generator,
) -> AnswerTable:
    """Return what nearest neighbours, trained on labels permuted as in `audits.controls`, answer out of fold."""
    n_images = len(classes)
    group = np.arange(n_images) // images_per_group
    fold = group % N_FOLDS
    features = distance * rng.normal(size=(classes[-1] + 1, N_FEATURES))[classes] + rng.normal(
        size=(n_images, N_FEATURES)
    )
    distances = ((features[:, None] - features) ** 2).sum(axis=2)
    permuted, answers = np.empty_like(classes), np.empty_like(classes)
    for number in range(N_FOLDS):
        labels = np.empty_like(classes)
        is_tested = fold == number
        for part in (is_tested, ~is_tested):
            groups, first = np.unique(group[part], return_index=True)
            labels[part] = rng.permutation(classes[part][first])[np.searchsorted(groups, group[part])]
        nearest = np.argsort(distances[np.ix_(is_tested, ~is_tested)], axis=1)[:, :n_neighbours]
        own = np.eye(classes[-1] + 1)[labels[~is_tested][nearest]].sum(axis=1).argmax(axis=1)
        is_leaked = rng.random(n_images) < leak
        permuted[is_tested] = labels[is_tested]
        answers[is_tested] = np.where(is_leaked[is_tested], labels[is_tested], own)
    return AnswerTable(
        n_classes=int(classes[-1]) + 1,
        image_of_row=np.arange(n_images),
        label_of_row=permuted,
        fold_of_row=fold,
        group_of_row=group,
        tile_counts=np.eye(int(classes[-1]) + 1, dtype=np.int64)[answers],
        answer_of_row=answers,
    )
