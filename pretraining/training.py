"""A twin trained to read properties off crops: resumable round by round, its scans and batches following from the seed.

A twin that learns slowly by itself gets a teacher: a trained twin of another backbone, whose features it learns to
predict as well, place by place and in their mean. The idea is that of Romero et al., FitNets (2015), equation 3.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pretraining.crops import CropBatches, CropRecipe
from pretraining.networks import NOTHING, build_twin
from pretraining.properties import N_BINS, PROPERTIES
from pretraining.scans import ScanPool
from sem_search.errors import SemSearchError, SettingsError
from sem_search.progress import ProgressMeter
from sem_search.seeds import derive_seed
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.weights.files import compute_weights_digest

WARM_UP = 0.03
"""Share of the steps over which the learning rate rises."""

FAINT = 1e-3
"""Variance of a teacher's channel, well below which there is nothing to imitate."""


class TrainingError(SemSearchError):
    """Nothing can be learned any more."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How one twin is trained."""

    divisor: int
    skipped: str = NOTHING
    crop_px: int
    batch_size: int
    n_rounds: int
    n_steps: int
    """In a round."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    teacher: str | None = None
    """The backbone whose trained twin is imitated."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained twin, and of which backbone it is."""

    twin: keras.Model
    backbone: Backbone


@dataclass(frozen=True, kw_only=True)
class TrainedTwin:
    """A twin that has learned, and what that took."""

    network: keras.Model
    training_s: float
    """Without what was waited for scans, and without its teacher's."""
    identity: Mapping[str, Any]
    """See `describe_training`."""


class PropertyReader(keras.Model):
    """A twin, its mean features, and for each property how likely each bin is: all linear behind the features."""

    def __init__(self, twin: keras.Model, *, backbone: Backbone, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.twin, self.backbone = twin, backbone
        self.answers = keras.layers.Dense(len(PROPERTIES) * N_BINS)
        self.imitation = None if teacher is None else Imitation(teacher)

    def call(self, crops: Any, training: bool = False) -> Any:
        """Return logits, shape (n, n_properties, N_BINS), of crops of shape (n, side_px, side_px) in [0, 1]."""
        maps = self.twin(self.backbone.preprocess(crops), training=training)
        if self.imitation is not None:
            self.imitation(crops, maps)
        return keras.ops.reshape(self.answers(_pool(maps)), (-1, len(PROPERTIES), N_BINS))


class Imitation(keras.layers.Layer):
    """How badly a teacher's features follow, linearly, from a twin's: the mean squares are added to the loss."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        n_channels = teacher.twin.output_shape[-1]
        self.places = keras.layers.Dense(n_channels)
        self.means = keras.layers.Dense(n_channels)

    def call(self, crops: Any, maps: Any) -> Any:
        """Return the maps as they are.

        Args:
            crops: Shape (n, side_px, side_px), in [0, 1].
            maps: The twin's features, shape (n, height, width, n_channels); the teacher's must be as high and wide.
        """
        wanted = keras.ops.stop_gradient(self.teacher.twin(self.teacher.backbone.preprocess(crops), training=False))
        if maps.shape[1:3] != wanted.shape[1:3]:
            raise ValueError(f"the twin's maps are {maps.shape[1:3]}, its teacher's {wanted.shape[1:3]}")
        self.add_loss(_mean_square(self.places(maps) - _standardise(wanted)))
        self.add_loss(_mean_square(self.means(_pool(maps)) - _standardise(_pool(wanted))))
        return maps


def _pool(maps: Any) -> Any:
    return keras.ops.mean(maps, axis=(1, 2))


def _mean_square(values: Any) -> Any:
    return keras.ops.mean(keras.ops.square(values))


def _standardise(values: Any) -> Any:
    """Return each channel with mean 0 and variance 1 over the batch; what hardly varies stays small."""
    mean, variance = keras.ops.moments(values, axes=list(range(len(values.shape) - 1)))
    return (values - mean) / keras.ops.sqrt(variance + FAINT)


def train_twin(
    pool: ScanPool,
    *,
    backbone: Backbone,
    recipe: TrainingRecipe,
    folder: Path,
    show: Callable[[str], None],
    teacher: Teacher | None = None,
) -> TrainedTwin:
    """Train a twin, or take up its training where it was interrupted; return it.

    Args:
        pool: The scans; their round is the training's.
        backbone: Of which network.
        recipe: How.
        folder: Keeps the state after each round.
        show: Called with a line on each round.
        teacher: The one that the recipe names.

    Raises:
        SettingsError: The folder holds another training.
        TrainingError: The loss is no number any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader = build_reader(backbone, recipe=recipe, teacher=teacher)
    identity = describe_training(pool, recipe=recipe, teacher=teacher)
    state = _TrainingState(folder, identity=identity)
    done, training_s = state.restore(reader)
    if done < recipe.n_rounds:
        pool.begin_rendering(round_number=done)
    for number in range(done, recipe.n_rounds):
        finish_rendering(pool)
        if number + 1 < recipe.n_rounds:
            pool.begin_rendering(round_number=number + 1)  # while the network trains
        begun_s = time.monotonic()
        loss = _train_round(reader, pool=pool, recipe=recipe, number=number)
        round_s = time.monotonic() - begun_s
        training_s += round_s
        state.store(reader, n_rounds=number + 1, training_s=training_s)
        n_crops = recipe.n_steps * recipe.batch_size
        show(f"round {number + 1} of {recipe.n_rounds}: loss {loss:.4f}, {n_crops / round_s:.0f} crops/s")
    return TrainedTwin(network=reader.twin, training_s=training_s, identity=identity)


def build_reader(backbone: Backbone, *, recipe: TrainingRecipe, teacher: Teacher | None) -> PropertyReader:
    """Return a twin that has learned nothing yet, ready to be trained."""
    keras.utils.set_random_seed(derive_seed(recipe.seed, "twin"))
    twin = build_twin(backbone.build_open(), divisor=recipe.divisor, skipped=recipe.skipped)
    reader = PropertyReader(twin, backbone=backbone, teacher=teacher)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Not TensorFlow's XLA, which Keras would choose: twice slower on processors for networks as narrow as these. JAX
    # compiles in no other way.
    reader.compile(optimizer=build_optimizer(recipe), loss=loss, jit_compile=keras.backend.backend() == "jax")
    reader(np.zeros((1, recipe.crop_px, recipe.crop_px), dtype=np.float32))
    reader.optimizer.build(reader.trainable_variables)
    return reader


def _train_round(reader: PropertyReader, *, pool: ScanPool, recipe: TrainingRecipe, number: int) -> float:
    """Train for a round and return its mean loss."""
    crops = CropRecipe(side_px=recipe.crop_px, batch_size=recipe.batch_size, seed=recipe.seed)
    batches = CropBatches(pool, recipe=crops, first=number * recipe.n_steps, n_batches=recipe.n_steps)
    label = f"{reader.backbone.name}, round {number + 1} of {recipe.n_rounds}"
    with ProgressMeter(label, total=recipe.n_steps, unit="steps", is_shown=True) as meter:
        tell_step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: meter.update(1))
        history = reader.fit(batches, shuffle=False, verbose=0, callbacks=[tell_step]).history
    loss = float(history["loss"][-1])
    if not np.isfinite(loss):
        raise TrainingError(
            f"{reader.backbone.name}: the loss of round {number + 1} is {loss}; what was learned before is stored. "
            "Lower the recipe's learning rate."
        )
    return loss


