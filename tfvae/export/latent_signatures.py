"""What an export of a model with continuous, binary or one-hot latents offers."""

import contextlib

import numpy as np
import tensorflow as tf

from tfvae.export.contract import Signatures, held_out, stream_specs
from tfvae.joint import ancestral, representatives, sampler
from tfvae.random import make_seed


class LatentSignatures(Signatures):
    """The signatures of a `LatentVariableModel`.

    - `decode(latents [B, *latent_shape])` → `image [B, *x_shape]`, the mean of p(x|z);
    - `encode(image [B, *x_shape])` → `mean`, `stddev` of q(z|x);
    - `sample(seed [2], index [B], temperature [])` → `image`, `latents`: the draws of these numbers
      from the stream of the seed, with the generator inside the graph;
    - `parameters(latents [B, *latent_shape])` → `parameters`: what `likelihood` makes p(x|z) of.
    """

    def define(self):  # noqa: D102
        model, spec = self.model, tf.TensorSpec
        latents = spec((None, *model.latent_shape), tf.float32, "latents")
        image = spec((None, *model.x_shape), tf.float32, "image")
        return {
            "decode": (self.decode, [latents]),
            "encode": (self.encode, [image]),
            "sample": (self.sample, stream_specs()),
            "parameters": (self.parameters, [latents]),
        }

    def decode(self, latents):
        """Return the images of latents."""
        return {"image": self.model.decode(latents)}

    def encode(self, image):
        """Return the moments of q(z|x)."""
        layers, _ = self.model.infer(self.model.bottom_up(image), representatives)
        moments = {"mean": self.model.join([layer.z for layer in layers])}
        with contextlib.suppress(NotImplementedError):  # of a flow
            moments["stddev"] = self.model.join([layer.q.stddev() for layer in layers])
        return moments

    def sample(self, seed, index, temperature):
        """Return images, and the latents that they are the images of."""
        latents, image = self.model.draw(seed, index, temperature)
        return {"image": image, "latents": latents}

    def parameters(self, latents):
        """Return the decoder's output for latents."""
        return {"parameters": self.model.x_parameters(latents)}

    def posterior_draws(self, x, seed):
        """Return one draw of q(z|x) for each example, `[B, *latent_shape]`."""
        joint = self.model.inference(tf.constant(x))(sampler(1, seed))
        return self.model.join(joint.z)[0]

    def shapes(self):  # noqa: D102
        return {
            "latent_shape": list(self.model.latent_shape),
            "latent_kinds": list(self.model.latent_kinds),
            "layer_shapes": [list(shape) for shape in self.model.layer_shapes],
        }

    def example_inputs(self, x):  # noqa: D102
        x = self.model.decode(self._draws(16, 1)).numpy() if x is None else held_out(x)
        seed = make_seed(7)
        latents = self.posterior_draws(x, seed).numpy()
        return {
            "decode": {"latents": latents},
            "parameters": {"latents": latents},
            "encode": {"image": x},
            "sample": {
                "seed": seed.numpy(),
                "index": np.arange(len(x), dtype=np.int32),
                "temperature": np.float32(0.9),
            },
        }

    def calibration_inputs(self, x):  # noqa: D102
        x = np.asarray(self.model.decode(self._draws(100, 2)) if x is None else x, np.float32)
        seed = make_seed(8)
        # What is decoded comes from an encoder, or from the prior.
        latents = tf.concat(
            [
                self.posterior_draws(x, seed),
                self._draws(len(x), 8),
            ],
            axis=0,
        ).numpy()
        decoded = {"latents": latents}
        return {"decode": decoded, "parameters": decoded, "encode": {"image": x}}

    def _draws(self, count, seed):
        """Return latents from the prior; where no device can repeat its draws, as TFP draws."""
        seed = make_seed(seed)
        if "sample" in self.left_out:
            layers, _ = self.model.generate(ancestral(count, seed))
            return self.model.join([layer.z for layer in layers])
        return self.model.draw(seed, tf.range(count))[0]
