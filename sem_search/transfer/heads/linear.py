"""The linear head: multinomial logistic regression on the pooled outputs of the last convolution, solved exactly.

With few images it is hard to beat: it has no steps whose length could be wrong, and no last epoch that is luck. It fits
into the same network as every other head. Its logits z come from the hidden layer's units in pairs, since
relu(z) - relu(-z) = z; so whatever answers, explains or stores a head needs to know nothing about it.
Source of the loss: Bishop, "Pattern Recognition and Machine Learning" (2006), section 4.3.4, with an L2 penalty.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from sem_search.errors import SettingsError
from sem_search.records import FloatMatrix, FloatVector, IntVector
from sem_search.transfer.cut import HIDDEN_LAYER, LOGITS_LAYER

ClassWeight = Literal["none", "balanced"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the penalty to choose among, scikit-learn's `C`: from the strongest penalty to the weakest."""

USUAL_STRENGTH = 1e-2
"""Where a class has one group only, so that none can be left out to choose by."""

MOST_ROWS = 100_000
"""Tiles, each view for one, that are learnt from: 1,280 features of them take a gigabyte. Of 2,000 images with 20 tiles
and eight views that is a third (docs/decisions/035-many-images.md)."""

GOLDEN = 0.6180339887498949
"""The golden ratio's fraction: its multiples fill the unit interval evenly, whatever the number of tiles or views."""

COLUMNS_AT_ONCE = 64
"""Features whose standard deviation is computed at once: NumPy makes a copy in double precision for it."""

MOST_FOLDS = 5
NEVER = -1e4
"""Logit of a class without a tile: its probability is 0 in float64."""

MAX_ITERATIONS = 2000
TOLERANCE = 1e-6
"""Of the gradient, where the solution is what counts; scikit-learn's own, 1e-4, is enough to choose the penalty by."""

LEAST_SCALE = 1e-3
"""Smallest standard deviation to divide by, as a share of the median over the features: one that hardly ever changes in
training would otherwise answer alone wherever it does."""


@dataclass(frozen=True, kw_only=True)
class LinearSolution:
    """A fitted logistic regression, in the units of the features as they are."""

    kernel: FloatMatrix
    """Shape (n_features, n_classes)."""
    bias: FloatVector
    """Shape (n_classes,)."""
    strength: float
    """Inverse strength of the penalty that was used."""

    def predict(self, features: NDArray[np.floating]) -> FloatMatrix:
        """Return probabilities, shape (n, n_classes), for features of shape (n, n_features)."""
        return np.asarray(softmax(features @ self.kernel + self.bias, axis=1), dtype=np.float64)


def choose_rows(tiles: IntVector, *, n_tiles: int, view: int = 0, n_views: int = 1) -> IntVector:
    """Return the tiles that a linear head learns from in one view: all, or of very many some, evenly over the images.

    Which ones depends on the tile, the view and the numbers alone: a tile of two folds is taken in both or in neither.

    Args:
        tiles: Tile indices, shape (n,).
        n_tiles: Number of the study's tiles.
        view: In [0, n_views).
        n_views: Views of each tile.
    """
    share = MOST_ROWS / (n_tiles * n_views)
    return tiles[(tiles * n_views + view) * GOLDEN % 1 < share]


def fit_linear(
    features: NDArray[np.floating],
    *,
    labels: IntVector,
    groups: Sequence[str] | NDArray[np.str_],
    n_classes: int,
    class_weight: ClassWeight = "none",
    strength: float | None = None,
    n_views: int = 1,
) -> LinearSolution:
    """Fit a logistic regression with standardised features.

    Args:
        features: Pooled outputs of the training tiles, shape (n, n_features), those of view 0 first.
        labels: Class of each of them, shape (n,), in [0, n_classes). A class without a tile is never predicted.
        groups: Group of each tile in view 0: on these the penalty is chosen, by groups that are left out.
        n_classes: Number of classes.
        class_weight: `balanced` lets every class weigh the same, in the fit and in the choice of the penalty.
        strength: Inverse strength of the penalty; None chooses it among `STRENGTHS`, by log loss.
        n_views: Views of each tile; a tile's views together weigh as much as a tile with one.
    """
    if len(np.unique(labels)) < 2:
        return _name_only_class(int(labels[0]), n_features=features.shape[1], n_classes=n_classes)
    if strength is None:
        strength = _choose_strength(
            features[: len(groups)], labels=labels[: len(groups)], groups=np.asarray(groups), class_weight=class_weight
        )
    mean, scale = _standardise(features)
    standard = features - mean
    standard /= scale  # in place: all views of 40,000 tiles take gigabytes
    model = _build_model(class_weight, strength=strength, tolerance=TOLERANCE)
    _fit(model, standard, labels, weight=1 / n_views)
    kernel, bias = _expand(model, n_classes=n_classes)
    kernel = kernel / scale[:, None]
    return LinearSolution(kernel=kernel, bias=bias - mean @ kernel, strength=strength)