def describe_training(pool: ScanPool, *, recipe: TrainingRecipe, teacher: Teacher | None) -> dict[str, Any]:
    """Return, as plain data, what a training must have in common with the one that it takes up."""
    return {
        "recipe": asdict(recipe),
        "scans": asdict(pool.recipe),
        "powders": pool.digest,
        "teacher": None if teacher is None else compute_weights_digest(teacher.twin),
    }


def finish_rendering(pool: ScanPool) -> None:
    """Wait for the scans of the round, and show how they come."""
    with ProgressMeter(
        "Rendering", total=pool.n_pending, unit="scans", is_shown=pool.n_pending > pool.recipe.n_renewed
    ) as meter:
        for n_scans in pool.finish_rendering():
            meter.update(n_scans)


def build_optimizer(recipe: TrainingRecipe) -> keras.optimizers.Optimizer:
    """Return AdamW whose learning rate rises, and falls as a cosine."""
    n_steps = recipe.n_rounds * recipe.n_steps
    n_warm_up = max(1, int(WARM_UP * n_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-6, n_steps - n_warm_up, warmup_target=recipe.learning_rate, warmup_steps=n_warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)


class _TrainingState:
    """The files that a training is taken up from."""

    def __init__(self, folder: Path, *, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, identity

    def restore(self, reader: PropertyReader) -> tuple[int, float]:
        """Load what was learned; return how many rounds and seconds that took.

        Raises:
            SettingsError: The folder holds another training.
        """
        if not (self.folder / "state.json").exists():
            return 0, 0.0
        state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        others = [name for name, value in self.identity.items() if state.get(name) != value]
        if others:
            raise SettingsError(
                f"{self.folder} holds another training; what differs: {', '.join(others)}. Choose another folder, or "
                "remove this one."
            )
        reader.load_weights(self.folder / state["file"])
        return int(state["n_rounds"]), float(state["training_s"])

    def store(self, reader: PropertyReader, *, n_rounds: int, training_s: float) -> None:
        """Write what was learned beside the last state, then point to it."""
        file = f"round-{n_rounds}.weights.h5"
        reader.save_weights(self.folder / file)
        partial = self.folder / "state.json.partial"
        stored = {**self.identity, "file": file, "n_rounds": n_rounds, "training_s": training_s}
        partial.write_text(json.dumps(stored), encoding="utf-8")
        partial.replace(self.folder / "state.json")
        for old in self.folder.glob("round-*.weights.h5"):
            if old.name != file:
                old.unlink()
