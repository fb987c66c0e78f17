"""A prior over codes that are independent of each other."""

import tensorflow as tf

from tfvae.code_priors.code_prior import REGISTRY, CodePrior


@REGISTRY.register("categorical")
class CategoricalCodePrior(CodePrior):
    """p(codes) = Π_i Categorical(code_i; softmax(logits_i)), with logits learned from 0.

    Every position has logits of its own, and with classes, every class: (classes ×) positions × K
    weights. Any other prior should have a lower loss: this one learns how often a code occurs at
    each position, and nothing else.

    Args:
        codebook_size: K.
        num_classes: number of classes to be conditioned on; 0 for none.
        seed: not used, as there is no noise in its training.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.table = self.add_weight(
            shape=(max(self.num_classes, 1), self.num_positions, self.codebook_size),
            initializer="zeros",
            dtype="float32",
            autocast=False,
            name="table",
        )

    def network(self, codes, classes, dropout):
        logits = tf.gather(self.table, classes)
        return tf.reshape(logits, [-1, *self.code_shape, self.codebook_size])

    def first_state(self, classes):
        """Return the classes: nothing else is remembered."""
        return classes

    def step(self, state, position, previous):
        at_position = tf.gather(tf.convert_to_tensor(self.table), position, axis=1)
        return tf.gather(at_position, state), state
