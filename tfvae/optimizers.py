"""Adam with TensorFlow's fused kernel: one operator for each variable instead of a dozen."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfvae")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, update for update, with the arithmetic of a step in one kernel.

    Arguments, variables and checkpoints are those of Keras's Adam. `amsgrad=True` and variables
    that are not float32 take Keras's own path.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Apply one gradient to one variable."""
        if self.amsgrad or variable.dtype != "float32" or tf.distribute.has_strategy():
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
        return None
