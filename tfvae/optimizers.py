"""Adam with TensorFlow's fused kernel: one operator for each variable instead of a dozen."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfvae")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, update for update, with the arithmetic of a step in one kernel.

    Arguments, variables and checkpoints are those of Keras's Adam. `amsgrad=True` and variables
    that are not float32 take Keras's own path.
    """

    def apply(self, grads, trainable_variables=None):
        """Apply gradients; see `keras.optimizers.Optimizer.apply`."""
        step = tf.cast(self.iterations + 1, tf.float32)
        # Once a step: in the graph of each variable they would cost as much as its update.
        self._beta_powers = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._beta_powers = None

    def update_step(self, gradient, variable, learning_rate):
        """Apply one gradient to one variable."""
        if self.amsgrad or variable.dtype != "float32" or tf.distribute.has_strategy():
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        beta1_power, beta2_power = self._beta_powers
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
        return None
