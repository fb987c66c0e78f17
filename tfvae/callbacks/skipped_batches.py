"""The batches of an epoch that were trained on before, and are passed over."""

import keras


class SkippedBatches:
    """Makes Keras's loop over an epoch, which counts from 0, skip the first batches.

    For these the loop gets the averages of the epoch so far in the place of a training step, and
    the data is not asked for a batch: it begins with the first one that is left.

    Args:
        model: the one that is being trained.
    """

    def __init__(self, model: keras.Model):
        self._model, self._train_function = model, None

    @property
    def skipping(self) -> bool:
        """Whether the batches that the loop comes to are passed over."""
        return self._train_function is not None

    def skip(self, batches: int, num_batches: int) -> None:
        """Pass over the first of the `num_batches` of an epoch, when the epoch begins."""
        model, steps = self._model, self._model.steps_per_execution
        left = -(-num_batches // steps) - -(-(num_batches - batches) // steps)  # calls, not steps
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        self._train_function = model.train_function

        def pass_over(iterator):
            nonlocal left
            if left == 0:
                self.end()
                return model.train_function(iterator)
            left -= 1
            return logs

        model.train_function = pass_over

    def end(self) -> None:
        """Let the loop make its training steps again."""
        if self._train_function is not None:
            self._model.train_function, self._train_function = self._train_function, None
