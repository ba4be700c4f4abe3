"""Prediction sets for several fold networks that answer together, each compared with what it answered itself.

The networks of k folds answer a new image together, but each of them was only ever judged on the images of its own
fold. So nothing is assumed of their common answer: a class is in the set unless too many of the images calibrated on
look surer of their true class, in the answer of *their* fold's network, than the new image looks of this class in the
answer of the same network (cross-validation+: Barber, Candès, Ramdas and Tibshirani, Ann. Stat. 49 (2021) 486; for
classes: Romano, Sesia and Candès, NeurIPS 2020, equation 9). Asked for a coverage of 1 - a, such sets are guaranteed
1 - 2 a, less a term of the number of images, whatever the networks are worth; in practice they cover as asked, or more.

With one network this is the split conformal set of `conformal`, whose promise, weights of groups and count of images
needed apply.
"""

from dataclasses import dataclass

import numpy as np

from sem_search.evaluation.conformal import ROUNDING, BoolMatrix, compute_groups_needed
from sem_search.records import FloatMatrix, FloatVector, IntVector


@dataclass(frozen=True, kw_only=True)
class CrossAnswers:
    """What the fold networks answered to the images calibrated on, each image by the one that was not trained on it."""

    of_true_class: FloatVector
    """Probability of the true class, shape (n_images,)."""
    network_of_image: IntVector
    """Which network answered, 0 to n_networks - 1, shape (n_images,)."""
    group_of_image: IntVector
    """Images of one group count as one together, shape (n_images,)."""

    @property
    def n_images(self) -> int:
        """Images calibrated on."""
        return len(self.of_true_class)

    @property
    def n_groups(self) -> int:
        """Groups of images calibrated on: what counts as independent."""
        return len(np.unique(self.group_of_image))

    def is_attainable(self, coverage: float) -> bool:
        """Tell whether there are enough groups to promise this coverage by less than all classes."""
        return self.n_groups >= compute_groups_needed(coverage)


def predict_cross_set(
    probabilities: FloatMatrix, *, answers: CrossAnswers, coverage: float, most_probable: int
) -> BoolMatrix:
    """Return which classes are in the set of one image, shape (n_classes,).

    Args:
        probabilities: What each network answers to the image, shape (n_networks, n_classes).
        answers: What they answered to the images calibrated on.
        coverage: Share of new images whose set shall hold the true class, in (0, 1).
        most_probable: The class that is named; it is always in the set.

    Raises:
        ValueError: The coverage is not in (0, 1), or a network of `answers` is missing.
    """
    compute_groups_needed(coverage)  # raises unless the coverage is one
    if answers.n_images and answers.network_of_image.max() >= len(probabilities):
        raise ValueError(
            f"{len(probabilities)} networks answered, and images were calibrated on network "
            f"{answers.network_of_image.max()}."
        )
    _, group, sizes = np.unique(answers.group_of_image, return_inverse=True, return_counts=True)
    is_surer = answers.of_true_class[:, None] > probabilities[answers.network_of_image]
    weight_surer = (is_surer / sizes[group][:, None]).sum(axis=0)
    members: BoolMatrix = weight_surer < coverage * (len(sizes) + 1) - ROUNDING
    members[most_probable] = True
    return members
