"""Training one head on one fold: the work that a search repeats for every cell.

A fold's result depends on features, labels, fold, cell, seed and settings alone, bit for bit, whatever was trained
before it in the process: weights, momentum, dropout and shuffling all begin anew. The head is built once and reset,
because every model that Keras builds leaves memory behind.

A tile may come in several views, turned and mirrored. In each epoch every training tile is taken once, in a view drawn
for it. The answer to a tile is the softmax of its logits averaged over the views: the normalised geometric mean of the
views' answers, the rule by which tiles and heads are joined, too. The curves follow the tiles as they are.

The head of a finished fold may be trained again, on its training and validation tiles together in as many steps: with
`refit` the winner's are, are tested, and are what is served.
Source: Iwata, Hayashi et al. 2022 (SGD, momentum 0.9, cross-entropy, fixed length); early stopping as Keras does it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import log_softmax

from sem_search.errors import DataError, FailedTrialError, LeakError
from sem_search.micrographs.folds import Fold
from sem_search.records import (
    Cell,
    EpochFigures,
    FinishedFold,
    FloatMatrix,
    FloatVector,
    FoldOutcome,
    IntVector,
    TileSplits,
    TileTable,
)
from sem_search.seeds import derive_seed
from sem_search.transfer.cut import CutNetwork, average_channels, build_head
from sem_search.transfer.heads.early_stopping import FoldWatch
from sem_search.transfer.heads.epochs import EVALUATION_TILES, HeadLoop
from sem_search.transfer.heads.linear import ClassWeight, LinearSolution, choose_rows, fit_linear, set_linear_head
from sem_search.transfer.heads.passes import choose_pass
from sem_search.transfer.heads.prepared_features import PreparedFeatures, StackedViews

FloatArray = NDArray[np.float32]
OnEpoch = Callable[[EpochFigures], None]

N_NAMED_GROUPS = 5
"""Groups that a leak's message names."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long a fold is trained, and how."""

    epochs: int = 100
    patience: int = 10
    """Epochs without a lower validation loss before the fold ends; 0 is the paper's fixed length."""
    schedule: Literal["linear", "constant"] = "constant"
    """`linear` lets the learning rate fall evenly, from the cell's in the first epoch towards 0 after the last."""
    momentum: float = 0.9
    class_weight: ClassWeight = "none"
    """`balanced` lets every class weigh the same in training, however many tiles it has."""


