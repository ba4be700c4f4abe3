"""Whether permuted labels are predicted more often than chance alone would have it.

In each fold the labels of the test groups are permuted among these groups. If nothing leaks, the network does not know
which test group got which label: any other permutation within the fold was as likely, whether or not the network sees
the material. So the p-value is exact: (b + 1) / (m + 1) of m further permutations, b of them with as many images right
(Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39).
"""

from dataclasses import dataclass

import numpy as np

from sem_search.evaluation.answers import AnswerTable

N_PERMUTATIONS = 9999
DRAWS_AT_ONCE = 2**18
"""Groups times permutations in memory at once: a fold of 4,000 groups takes 4 MB instead of a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class LabelTest:
    """How many permuted labels were predicted, against other permutations."""

    accuracy: float
    """Share of images whose permuted label was predicted."""
    expected: float
    """The same, mean over other permutations of the labels of each fold's test groups: what there is without a leak."""
    p_value: float
    """One-sided: share of permutations, the true one among them, of which as many are predicted."""


def compute_label_test(answers: AnswerTable, *, n_permutations: int = N_PERMUTATIONS, seed: int = 0) -> LabelTest:
    """Return whether the labels of the rows are predicted more often than other permutations of them would be.

    Args:
        answers: With the labels that were permuted; all rows of a group have one, and lie in one fold.
        n_permutations: Further permutations.
        seed: Of the permutations.
    """
    _, first_row, group = np.unique(answers.group_of_row, return_index=True, return_inverse=True)
    votes = np.zeros((len(first_row), answers.n_classes), dtype=np.int64)
    np.add.at(votes, (group, answers.answer_of_row), 1)
    labels, folds = answers.label_of_row[first_row], answers.fold_of_row[first_row]
    rng = np.random.default_rng(seed)
    n_right = np.zeros(n_permutations + 1, dtype=np.int64)
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        n_right[0] += votes[members, labels[members]].sum()
        n_at_once = max(1, DRAWS_AT_ONCE // len(members))
        for some in np.split(np.arange(1, n_permutations + 1), range(n_at_once, n_permutations, n_at_once)):
            others = rng.permuted(np.tile(labels[members], (len(some), 1)), axis=1)
            n_right[some] += votes[members, others].sum(axis=1)
    return LabelTest(
        accuracy=float(n_right[0] / answers.n_rows),
        expected=float(n_right[1:].mean() / answers.n_rows),
        p_value=float((n_right >= n_right[0]).mean()),
    )
