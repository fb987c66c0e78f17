"""The batches of an epoch that were trained on before, and are passed over."""

from collections.abc import Iterable

import keras


class SkippedBatches:
    """Makes Keras's loop over an epoch, which counts from 0, skip the first batches.

    For these the loop gets the averages of the epoch so far in the place of a training step, and
    the data is not asked for a batch: it begins with the first one that is left. The callbacks are
    not called for them, since they were called before.

    Args:
        model: the one that is being trained.
        callbacks: those that the loop would call for each batch.
    """

    def __init__(self, model: keras.Model, callbacks: Iterable[keras.callbacks.Callback]):
        self._model, self._train_function = model, None
        self._callbacks, self._methods = list(callbacks), []

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

        def begin(method):  # the batch that ends the skipping begins before it does
            return lambda batch, logs=None: None if left else method(batch, logs)

        def end(method):
            return lambda batch, logs=None: None

        model.train_function = pass_over
        stand_ins = {"on_train_batch_begin": begin, "on_train_batch_end": end}
        for callback in self._callbacks:
            for name, stand_in in stand_ins.items():
                self._methods.append((callback, name, vars(callback).get(name)))
                setattr(callback, name, stand_in(getattr(callback, name)))

    def end(self) -> None:
        """Let the loop make its training steps again, and call the callbacks."""
        if self._train_function is not None:
            self._model.train_function, self._train_function = self._train_function, None
        for callback, name, own in self._methods:
            if own is None:
                delattr(callback, name)
            else:  # of this object alone, as a `LambdaCallback` has it
                setattr(callback, name, own)
        self._methods.clear()