class HeadTrainer:
    """One head that is trained again and again, on any fold with any cell.

    Attributes:
        head: Crossing tensors to logits, with the weights that were last trained or set.
    """

    def __init__(
        self,
        cut: CutNetwork,
        *,
        features: Sequence[Sequence[FloatArray]],
        labels: IntVector,
        groups: Sequence[str],
        n_classes: int,
        settings: TrainingSettings,
        seed: int,
        hidden_units: int = 256,
        dropout: float = 0.5,
        max_feature_bytes: int | None = None,
    ) -> None:
        """Build the head and bring the features into memory, where they fit.

        Args:
            cut: The network.
            features: The views of the tiles, first the tiles as they are; of each view one array per crossing tensor,
                shape (n_tiles, ...), float32.
            labels: Class of each tile, shape (n_tiles,), in [0, n_classes).
            groups: Group of each tile; no group may stand in two splits of a fold.
            n_classes: Number of classes.
            settings: Length and momentum.
            seed: The study's seed.
            hidden_units: Width of the hidden layer.
            dropout: Share of hidden units left out in training, in [0, 1).
            max_feature_bytes: Memory that features may take; by default half of what is free. Beyond it they are read
                again in every epoch, with the same result.
        """
        self._labels = labels
        self._groups = np.asarray(groups)
        self._n_classes = n_classes
        self._settings = settings
        self._seed = seed
        self._cut = cut
        self._views = features
        self._pooled: dict[tuple[int, bool], FloatArray] = {}
        self._solutions: dict[bytes, LinearSolution] = {}
        self.head = build_head(cut, n_classes=n_classes, hidden_units=hidden_units, dropout=dropout, seed=seed)
        self._first_weights = self.head.get_weights()
        head_pass = choose_pass(self.head, convolution=cut.convolution)
        stacked = [arrays[0] if len(arrays) == 1 else StackedViews(arrays) for arrays in zip(*features, strict=True)]
        self._prepared = PreparedFeatures(stacked, head_pass=head_pass, max_bytes=max_feature_bytes)
        self._loop = HeadLoop(self.head, head_pass=head_pass, specs=self._prepared.specs, momentum=settings.momentum)

    def set_weights(self, head_weights: Sequence[FloatArray]) -> None:
        """Give the head these weights, as `FinishedFold.head_weights` lists them."""
        self.head.set_weights(list(head_weights))

    def predict(self, head_weights: Sequence[FloatArray], tiles: IntVector) -> FloatMatrix:
        """Return what a head of these weights answers.

        Args:
            head_weights: As `FinishedFold.head_weights` lists them.
            tiles: Tile indices, shape (n,).

        Returns:
            Probabilities, shape (n, n_classes).
        """
        self.set_weights(head_weights)
        return self._answer(tiles)

    def pool(self, view: int = 0) -> FloatArray:
        """Return what the last convolution, as it came, gives on average over each tile, in one view.

        Shape (n_tiles, n_channels). Cost: one pass of the convolution over all tiles, once.
        """
        return self._pool(view, tiles=np.arange(len(self._labels)))

    def train_fold(self, splits: TileSplits, *, cell: Cell, on_epoch: OnEpoch | None = None) -> FinishedFold:
        """Train the head on one fold from its first weights.

        Args:
            splits: Training tiles; validation tiles, which early stopping looks at; test tiles, only predicted. The
                number of the fold decides its first weights, its shuffling and its dropout.
            cell: The head; learning rate of SGD and tiles per step, if it has steps; the last step of an epoch may have
                fewer tiles.
            on_epoch: Called after every epoch with its figures; a linear head has one. What it raises ends the fold.

        Raises:
            LeakError: A group stands in two splits.
            DataError: A split is empty.
            SettingsError: The hidden layer is too small for a linear head.
            FailedTrialError: The memory does not suffice for this cell, or features are not finite numbers.
        """
        self._check_splits(splits)
        begin = time.perf_counter()
        with _explain_memory(cell):
            train = self._solve if cell.head == "linear" else self._train
            watch = train(splits, cell=cell, on_epoch=on_epoch)
            validation, test = self._answer(splits.validation), self._answer(splits.test)
        outcome = FoldOutcome(
            fold=splits.number,
            validation_tiles=splits.validation,
            validation_probabilities=validation,
            test_tiles=splits.test,
            test_probabilities=test,
            curves=watch.curves,
            best_epoch=watch.best_epoch,
            is_diverged=watch.is_diverged,
            training_s=time.perf_counter() - begin,
        )
        return FinishedFold(outcome=outcome, head_weights=tuple(self.head.get_weights()))

    def refit_fold(self, first: FinishedFold, *, splits: TileSplits, cell: Cell) -> FinishedFold:
        """Train the head of a finished fold anew on training and validation tiles, for as many steps as it had.

        Nothing can tell now which epoch is the best one. So the learning rate falls whatever the schedule: the last
        epoch is then about as good as the best (docs/decisions/033-heads-and-views.md).

        Args:
            first: As `train_fold` returned it. One that diverged stays as it is.
            splits: Its tiles.
            cell: What it was trained with.

        Returns:
            The new head with its answers to the test tiles, and all else as it was. Where the new head has diverged or
            died, the first one, marked as diverged.

        Raises:
            LeakError: A group stands in two splits.
            FailedTrialError: The memory does not suffice for this cell.
        """
        if first.outcome.is_diverged:
            return first
        self._check_splits(splits)
        begin = time.perf_counter()
        tiles = np.concatenate([splits.training, splits.validation])
        n_steps = (first.outcome.best_epoch + 1) * len(splits.training)
        with _explain_memory(cell):
            self._begin(tiles, fold=splits.number, cell=cell)
            is_well = cell.head == "linear" or self._train_again(
                tiles, fold=splits.number, cell=cell, n_epochs=max(1, round(n_steps / len(tiles)))
            )
            test = self._answer(splits.test)
        outcome = replace(first.outcome, training_s=first.outcome.training_s + time.perf_counter() - begin)
        if not is_well:
            return replace(first, outcome=replace(outcome, is_diverged=True))
        outcome = replace(outcome, test_probabilities=test)
        return FinishedFold(outcome=outcome, head_weights=tuple(self.head.get_weights()))

    def _train(self, splits: TileSplits, *, cell: Cell, on_epoch: OnEpoch | None) -> FoldWatch:
        """Train until the fold ends, and leave the head with the weights of its best epoch."""
        self._begin(splits.training, fold=splits.number, cell=cell)
        watch = self._watch(splits, epochs=self._settings.epochs)
        best_weights = self.head.get_weights()
        while not watch.is_finished:
            order = self._draw_order(splits.training, fold=splits.number, epoch=len(watch))
            share = 1 - len(watch) / self._settings.epochs if self._settings.schedule == "linear" else 1.0
            loss, accuracy = self._train_epoch(order, cell=cell, rate_share=share)
            logits = self._compute_logits(splits.validation)
            is_dead = _are_all_equal(logits) and _are_all_equal(self._compute_logits(order))
            figures = self._describe_epoch(loss, accuracy, logits=logits, validation=splits.validation)
            watch.add(figures, is_dead=is_dead)
            if watch.is_best_now and self._settings.patience:
                best_weights = self.head.get_weights()
            if on_epoch is not None:
                on_epoch(figures)
        if self._settings.patience:
            self.set_weights(best_weights)
        return watch

    def _solve(self, splits: TileSplits, *, cell: Cell, on_epoch: OnEpoch | None) -> FoldWatch:
        """Leave the head with the linear solution for the training tiles; that is its one epoch."""
        self._begin(splits.training, fold=splits.number, cell=cell)
        watch = self._watch(splits, epochs=1)
        loss, accuracy = self._compute_loss(self._compute_logits(splits.training), tiles=splits.training)
        logits = self._compute_logits(splits.validation)
        figures = self._describe_epoch(loss, accuracy, logits=logits, validation=splits.validation)
        watch.add(figures)
        if on_epoch is not None:
            on_epoch(figures)
        return watch

    def _train_again(self, tiles: IntVector, *, fold: int, cell: Cell, n_epochs: int) -> bool:
        """Train the head on these tiles at a rate that falls evenly; return whether that went well."""
        for epoch in range(n_epochs):
            order = self._draw_order(tiles, fold=fold, epoch=epoch)
            self._train_epoch(order, cell=cell, rate_share=1 - epoch / n_epochs)
        logits = self._compute_logits(tiles)
        return bool(np.isfinite(logits).all()) and not _are_all_equal(logits)

    def _begin(self, tiles: IntVector, *, fold: int, cell: Cell) -> None:
        """Give the head what training on these tiles starts from; a linear head is trained with that."""
        self._reset(fold)
        if cell.head != "finetune":
            self._set_linear(tiles)

    def _set_linear(self, tiles: IntVector) -> None:
        """Give the head the linear solution for these tiles, in all their views."""
        key = tiles.tobytes()
        if key not in self._solutions:
            learnt = [self._choose_rows(tiles, view=view) for view in range(len(self._views))]
            features = np.concatenate([self._pool_learnt(view, tiles=some) for view, some in enumerate(learnt)])
            if not np.isfinite(features).all():
                raise FailedTrialError("A linear head cannot be fitted: the trunk gives features that are not finite.")
            self._solutions[key] = fit_linear(
                features,
                labels=self._labels[np.concatenate(learnt)],
                groups=self._groups[learnt[0]],
                n_classes=self._n_classes,
                class_weight=self._settings.class_weight,
                n_views=len(self._views),
            )
        set_linear_head(self.head, self._solutions[key])

    def _watch(self, splits: TileSplits, *, epochs: int) -> FoldWatch:
        start_loss, _ = self._compute_loss(self._compute_logits(splits.validation), tiles=splits.validation)
        patience = min(self._settings.patience, epochs - 1)
        return FoldWatch(epochs=epochs, patience=patience, start_loss=start_loss, n_classes=self._n_classes)

    def _check_splits(self, splits: TileSplits) -> None:
        """Refuse empty splits and groups in two splits: the last gate before training."""
        names = ("training", "validation", "test")
        for name in names:
            if len(getattr(splits, name)) == 0:
                raise DataError(f"The {name} split of the fold has no tiles; every split needs at least one image.")
        for first, second in ((0, 1), (0, 2), (1, 2)):
            one, two = (self._groups[getattr(splits, names[place])] for place in (first, second))
            shared = np.intersect1d(one, two)
            if len(shared):
                listed = ", ".join(repr(str(group)) for group in shared[:N_NAMED_GROUPS])
                more = f" and {len(shared) - N_NAMED_GROUPS} more" if len(shared) > N_NAMED_GROUPS else ""
                raise LeakError(
                    f"Training refused: {len(shared)} group(s) on both the {names[first]} and the {names[second]} "
                    f"split: {listed}{more}. Draw the folds anew from this catalogue."
                )

    def _reset(self, fold: int) -> None:
        """Give the head the first weights of a fold: the pretrained convolution, new layers drawn by the fold's seed.

        They are those that `build_head` gives with `seed=derive_seed(seed, "head", fold)`, the dropout as well.
        """
        seed = derive_seed(self._seed, "head", fold)
        self.head.set_weights(self._first_weights)
        for layer in self.head.layers:
            layer_seed = derive_seed(seed, layer.name)
            if isinstance(layer, keras.layers.Dense) and layer.trainable:
                config = {**layer.kernel_initializer.get_config(), "seed": layer_seed}
                layer.kernel.assign(type(layer.kernel_initializer).from_config(config)(layer.kernel.shape))
            if getattr(layer, "seed_generator", None) is not None:
                layer.seed_generator.state.assign([layer_seed, 0])
        self._loop.reset()

    def _draw_order(self, tiles: IntVector, *, fold: int, epoch: int) -> IntVector:
        """Return the rows of an epoch, each tile once, in a random order and in random views."""
        shuffle = np.random.default_rng(derive_seed(self._seed, "shuffle", fold, epoch))
        order = tiles[shuffle.permutation(len(tiles))]
        if len(self._views) == 1:
            return order
        rng = np.random.default_rng(derive_seed(self._seed, "views", fold, epoch))
        return order + len(self._labels) * rng.integers(len(self._views), size=len(order))

    def _train_epoch(self, order: IntVector, *, cell: Cell, rate_share: float) -> tuple[float, float]:
        """Train on these rows in this order, at a share of the cell's learning rate.

        Returns loss and accuracy from before each step.
        """
        loss_sum, n_correct = 0.0, 0
        weights = tf.constant(self._compute_class_weights(order), tf.float32)
        batch_size = cell.batch_size or len(order)
        for prepared, places, rows in self._prepared.iter_chunks(order, batch_size=batch_size):
            loss, correct = self._loop.train(
                prepared,
                tf.constant(places, tf.int64),
                tf.constant(self._get_labels(rows), tf.int32),
                tf.constant(batch_size, tf.int64),
                tf.constant(rate_share * (cell.learning_rate or 0.0), tf.float32),
                weights,
            )
            loss_sum += float(loss)
            n_correct += int(correct)
        return loss_sum / len(order), n_correct / len(order)

    def _compute_class_weights(self, rows: IntVector) -> FloatVector:
        """Return by how much a tile of each class counts, shape (n_classes,); their mean over the tiles is 1."""
        if self._settings.class_weight == "none":
            return np.ones(self._n_classes)
        counts = np.bincount(self._get_labels(rows), minlength=self._n_classes)
        return len(rows) / (np.count_nonzero(counts) * np.maximum(counts, 1))

    def _describe_epoch(
        self, loss: float, accuracy: float, *, logits: FloatArray, validation: IntVector
    ) -> EpochFigures:
        validation_loss, validation_accuracy = self._compute_loss(logits, tiles=validation)
        return EpochFigures(
            training_loss=loss,
            training_accuracy=accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
        )

    def _get_labels(self, rows: IntVector) -> IntVector:
        """Return the classes of rows, whichever view of a tile each of them is."""
        return self._labels[rows % len(self._labels)]

    def _answer(self, tiles: IntVector) -> FloatMatrix:
        """Return probabilities, shape (n, n_classes), from the logits averaged over all views."""
        n_views, n_tiles = len(self._views), len(self._labels)
        logits = [self._compute_logits(tiles + view * n_tiles) for view in range(n_views)]
        return _compute_probabilities(logits[0] if n_views == 1 else np.mean(logits, axis=0, dtype=np.float64))

    def _choose_rows(self, tiles: IntVector, *, view: int) -> IntVector:
        return choose_rows(tiles, n_tiles=len(self._labels), view=view, n_views=len(self._views))

    def _pool_learnt(self, view: int, *, tiles: IntVector) -> FloatArray:
        """Return the pooled features of tiles that are learnt from in this view; those of all of them are kept."""
        every = self._choose_rows(np.arange(len(self._labels)), view=view)
        return self._pool(view, tiles=every)[np.searchsorted(every, tiles)]

    def _pool(self, view: int, *, tiles: IntVector) -> FloatArray:
        """Return the pooled features of all tiles, or of all that are learnt from, in one view."""
        key = (view, len(tiles) == len(self._labels))
        if key not in self._pooled:
            parts = [tiles[start : start + EVALUATION_TILES] for start in range(0, len(tiles), EVALUATION_TILES)]
            self._pooled[key] = np.concatenate([self._average(self._views[view], tiles=part) for part in parts])
        return self._pooled[key]

    def _average(self, view: Sequence[FloatArray], *, tiles: IntVector) -> FloatArray:
        some = [tf.constant(array[tiles]) for array in view]
        return np.asarray(average_channels([self._cut.tail(some, training=False)]))

    def _compute_logits(self, rows: IntVector) -> FloatArray:
        """Return the logits of tiles, each in one view, without dropout, shape (n, n_classes)."""
        chunks = self._prepared.iter_chunks(rows, batch_size=EVALUATION_TILES)
        logits = [self._loop.compute_logits(prepared, tf.constant(places, tf.int64)) for prepared, places, _ in chunks]
        return np.concatenate([chunk.numpy() for chunk in logits])

    def _compute_loss(self, logits: FloatArray, *, tiles: IntVector) -> tuple[float, float]:
        truth = self._labels[tiles]
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged head: its loss says so
            losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(truth)), truth]
        return float(losses.mean()), float((logits.argmax(axis=1) == truth).mean())


def get_tile_splits(fold: Fold, *, tiles: TileTable) -> TileSplits:
    """Return a fold of images as tiles."""
    return TileSplits(
        number=fold.number,
        training=tiles.get_tiles_of(fold.training),
        validation=tiles.get_tiles_of(fold.validation),
        test=tiles.get_tiles_of(fold.test),
    )


@contextmanager
def _explain_memory(cell: Cell) -> Iterator[None]:
    """Let memory that does not suffice fail the cell alone."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise FailedTrialError(f"{cell.name}: the memory does not suffice for this batch size: {error}") from error


def _are_all_equal(logits: FloatArray) -> bool:
    return len(logits) > 1 and bool((logits == logits[0]).all())


def _compute_probabilities(logits: FloatArray) -> FloatMatrix:
    """Return the softmax in float64; rows of a head whose logits are not finite become uniform."""
    is_finite = np.isfinite(logits).all(axis=1, keepdims=True)
    probabilities = np.exp(log_softmax(np.where(is_finite, logits, 0).astype(np.float64), axis=1))
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))
