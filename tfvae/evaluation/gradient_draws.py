"""Draws of a gradient estimator on one batch, in graphs."""

import statistics
import time

import numpy as np
import tensorflow as tf

from tfvae.bound import Bound
from tfvae.models import LatentVariableModel
from tfvae.optimizers import Adam
from tfvae.random import Stream, fold_in, make_seed

GROUPS = 20  # in which draws are averaged; their means tell the errors of all measures
_UNTIMED = 5


class GradientDraws:
    """Gradients of one estimator in the weights of q(z|x), of -mean of the surrogate of a batch.

    Draw n of a stream is a function of (seed, stream, n).

    Args:
        model: a model of the caller's own, which is compiled here; its weights stay as they are.
        x: the batch, `[B, *x_shape]`.
        y: conditions, `[B, ...]`, or None.
        objective: an objective.
        name: of the estimator.
        num_samples: K.
        seed: decides all draws.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        x: tf.Tensor,
        y: tf.Tensor | None,
        objective,
        name: str,
        num_samples: int,
        seed: int,
    ):
        model.compile(Adam(1e-3), objective=objective, estimator=name, num_samples=num_samples)
        self.model, self.x, self.y = model, x, y
        self.estimator, self.seed = model.estimator, make_seed(seed)
        self._bound = Bound(objective, num_samples)
        self._optimizer = Adam(1e-2)
        self._q = model.inference_variables
        learned = {id(v) for v in self.estimator.variables}
        moved = [v for v in model.non_trainable_variables if id(v) not in learned]
        self._state = [(variable, variable.numpy()) for variable in moved]
        self.gradient = tf.function(self._gradient, autograph=False)
        self._sums_in_graph = tf.function(self._sums, autograph=False)
        self._learn_in_graph = tf.function(self._learn, autograph=False)
        self._step_in_graph = tf.function(self._step, autograph=False)

    def warm_up(self, num_steps: int) -> None:
        """Train what the estimator learns, if anything, such as baselines."""
        for number in range(num_steps if self.estimator.weights else 0):
            self._learn_in_graph(fold_in(self.seed, int(Stream.TRAIN), number))
        self._restore()

    def groups(self, count: int, stream: Stream) -> tuple[np.ndarray, float, int]:
        """Return means of groups of draws `[G, P]`, the mean squared norm, and the count."""
        num_groups = min(GROUPS, count)
        size = count // num_groups  # without a rest: a multiple, or fewer than the groups
        starts = range(0, num_groups * size, size)
        sums = [
            self._sums_in_graph(int(stream), tf.constant(n), tf.constant(n + size)) for n in starts
        ]
        totals, squares = zip(*sums, strict=True)
        mean_square = float(sum(squares)) / (num_groups * size)
        return np.stack(totals) / size, mean_square, num_groups * size

    def milliseconds(self, repeats: int = 30) -> float:
        """Return the median time of a value with all its gradients."""
        times = []
        for number in range(repeats + _UNTIMED):
            start = time.perf_counter()
            self._step_in_graph(fold_in(self.seed, number))[0].numpy()
            times.append(time.perf_counter() - start)
        self._restore()
        return 1e3 * statistics.median(times[_UNTIMED:])

    def _gradients(self, seed, variables, training):
        """Return the gradients in the variables, None where there is none, and the estimate."""
        with tf.GradientTape() as tape:
            infer = self.model.inference(self.x, training, None, self.y, seed)
            context = self.model.likelihood.filled(self.x)
            estimate = self.estimator.estimate(self._bound, infer, context, seed, training)
            loss = -tf.reduce_mean(estimate.surrogate)
        return tape.gradient(loss, variables), estimate

    def _gradient(self, seed):
        """Return the gradient of one draw, `[P]`."""
        found, _ = self._gradients(seed, self._q, training=False)
        pairs = zip(found, self._q, strict=True)
        parts = [tf.zeros(v.shape) if g is None else g for g, v in pairs]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    def _sums(self, stream, start, end):
        """Return the sum of the draws from `start` on to before `end`, and of their squares."""

        def add(number, total, square):
            g = tf.cast(self.gradient(fold_in(self.seed, stream, number)), tf.float64)
            return number + 1, total + g, square + tf.reduce_sum(g**2)

        size = sum(variable.shape.num_elements() for variable in self._q)
        zeros = tf.zeros(size, tf.float64), tf.zeros((), tf.float64)
        _, total, square = tf.while_loop(
            lambda number, *_: number < end, add, (start, *zeros), parallel_iterations=1
        )
        return total, square

    def _learn(self, seed):
        """Make a step of what the estimator learns."""
        own = self.estimator.trainable_variables
        found, estimate = self._gradients(seed, own, training=True)
        if own:
            self._optimizer.apply_gradients(zip(found, own, strict=True))
        if estimate.statistics is not None:
            self.estimator.update(estimate.statistics)

    def _step(self, seed):
        """Return a number of each gradient of a step of training, whose time is taken."""
        found, _ = self._gradients(seed, self.model.trainable_variables, training=True)
        return [tf.reduce_sum(g) for g in found if g is not None]

    def _restore(self):
        """Undo what passes in training did to the model, such as to the means of a batch norm.

        All draws, and those of the reference, are of the same function.
        """
        for variable, value in self._state:
            variable.assign(value)
