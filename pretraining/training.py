"""One twin trained to read properties off crops: resumable round by round, the same on every run with the same seed."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pretraining.crops import CropBatches, CropRecipe
from pretraining.networks import NOTHING, build_twin
from pretraining.properties import N_BINS, PROPERTIES
from pretraining.scans import ScanPool
from sem_search.seeds import derive_seed
from sem_search.transfer.backbones import Backbone

WARM_UP = 0.03
"""Share of the steps over which the learning rate rises."""


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


class PropertyReader(keras.Model):
    """A twin, its mean features, and for each property how likely each bin is: all linear behind the features."""

    def __init__(self, twin: keras.Model, *, backbone: Backbone) -> None:
        super().__init__()
        self.twin, self.backbone = twin, backbone
        self.pooling = keras.layers.GlobalAveragePooling2D()
        self.answers = keras.layers.Dense(len(PROPERTIES) * N_BINS)

    def call(self, crops: Any, training: bool = False) -> Any:
        """Return logits, shape (n, n_properties, N_BINS), of crops of shape (n, side_px, side_px) in [0, 1]."""
        features = self.pooling(self.twin(self.backbone.preprocess(crops), training=training))
        return keras.ops.reshape(self.answers(features), (-1, len(PROPERTIES), N_BINS))


def train_twin(
    pool: ScanPool,
    *,
    backbone: Backbone,
    recipe: TrainingRecipe,
    folder: Path,
    tell: Callable[[str], None],
) -> keras.Model:
    """Train a twin, or take up its training where it was interrupted; return it.

    Args:
        pool: The scans; their round is the training's.
        backbone: Of which network.
        recipe: How.
        folder: Keeps the state after each round.
        tell: Is told of each round.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(derive_seed(recipe.seed, "twin"))
    twin = build_twin(backbone.build_open(), divisor=recipe.divisor, skipped=recipe.skipped)
    reader = PropertyReader(twin, backbone=backbone)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Not XLA, which Keras would choose: twice slower on processors for networks as narrow as these.
    reader.compile(optimizer=build_optimizer(recipe), loss=loss, jit_compile=False)
    reader(np.zeros((1, recipe.crop_px, recipe.crop_px), dtype=np.float32))
    reader.optimizer.build(reader.trainable_variables)
    state = _TrainingState(folder, recipe=recipe)
    done = state.restore(reader)
    if done < recipe.n_rounds:
        pool.begin_rendering(round_number=done)
    for number in range(done, recipe.n_rounds):
        for _ in pool.finish_rendering():
            pass
        if number + 1 < recipe.n_rounds:
            pool.begin_rendering(round_number=number + 1)  # while the network trains
        begun_s = time.monotonic()
        crops = CropRecipe(side_px=recipe.crop_px, batch_size=recipe.batch_size, seed=recipe.seed)
        batches = CropBatches(pool, recipe=crops, first=number * recipe.n_steps, n_batches=recipe.n_steps)
        mean_loss = reader.fit(batches, shuffle=False, verbose=0).history["loss"][-1]
        state.keep(reader, n_rounds=number + 1)
        n_crops = recipe.n_steps * recipe.batch_size
        tell(
            f"round {number + 1} of {recipe.n_rounds}: loss {mean_loss:.4f}, "
            f"{n_crops / (time.monotonic() - begun_s):.0f} crops/s"
        )
    return twin


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

    def __init__(self, folder: Path, *, recipe: TrainingRecipe) -> None:
        self.folder, self.recipe = folder, asdict(recipe)

    def restore(self, reader: PropertyReader) -> int:
        """Load what was learned; return how many rounds that took.

        Raises:
            ValueError: The folder holds another training.
        """
        if not (self.folder / "state.json").exists():
            return 0
        state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        if state["recipe"] != self.recipe:
            raise ValueError(f"{self.folder} holds another training ({state['recipe']}); choose another folder")
        reader.load_weights(self.folder / state["file"])
        return int(state["n_rounds"])

    def keep(self, reader: PropertyReader, *, n_rounds: int) -> None:
        """Write what was learned beside the last state, then point to it."""
        file = f"round-{n_rounds}.weights.h5"
        reader.save_weights(self.folder / file)
        partial = self.folder / "state.json.partial"
        partial.write_text(json.dumps({"recipe": self.recipe, "file": file, "n_rounds": n_rounds}), encoding="utf-8")
        partial.replace(self.folder / "state.json")
        for old in self.folder.glob("round-*.weights.h5"):
            if old.name != file:
                old.unlink()
