"""Early stopping that restores averages of weights, too."""

import contextlib

import keras
import numpy as np

from tfvae.optimizers import averaging


class EarlyStopping(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` that restores averages of weights, too.

    An optimizer with `use_ema=True` puts the moving average in the place of the weights when `fit`
    ends. After Keras's own class that is the average of the last epoch, and the best weights are
    lost. This one restores the average of the best epoch, which is what
    `keras.callbacks.SwapEMAWeights()` validates. Its arguments are Keras's:

        EarlyStopping("val_loss", patience=10, restore_best_weights=True)
    """

    restores_averages = True

    def on_epoch_end(self, epoch, logs=None):
        """Compare the epoch with the best one, whose weights are kept."""
        with _averages_in_place(self.model):
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        """Restore the weights of the best epoch, if that was asked for."""
        super().on_train_end(logs)
        if self.restore_best_weights and self.best_weights is not None:
            for weight, average in _weights_and_averages(self.model):
                average.assign(weight)


@contextlib.contextmanager
def _averages_in_place(model):
    """A context in which the moving averages stand in the place of the weights they are of."""
    pairs = _weights_and_averages(model)
    before = [np.asarray(weight) for weight, _ in pairs]
    for weight, average in pairs:
        weight.assign(average)
    try:
        yield
    finally:
        for (weight, _), value in zip(pairs, before, strict=True):
            weight.assign(value)


def _weights_and_averages(model):
    """Return each weight with its moving average; nothing where the optimizer makes none."""
    optimizer = averaging(model.optimizer)
    if optimizer is None:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))
