"""Adam with TensorFlow's fused kernel, a warm-up of the learning rate, and related parts."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfvae import replicas
from tfvae._plain.checks import whole


@keras.saving.register_keras_serializable("tfvae")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, update for update, with the arithmetic of a step in one kernel.

    One operator for each variable takes the place of a dozen.

    Arguments, variables and checkpoints are those of Keras's Adam. `amsgrad=True` and variables
    that are not float32 take Keras's own path.
    """

    def apply(self, grads, trainable_variables=None):
        """Apply gradients; see `keras.optimizers.Optimizer.apply`."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta1, beta2 = (tf.constant(beta, tf.float32) for beta in (self.beta_1, self.beta_2))
        # What all variables share: in the graph of each it would cost as much as its update.
        self._update = functools.partial(
            tf.raw_ops.ResourceApplyAdam,
            beta1_power=tf.pow(beta1, step),
            beta2_power=tf.pow(beta2, step),
            beta1=beta1,
            beta2=beta2,
            epsilon=tf.constant(self.epsilon, tf.float32),
        )
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._update = None

    def update_step(self, gradient, variable, learning_rate):
        """Apply one gradient to one variable."""
        if self.amsgrad or variable.dtype != "float32" or tf.distribute.has_strategy():
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        self._update(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            lr=tf.cast(learning_rate, tf.float32),
            grad=tf.cast(gradient, tf.float32),
        )
        return None


@keras.saving.register_keras_serializable("tfvae")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly over the first steps: rate(t) · min(1, (t + 1) / steps).

    Args:
        rate: a number, or a Keras `LearningRateSchedule`.
        steps: how many steps it rises over.
    """

    def __init__(self, rate: float | Callable, steps: int):
        self.rate, self.steps = rate, whole("steps", steps)

    def __call__(self, step):
        """Return the rate of a step, from 0 on."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / self.steps)

    def get_config(self):
        """Return the constructor arguments."""
        return {"rate": keras.saving.serialize_keras_object(self.rate), "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        """Return the schedule with these constructor arguments."""
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["steps"])


def averaging(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer | None:
    """Return the optimizer that keeps averages of the weights, inside of a loss scale if need be.

    None where there are no averages.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer if getattr(optimizer, "use_ema", False) else None


def learning_rate_of(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the next step, also where every replica has a copy of it."""
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def adam_direction(
    gradient: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    done: tf.Tensor,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the direction of Adam's step, and its moments after it.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.

    Args:
        gradient: any shape.
        first: the mean of the gradients so far, m.
        second: the mean of their squares, v.
        done: how many steps were made, this one included; broadcasts against the gradient.
        beta_1: decay of m.
        beta_2: decay of v.
        epsilon: added to √v̂.
    """
    first = beta_1 * first + (1.0 - beta_1) * gradient
    second = beta_2 * second + (1.0 - beta_2) * gradient**2
    mean, square = first / (1.0 - beta_1**done), second / (1.0 - beta_2**done)
    return mean / (tf.sqrt(square) + epsilon), first, second


def all_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return whether every number of the tensors is finite, a scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])


def assign_if(condition: tf.Tensor) -> Callable[[keras.Variable, tf.Tensor], None]:
    """Return a function that assigns a value to a variable where the condition holds."""

    def assign(variable, value):
        variable.assign(tf.where(condition, value, variable.value))

    return assign


class ScaleFreeAdam:
    """Adam for weights that a layer trains itself, independently of the model's optimizer.

    A step is at most about `learning_rate` for each weight, however large its gradient is: the
    moments are kept of gradients divided by the largest entry seen so far in their variable.
    Gradients of which one is not finite make no step, and change no moment.

    Args:
        layer: the layer that saves the moments, as weights that are not trained.
        variables: what is trained: weights of the layer or of its networks.
        learning_rate: the size of a step.
    """

    def __init__(self, layer: keras.layers.Layer, variables: list, learning_rate: float):
        def state(shape, name):
            return layer.add_weight(
                shape=shape,
                initializer="zeros",
                trainable=False,
                autocast=False,
                name=name,
                dtype="float32",
                aggregation="only_first_replica",
            )

        self.variables, self.learning_rate = list(variables), learning_rate
        self._done = state((), "steps")
        self._moments = [
            (state(v.shape, "first"), state(v.shape, "second"), state((), "largest"))
            for v in self.variables
        ]

    def step(self, gradients: list[tf.Tensor]) -> None:
        """Make a step down the gradients, summed over replicas."""
        gradients = replicas.sums(gradients)
        assign = assign_if(all_finite(gradients))
        done = self._done.value + 1.0
        assign(self._done, done)
        for variable, gradient, moments in zip(
            self.variables, gradients, self._moments, strict=True
        ):
            first, second, largest = moments
            unit = tf.maximum(largest.value, tf.reduce_max(tf.abs(gradient)))
            assign(largest, unit)
            scaled = tf.math.divide_no_nan(gradient, unit)
            direction, m, v = adam_direction(scaled, first.value, second.value, done)
            assign(first, m)
            assign(second, v)
            value = variable.value - self.learning_rate * direction
            assign(variable, value if variable.constraint is None else variable.constraint(value))


@keras.saving.register_keras_serializable("tfvae")
class Clip(keras.constraints.Constraint):
    """Keeps a weight between two numbers.

    Args:
        least: the smaller.
        most: the larger.
    """

    def __init__(self, least: float, most: float):
        self.least, self.most = least, most

    def __call__(self, value):
        """Return the value, clipped."""
        return tf.clip_by_value(value, self.least, self.most)

    def get_config(self):
        """Return the constructor arguments."""
        return {"least": self.least, "most": self.most}
