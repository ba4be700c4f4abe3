"""Whole epochs as one compiled call: gather, forward, gradients and update in a loop that never returns to Python.

Stepping from Python costs about as much as a small batch itself. The loop is compiled once per head and takes batch
size, learning rate and order as arguments, so that all cells and folds share it.
Source of the update: SGD with momentum as Keras does it, velocity = momentum * velocity - learning_rate * gradient;
weight += velocity.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from sem_search.transfer.heads.passes import HeadPass

EVALUATION_TILES = 64
"""Tiles per step where nothing is trained: large enough for full speed, small enough for the processor's cache."""


class HeadLoop:
    """The compiled loops of one head."""

    def __init__(
        self, head: keras.Model, *, head_pass: HeadPass, specs: Sequence[tf.TensorSpec], momentum: float
    ) -> None:
        """Prepare the loops; they are compiled at their first call.

        Args:
            head: Its trainable variables are what is trained.
            head_pass: How the head is computed.
            specs: Shapes and types of the prepared tensors.
            momentum: Of SGD, in [0, 1).
        """
        self._pass = head_pass
        self._variables = [variable.value for variable in head.trainable_variables]
        self._velocities = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self._variables]
        self._momentum = tf.constant(momentum, tf.float32)
        places, scalar = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64)
        self.train = tf.function(
            self._train,
            input_signature=[
                list(specs),
                places,
                tf.TensorSpec((None,), tf.int32),
                scalar,
                tf.TensorSpec((), tf.float32),
                tf.TensorSpec((None,), tf.float32),
            ],
        )
        self.compute_logits = tf.function(self._compute_logits, input_signature=[list(specs), places])

    def reset(self) -> None:
        """Forget the momentum of earlier epochs."""
        for velocity in self._velocities:
            velocity.assign(tf.zeros_like(velocity))

    def _train(
        self,
        prepared: list[tf.Tensor],
        places: tf.Tensor,
        labels: tf.Tensor,
        batch_size: tf.Tensor,
        learning_rate: tf.Tensor,
        class_weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Train on these tiles once, batch by batch; the last batch may be smaller.

        Args:
            prepared: Prepared tensors of all tiles, or of a chunk of them.
            places: Places of the tiles in them, in the order of training, shape (n,).
            labels: Their classes, shape (n,).
            batch_size: Tiles per step.
            learning_rate: Of SGD.
            class_weights: By how much a tile of each class counts in a step, shape (n_classes,).

        Returns:
            Sum of the cross-entropies and number of correctly classified tiles, both from before each step.
        """
        n_tiles = tf.size(places, tf.int64)
        loss_sum = tf.constant(0.0, tf.float64)
        n_correct = tf.constant(0, tf.int64)
        for start in tf.range(0, n_tiles, batch_size):
            batch = places[start : start + batch_size]
            truth = labels[start : start + batch_size]
            losses, logits = self._step(
                self._gather(prepared, batch), truth, learning_rate, tf.gather(class_weights, truth)
            )
            loss_sum += tf.reduce_sum(tf.cast(losses, tf.float64))
            n_correct += tf.math.count_nonzero(tf.argmax(logits, axis=1, output_type=tf.int32) == truth)
        return loss_sum, n_correct

    def _step(
        self, prepared: list[tf.Tensor], labels: tf.Tensor, learning_rate: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Make one step of SGD; return losses (n,), not weighted, and logits (n, n_classes) from before it."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            logits = self._pass.compute_logits(prepared, is_training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(losses * weights)
        gradients = tape.gradient(loss, self._variables)
        for variable, velocity, gradient in zip(self._variables, self._velocities, gradients, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle, accum=velocity.handle, lr=learning_rate, grad=gradient, momentum=self._momentum
            )
        return losses, logits

    def _compute_logits(self, prepared: list[tf.Tensor], places: tf.Tensor) -> tf.Tensor:
        """Return the logits of these tiles without dropout, shape (n, n_classes)."""
        n_tiles = tf.size(places)
        n_batches = (n_tiles + EVALUATION_TILES - 1) // EVALUATION_TILES
        logits = tf.TensorArray(tf.float32, size=n_batches, infer_shape=False)
        for index in tf.range(n_batches):
            batch = places[index * EVALUATION_TILES : (index + 1) * EVALUATION_TILES]
            logits = logits.write(index, self._pass.compute_logits(self._gather(prepared, batch), is_training=False))
        return logits.concat()

    def _gather(self, prepared: list[tf.Tensor], places: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(tensor, places, axis=self._pass.tile_axis) for tensor in prepared]
