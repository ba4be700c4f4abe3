"""When a fold ends: at its last epoch, when it no longer gets better, or when it has diverged.

Three signs end a fold at once as diverged. Its score counts: a learning rate at which training fails is a finding.

1. A loss is not finite.
2. The training loss was above twice its start in each of the last three epochs. The start is the loss of the untrained
   head, and at least that of guessing, ln(n_classes). A healthy head cannot do this: even the smallest learning rate
   keeps the loss near its start (dropout raises it by some per cent), and the bump that momentum causes in the first
   epochs is shorter.
3. The head has died: for three epochs every tile, of validation and training alike, got exactly the same logits. All
   its ReLUs are off then, their gradients are exactly zero, and no further epoch can change an answer.
"""

import math

from sem_search.records import EpochFigures, TrainingCurves

DIVERGED_EPOCHS = 3
DIVERGED_FACTOR = 2.0


class FoldWatch:
    """Takes in the figures of each epoch; knows which epoch is best and when the fold ends."""

    def __init__(self, *, epochs: int, patience: int, start_loss: float, n_classes: int) -> None:
        """Begin a fold.

        Args:
            epochs: Most epochs.
            patience: Epochs without a lower validation loss before the fold ends; 0 for a fixed length, after which
                the last epoch counts as best.
            start_loss: Mean cross-entropy of the untrained head.
            n_classes: Number of classes.
        """
        self._epochs = epochs
        self._patience = patience
        self._loss_limit = DIVERGED_FACTOR * max(start_loss, math.log(n_classes))
        self._figures: list[EpochFigures] = []
        self._n_dead = 0
        self._best_epoch: int | None = None

    def add(self, figures: EpochFigures, *, is_dead: bool = False) -> None:
        """Take in the next epoch; `is_dead` where every tile got the same logits."""
        lowest = math.inf if self._best_epoch is None else self._figures[self._best_epoch].validation_loss
        self._figures.append(figures)
        self._n_dead = self._n_dead + 1 if is_dead else 0
        if self._patience == 0 or figures.validation_loss < lowest:
            self._best_epoch = len(self._figures) - 1

    def __len__(self) -> int:
        """Return the number of epochs so far."""
        return len(self._figures)

    @property
    def best_epoch(self) -> int:
        """Index of the epoch whose weights count: the last one if no validation loss was ever finite."""
        return len(self._figures) - 1 if self._best_epoch is None else self._best_epoch

    @property
    def is_best_now(self) -> bool:
        """Whether the epoch last added is the best so far."""
        return self.best_epoch == len(self._figures) - 1

    @property
    def is_diverged(self) -> bool:
        """Whether training has failed for good; see the module's three signs."""
        last = self._figures[-DIVERGED_EPOCHS:]
        if not last:
            return False
        if not (math.isfinite(last[-1].training_loss) and math.isfinite(last[-1].validation_loss)):
            return True
        if len(last) < DIVERGED_EPOCHS:
            return False
        return self._n_dead >= DIVERGED_EPOCHS or all(epoch.training_loss > self._loss_limit for epoch in last)

    @property
    def is_finished(self) -> bool:
        """Whether the fold ends here."""
        n_done = len(self._figures)
        is_stale = self._patience > 0 and n_done - 1 - self.best_epoch >= self._patience
        return n_done >= self._epochs or is_stale or self.is_diverged

    @property
    def curves(self) -> TrainingCurves:
        """The figures of all epochs."""
        return TrainingCurves.from_epochs(self._figures)