def set_linear_head(head: keras.Model, solution: LinearSolution) -> None:
    """Let a head give the logits of a linear solution.

    Its hidden units beyond the pairs keep their weights, and the logits do not look at them yet.

    Args:
        head: From `build_head`; its convolution has the weights that the features were pooled with.
        solution: Of as many classes.

    Raises:
        SettingsError: The hidden layer has too few units.
    """
    hidden, logits = head.get_layer(HIDDEN_LAYER), head.get_layer(LOGITS_LAYER)
    n_classes, n_units = len(solution.bias), hidden.units
    check_hidden_units(n_units, n_classes=n_classes)
    kernel, bias, out = hidden.kernel.numpy(), hidden.bias.numpy(), np.zeros((n_units, n_classes), np.float32)
    is_absent = solution.bias <= NEVER
    through = np.where(is_absent, 0, solution.bias)  # in a hidden unit, NEVER would have gradients of its size
    for place, sign in ((0, 1), (n_classes, -1)):
        units = slice(place, place + n_classes)
        kernel[:, units], bias[units] = sign * solution.kernel, sign * through
        out[units] = sign * np.eye(n_classes)
    hidden.set_weights([kernel, bias])
    logits.set_weights([out, np.where(is_absent, solution.bias, 0).astype(np.float32)])


def check_hidden_units(hidden_units: int, *, n_classes: int) -> None:
    """Raise SettingsError if a linear head of so many classes does not fit into a hidden layer of so many units."""
    if hidden_units < 2 * n_classes:
        raise SettingsError(
            f"hidden_units={hidden_units} is too few for a linear head of {n_classes} classes, which needs two units "
            f"for each: give hidden_units={2 * n_classes} or more, or heads=finetune."
        )


def _name_only_class(label: int, *, n_features: int, n_classes: int) -> LinearSolution:
    bias = np.full(n_classes, NEVER)
    bias[label] = 0.0
    return LinearSolution(kernel=np.zeros((n_features, n_classes)), bias=bias, strength=USUAL_STRENGTH)


def _choose_strength(
    features: NDArray[np.floating], *, labels: IntVector, groups: NDArray[np.str_], class_weight: ClassWeight
) -> float:
    """Return the strength whose log loss on groups left out is lowest; of equals the strongest penalty."""
    losses = np.zeros(len(STRENGTHS))
    counts = np.bincount(labels)
    for training, judged in _iter_splits(labels, groups=groups):
        mean, scale = _standardise(features[training])
        known, rows = ((features[part] - mean) / scale for part in (training, judged))
        truth = labels[judged]
        weights = np.ones(len(truth)) if class_weight == "none" else 1 / counts[truth]
        model = _build_model(class_weight, strength=USUAL_STRENGTH)
        for place, strength in enumerate(STRENGTHS):  # each begins where the stronger penalty has ended
            model.set_params(C=strength)
            _fit(model, known, labels[training], weight=1.0)
            columns = np.searchsorted(model.classes_, truth)
            likelihoods = model.predict_proba(rows)[np.arange(len(truth)), columns]
            losses[place] -= weights @ np.log(np.maximum(likelihoods, np.finfo(np.float64).tiny))
    return STRENGTHS[int(losses.argmin())] if losses.any() else USUAL_STRENGTH


def _iter_splits(labels: IntVector, *, groups: NDArray[np.str_]) -> Iterator[tuple[IntVector, IntVector]]:
    """Yield tiles to fit and tiles to judge by, no group in both; none where a class has one group only."""
    n_folds = min(MOST_FOLDS, *(len(np.unique(groups[labels == label])) for label in np.unique(labels)))
    if n_folds < 2:
        return
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for training, judged in splitter.split(labels, labels, groups):
        if np.isin(labels[judged], labels[training]).all():  # a group of several classes may hold all of one
            yield training, judged


def _standardise(features: NDArray[np.floating]) -> tuple[FloatVector, FloatVector]:
    """Return the mean of each feature and what it is divided by: its standard deviation, if it is not close to 0."""
    mean = features.mean(axis=0, dtype=np.float64)
    blocks = np.split(np.arange(len(mean)), range(COLUMNS_AT_ONCE, len(mean), COLUMNS_AT_ONCE))
    scale = np.concatenate([features[:, block].std(axis=0, dtype=np.float64) for block in blocks])
    least = LEAST_SCALE * float(np.median(scale[scale > 0], axis=0)) if scale.any() else 1.0
    return mean, np.maximum(scale, least)


def _build_model(class_weight: ClassWeight, *, strength: float, tolerance: float = 1e-4) -> LogisticRegression:
    weight = None if class_weight == "none" else class_weight
    return LogisticRegression(C=strength, class_weight=weight, max_iter=MAX_ITERATIONS, tol=tolerance, warm_start=True)


def _fit(model: LogisticRegression, features: FloatMatrix, labels: IntVector, *, weight: float) -> None:
    """Fit on one thread; not to have converged to the last digit is no news for a weak penalty on separable classes.

    The solver makes thousands of steps over small matrices. Where other programs are at work, several threads wait for
    each other at every step: two of them took minutes for what takes one a second.
    """
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels, sample_weight=np.full(len(labels), weight))


def _expand(model: LogisticRegression, *, n_classes: int) -> tuple[FloatMatrix, FloatVector]:
    """Return kernel (n_features, n_classes) and bias (n_classes,); scikit-learn has one column for two classes."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:
        coefficients, intercepts = (np.concatenate([-half, half]) for half in (coefficients / 2, intercepts / 2))
    kernel, bias = np.zeros((coefficients.shape[1], n_classes)), np.full(n_classes, NEVER)
    kernel[:, model.classes_], bias[model.classes_] = coefficients.T, intercepts
    return kernel, bias
