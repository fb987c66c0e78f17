"""What several workers exchange in each step beside gradients."""

import tensorflow as tf

from tfvae import distribute


class WorkerLogs:
    """A part of a Keras model: logs and requests that are the same on all workers."""

    _asks, _asked = None, 0.0

    def _make_function(self, step_function):
        """Return Keras's loop over steps, with logs that several workers can average.

        Among workers Keras averages each log along its first axis, which a scalar does not have.
        One vector for all logs needs only one exchange, and also carries the requests to stop.
        """
        if not distribute.is_multi_worker(self.distribute_strategy):
            return super()._make_function(step_function)
        names = []
        if self._asks is None:
            self._asks = tf.Variable(0.0, trainable=False)  # of this process alone

        def step(data):
            logs = {**step_function(data), "": self._asks}
            names[:] = logs
            return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])[tf.newaxis]

        function = super()._make_function(step)

        def with_names(iterator):
            logs = dict(zip(names, tf.unstack(function(iterator)), strict=True))
            self._asked = logs.pop("")
            return logs

        return with_names

    def any_worker_asks(self, asks: bool) -> bool:
        """Return whether this process asks for something, or any worker if there are several.

        All workers learn of a request at the same time, after the next step.
        """
        if not distribute.is_multi_worker(self.distribute_strategy):
            return asks
        if self._asks is not None:
            self._asks.assign(float(asks))
        return bool(self._asked > 0)
