"""The contract of a prior over codes."""

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae import conditions
from tfvae._plain import checks
from tfvae.code_priors import data, sampling
from tfvae.code_priors.dropout import Dropout
from tfvae.code_priors.training_loop import MaximumLikelihood
from tfvae.errors import InvalidArgument
from tfvae.graphs import in_graph
from tfvae.random import Stream, make_seed, stream_seed
from tfvae.registry import Registry

REGISTRY = Registry("code prior")


class CodePrior(conditions.Conditional, MaximumLikelihood):
    """p(codes) = Π_i p(code_i | code_1, …, code_{i−1}) over integer arrays, as a Keras model.

    Codes are int arrays of `code_shape` with values 0, …, K − 1, taken in raster order, the last
    axis fastest. `fit(codes)`, or `fit(codes, labels)` with classes, minimizes −log p(codes).
    Calling the model on codes gives `logits`.

    Subclasses add their weights in `build`, after `super().build(input_shape)`, and implement

    - `network(codes, classes, dropout)`: the logits of all positions at once;
    - `first_state(classes)` and `step(state, position, previous)`: the same, a position at a time.

    Args:
        codebook_size: K.
        num_classes: how many labels the condition y of p(codes | y) chooses from; 0 for none.
        seed: with the step, decides the noise of training, which is dropout.

    Attributes:
        condition: the labels, a `tfvae.conditions.Classes`; None without classes.
        code_shape: shape of the codes of one example, known once built.
        num_positions: how many codes that is.
        dropout: share of the values that `network` drops in training; subclasses set it.

    Raises:
        InvalidArgument: sizes that cannot be used.
    """

    dropout = 0.0
    makes_conditional = "Make the prior with `num_classes=`"

    # Keras would export a signature that calls the model on floats and without labels.
    _default_save_signature = None

    def __init__(self, codebook_size: int, num_classes: int = 0, seed: int = 0, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.codebook_size = checks.whole("codebook_size", codebook_size)
        if self.codebook_size >= 2**31:
            raise InvalidArgument(
                f"`codebook_size` is {codebook_size}; expected below 2^31, since codes are int32."
            )
        self.num_classes = checks.whole("num_classes", num_classes) if num_classes else 0
        self.condition = conditions.get(self.num_classes or None)

    def build(self, input_shape):
        """Take the shape of the codes, `(None, *code_shape)`; subclasses add their weights here.

        Raises:
            InvalidArgument: a shape without positions, or with an axis of unknown size.
        """
        shape = tuple(input_shape[1:])
        if not shape or not all(shape):
            raise InvalidArgument(
                f"A prior was built for codes of shape {tuple(input_shape)}; expected (None, "
                "*code_shape) with known sizes of at least 1, such as (None, 8, 8)."
            )
        self.code_shape = shape
        self.num_positions = math.prod(shape)

    def network(self, codes: tf.Tensor, classes: tf.Tensor, dropout: Dropout) -> tf.Tensor:
        """Return the logits of all positions, `[B, *code_shape, K]`, in any float type.

        Args:
            codes: `[B, *code_shape]` int32.
            classes: `[B]` int32; all 0 without classes.
            dropout: call it on values to drop a share of them; it does nothing outside training.
        """
        raise NotImplementedError

    def first_state(self, classes: tf.Tensor) -> Any:
        """Return the state before the first position, a nest of tensors, for classes `[B]`."""
        raise NotImplementedError

    def step(self, state: Any, position: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Return the logits of one position, given those before; the cost is that of one position.

        Positions come in order, from 0, each once. It is traced into the loop of `draw`: operators
        that LiteRT has, no Python control flow on tensors.

        Args:
            state: what `start` or the step before returned.
            position: scalar int32, in raster order.
            previous: `[B]` int32, the codes at position − 1; at position 0 they have no effect.

        Returns:
            Logits `[B, K]` float32, the same as those of `logits` to within rounding, and the state
            of the next step.
        """
        raise NotImplementedError

    def start(
        self, batch_size: int | tf.Tensor, condition: np.ndarray | tf.Tensor | int | None = None
    ) -> Any:
        """Return the state before the first position, a nest of tensors; see `step`.

        Args:
            batch_size: B, an int or a scalar tensor.
            condition: labels `[B]` or one label for all, with classes; else None.
        """
        self._check_built()
        return self.first_state(self._classes(condition, batch_size))

    def state_bytes(self) -> int:
        """Return the memory that the state of one example takes; see `start`."""
        state = self.start(1, 0 if self.num_classes else None)
        return sum(part.dtype.size * math.prod(part.shape) for part in tf.nest.flatten(state))

    def logits(
        self,
        codes: np.ndarray | tf.Tensor,
        condition: np.ndarray | tf.Tensor | int | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Return log p(code_i = k | codes before i) + constant, `[B, *code_shape, K]` float32.

        Args:
            codes: `[B, *code_shape]` integers.
            condition: labels `[B]` or one label for all, with classes; else None.
            training: whether there is dropout: that of the current training step.

        Raises:
            InvalidData: codes that are not integers or have another shape, and codes or labels that
                are out of range.
            InvalidArgument: labels are missing or not wanted.
        """
        codes = self._tensor(codes)
        classes = self._classes(condition, tf.shape(codes)[0])
        dropout = Dropout(self.dropout, self._dropout_seed if training else None)
        return tf.cast(self.network(codes, classes, dropout), tf.float32)

    def log_prob(
        self,
        codes: np.ndarray | tf.Tensor,
        condition: np.ndarray | tf.Tensor | int | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Return log p(codes) in nats, the sum over the positions, `[B]` float32; see `logits`.

        In a graph, where values are not known, it is −∞ for codes that are out of range.
        """
        given, codes = codes, self._tensor(codes)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
            codes, self.logits(codes, condition, training)
        )
        return self.possible(given, -tf.reduce_sum(nats, axis=range(1, len(codes.shape))))

    def possible(self, codes: np.ndarray | tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        """Return log p `[B]`, with −∞ where codes `[B, *code_shape]` are not among 0, …, K − 1."""
        are_codes = _in_range(tf.convert_to_tensor(codes), self.codebook_size)
        return tf.where(tf.reduce_all(are_codes, range(1, len(are_codes.shape))), log_p, -math.inf)

    def call(self, codes, condition=None, training=False):
        """Return `logits`."""
        return self.logits(codes, condition, training)

    def draw(
        self,
        seed: tf.Tensor,
        index: tf.Tensor,
        temperature: float = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        cached: bool = True,
    ) -> tf.Tensor:
        """Return draws number `index` of the stream `seed`, `[N, *code_shape]` int32.

        The draws depend on the arguments alone and use operators that LiteRT has: Keras, a
        SavedModel and a device draw the same codes, up to the rounding of logits, which can decide
        between two codes that are nearly equally probable. Use it inside `tf.function`; `sample` is
        for eager code.

        Args:
            seed: `[2]` int32.
            index: `[N]` int32.
            temperature: 1 draws from the prior; below 1, closer to its modes; 0 takes the most
                probable code at each position in turn.
            condition: labels `[N]` or one label for all, with classes; else None.
            top_k: choose among this many of the most probable codes.
            top_p: choose among the most probable codes that hold this much of the probability.
            cached: whether positions are computed one at a time, from a cache of earlier ones. If
                not, the network runs on all positions for each of them; for tests.

        Raises:
            InvalidArgument: an option out of range, labels missing or not wanted, not built.
            InvalidData: labels that are not integers or out of range.
        """
        self._check_built()
        sampling.check_options(temperature, top_k, top_p, self.codebook_size)
        state, step = self._cached(index, condition) if cached else self._whole(index, condition)
        choice = functools.partial(
            sampling.choose, temperature=temperature, top_k=top_k, top_p=top_p
        )
        codes = sampling.generate(
            step, state, seed, index, self.num_positions, self.codebook_size, choice
        )
        return tf.reshape(codes, [-1, *self.code_shape])

    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        cached: bool = True,
    ) -> tf.Tensor:
        """Return n draws, `[n, *code_shape]` int32.

        The first draws of a longer sample are those of a shorter one with the same seed.

        Args:
            n: how many.
            seed: any integer.
            temperature: see `draw`.
            condition: labels `[n]` or one label for all, with classes; else None.
            top_k: see `draw`.
            top_p: see `draw`.
            cached: see `draw`.

        Raises:
            InvalidArgument: an option out of range, labels missing or not wanted, not built.
            InvalidData: labels that are not integers, out of range, or not n.
        """
        self._check_built()
        n = checks.whole("n", n)
        sampling.check_options(temperature, top_k, top_p, self.codebook_size)
        condition = self.check_condition(condition, n)
        if condition is not None:
            condition = tf.broadcast_to(tf.cast(condition, tf.int32), [n])
        return _draw(
            self,
            make_seed(seed),
            tf.range(n, dtype=tf.int32),
            tf.constant(temperature, tf.float32),
            condition,
            # Numbers of NumPy would become tensors.
            None if top_k is None else int(top_k),
            None if top_p is None else float(top_p),
            cached,
        )

    def check_codes(self, codes: np.ndarray | tf.Tensor, name: str = "codes") -> None:
        """Refuse codes that have no probability under the prior.

        Raises:
            InvalidData: not integers, no examples, another shape, or values out of range.
        """
        code_shape = self.code_shape if self.built else None
        data.check_codes(codes, self.codebook_size, code_shape, name)

    def get_config(self):
        """Return the constructor arguments."""
        config = {name: getattr(self, name) for name in ("codebook_size", "num_classes", "seed")}
        return super().get_config() | config

    def _cached(self, index, condition):
        return self.start(tf.shape(index)[0], condition), self.step

    def _whole(self, index, condition):
        """A state and a step as `start` and `step` give them; the state is the codes so far."""

        def step(codes, position, previous):
            codes = sampling.place(codes, position - 1, previous)
            grid = tf.reshape(codes, [-1, *self.code_shape])
            logits = self.logits(grid, condition)
            flat = tf.reshape(logits, [-1, self.num_positions, self.codebook_size])
            return tf.gather(flat, position, axis=1), codes

        return tf.tile(tf.zeros_like(index)[:, tf.newaxis], [1, self.num_positions]), step

    def _tensor(self, codes):
        codes = tf.convert_to_tensor(codes)
        data.check_code_type(codes.dtype)
        if not self.built:
            self.build(tuple(codes.shape))
        data.check_code_shape(codes.shape[1:], self.code_shape)
        if tf.executing_eagerly():
            data.check_code_range(codes, self.codebook_size)
        codes = tf.where(_in_range(codes, self.codebook_size), tf.cast(codes, tf.int32), 0)
        return tf.ensure_shape(codes, [None, *self.code_shape])

    def _classes(self, condition, batch_size):
        """Return classes `[B]` int32, all 0 for a prior without classes: then there is one."""
        condition = self.check_condition(condition, tf.get_static_value(batch_size))
        labels = tf.cast(0 if condition is None else condition, tf.int32)
        return tf.broadcast_to(labels, [batch_size])

    def _dropout_seed(self, number):
        return stream_seed(self.seed, Stream.TRAIN, number, self.training_step)

    def _check_built(self):
        if not self.built:
            raise InvalidArgument(
                f"{self.name} does not know the shape of its codes yet. Fit it, or build it: "
                "`prior.build((None, 8, 8))`."
            )


def _in_range(codes, codebook_size):
    """Return which integers, of any type, are codes."""
    codes = tf.cast(codes, tf.int64)
    return (codes >= 0) & (codes < codebook_size)


@in_graph
def _draw(prior, *arguments):
    return prior.draw(*arguments)
