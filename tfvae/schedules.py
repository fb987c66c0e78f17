"""Schedules of β and of free bits over training steps.

Each is a Keras `LearningRateSchedule`, so Keras saves it, and any other such schedule, or any
function of the step, does as well. `final`, where a schedule has it, is the value that validation
uses, so that `val_loss` is comparable over epochs.
"""

import keras
import tensorflow as tf

from tfvae._plain.checks import finite, not_negative, positive, whole
from tfvae.errors import InvalidArgument

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("tfvae")
class LinearWarmup(LearningRateSchedule):
    """A rise from 0 in equal steps: final · min(1, t / steps) at training step t = 1, 2, ….

    Source: Bowman et al. 2016, "Generating sentences from a continuous space", sec. 3.1; Sønderby
    et al. 2016, "Ladder variational autoencoders", sec. 2.3.

    Args:
        steps: after how many training steps `final` is reached.
        final: the value from then on.
    """

    def __init__(self, steps: int, final: float = 1.0):
        self.steps = whole("steps", steps)
        self.final = not_negative("final", final)

    def __call__(self, step):
        """Return the value at the training step that follows `step` others."""
        progress = (tf.cast(step, tf.float32) + 1.0) / self.steps
        return self.final * tf.minimum(1.0, progress)

    def get_config(self):
        """Return the constructor arguments."""
        return {"steps": self.steps, "final": self.final}


@keras.saving.register_keras_serializable("tfvae")
class SigmoidWarmup(LearningRateSchedule):
    """A smooth rise: final · sigmoid((t − midpoint) / width) at training step t = 1, 2, ….

    Source: Bowman et al. 2016, "Generating sentences from a continuous space", fig. 2.

    Args:
        midpoint: the training step at which half of `final` is reached.
        width: training steps over which the logit rises by 1.
        final: the limit.
    """

    def __init__(self, midpoint: float, width: float, final: float = 1.0):
        self.midpoint = finite("midpoint", midpoint)
        self.width = positive("width", width)
        self.final = not_negative("final", final)

    def __call__(self, step):
        """Return the value at the training step that follows `step` others."""
        t = tf.cast(step, tf.float32) + 1.0
        return self.final * tf.sigmoid((t - self.midpoint) / self.width)

    def get_config(self):
        """Return the constructor arguments."""
        return {"midpoint": self.midpoint, "width": self.width, "final": self.final}


@keras.saving.register_keras_serializable("tfvae")
class CyclicalWarmup(LearningRateSchedule):
    """A linear rise again in every cycle: final · min(1, τ / rise), τ ∈ (0, 1] the place in it.

    Source: Fu et al. 2019, "Cyclical annealing schedule", eq. 6 and 7.

    Args:
        period: training steps of a cycle.
        rise: the share of a cycle in which the value rises; then it stays at `final`.
        final: the largest value.
    """

    def __init__(self, period: int, rise: float = 0.5, final: float = 1.0):
        self.period = whole("period", period)
        if not 0 < finite("rise", rise) <= 1:
            raise InvalidArgument(f"`rise` is {rise!r}; expected a share above 0 and at most 1.")
        self.rise = rise
        self.final = not_negative("final", final)

    def __call__(self, step):
        """Return the value at the training step that follows `step` others."""
        place = tf.math.floormod(tf.cast(step, tf.int64), self.period) + 1
        progress = tf.cast(place, tf.float32) / (self.rise * self.period)
        return self.final * tf.minimum(1.0, progress)

    def get_config(self):
        """Return the constructor arguments."""
        return {"period": self.period, "rise": self.rise, "final": self.final}
