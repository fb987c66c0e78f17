"""The signatures of an exported model with continuous, binary or one-hot latents."""

import contextlib

import numpy as np
import tensorflow as tf

from tfvae.conditions import as_argument, describe
from tfvae.export.contract import Signatures, held_out, in_parts, stream_specs
from tfvae.graphs import in_graph
from tfvae.joint import ancestral, representatives, sampler
from tfvae.random import fold_in, make_seed


class LatentSignatures(Signatures):
    """The signatures of a `LatentVariableModel`.

    - `decode(latents [B, *latent_shape])` → `image [B, *x_shape]`, the mean of p(x|z);
    - `encode(image [B, *x_shape])` → `mean`, `stddev` of q(z|x); of a flow, whose moments are not
      known, `mean` alone, the image of the mean of its base;
    - `sample(seed [2], index [B], temperature [])` → `image`, `latents`: the draws of these numbers
      from the stream of the seed, with the generator inside the graph;
    - `parameters(latents [B, *latent_shape])` → `parameters`: what `likelihood` makes p(x|z) of.
    """

    def define(self):
        model, spec = self.model, tf.TensorSpec
        latents = spec((None, *model.latent_shape), tf.float32, "latents")
        image = spec((None, *model.x_shape), tf.float32, "image")
        return {
            "decode": (self.decode, [latents]),
            "encode": (self.encode, [image]),
            "sample": (self.sample, stream_specs()),
            "parameters": (self.parameters, [latents]),
        }

    def _given(self, condition, count):
        """Return the condition of a signature, or any condition if the signature takes none.

        The model needs one; what is computed from it is then cut from the graph.
        """
        if condition is None and self.model.condition is not None:
            return self.model.condition.example(count)
        return condition

    def decode(self, latents, condition=None):
        """Return the images of latents."""
        condition = self._given(condition, tf.shape(latents)[0])
        return {"image": self.model.decode(latents, condition=condition)}

    def encode(self, image, condition=None):
        """Return the moments of q(z|x)."""
        count = tf.shape(image)[0]
        c = self.model.encode_condition(self._given(condition, count), count)
        h = self.model.bottom_up(image, **as_argument(c))
        layers, _ = self.model.infer(h, representatives, **as_argument(c))
        moments = {"mean": self.model.join([layer.z for layer in layers])}
        with contextlib.suppress(NotImplementedError):  # of a flow
            moments["stddev"] = self.model.join([layer.q.stddev() for layer in layers])
        return moments

    def sample(self, seed, index, temperature, condition=None):
        """Return images, and the latents that they are the images of."""
        condition = self._given(condition, tf.shape(index)[0])
        latents, image = self.model.draw(seed, index, temperature, condition)
        return {"image": image, "latents": latents}

    def parameters(self, latents, condition=None):
        """Return the decoder's output for latents."""
        condition = self._given(condition, tf.shape(latents)[0])
        return {"parameters": self.model.x_parameters(latents, condition=condition)}

    def shapes(self):
        return describe(self.model.condition) | {
            "latent_shape": list(self.model.latent_shape),
            "latent_kinds": list(self.model.latent_kinds),
            "layer_shapes": [list(shape) for shape in self.model.layer_shapes],
        }

    def example_inputs(self, x, y):
        x, y = (self._images(16, 1).numpy(), None) if x is None else held_out(x, y)
        seed = make_seed(7)
        latents = _of_posterior(self.model, x, self._given(y, len(x)), seed).numpy()
        inputs = {
            "decode": {"latents": latents},
            "parameters": {"latents": latents},
            "encode": {"image": x},
            "sample": {
                "seed": seed.numpy(),
                "index": np.arange(len(x), dtype=np.int32),
                "temperature": np.float32(0.9),
            },
        }
        return self.with_conditions(inputs, y)

    def calibration_inputs(self, x, y):
        x = np.asarray(self._images(100, 2) if x is None else x, np.float32)
        if y is None and self.model.condition is not None:
            y = self.model.condition.example(len(x)).numpy()
        seed, encoded, drawn = make_seed(8), [], []
        for rows in in_parts(len(x)):
            given = None if y is None else y[rows]
            key = fold_in(seed, rows.start)
            encoded.append(_of_posterior(self.model, x[rows], given, key))
            drawn.append(self._draws(len(encoded[-1]), seed, given, rows.start))
        # What is decoded comes from an encoder, or from the prior.
        decoded = {"latents": tf.concat([*encoded, *drawn], axis=0).numpy()}
        inputs = {"decode": decoded, "parameters": dict(decoded), "encode": {"image": x}}
        return self.with_conditions(inputs, y)

    def _images(self, count, seed):
        y = self._given(None, count)
        return self.model.decode(self._draws(count, make_seed(seed), y), condition=y)

    def _draws(self, count, seed, y, first=0):
        """Return latents from the prior; where no device can repeat its draws, those of TFP.

        Args:
            count: how many.
            seed: `[2]` int32.
            y: their conditions, or None.
            first: number of the first one.
        """
        if "sample" in self.left_out:
            return _of_prior_by_tfp(self.model, tf.range(count), y, fold_in(seed, first))
        return _of_prior(self.model, seed, tf.range(first, first + count), y)


# Without what is computed beside the latents, such as images: graphs leave out what nothing takes.


@in_graph
def _of_posterior(model, x, y, seed):
    """Return one draw of q(z|x) for each example, `[B, *latent_shape]`."""
    infer = model.inference(x, condition=y, seed=seed)
    return model.join(infer(sampler(1, seed)).z)[0]


@in_graph
def _of_prior(model, seed, index, y):
    return model.draw(seed, index, condition=y)[0]


@in_graph
def _of_prior_by_tfp(model, index, y, seed):
    count = tf.shape(index)[0]
    c = model.encode_condition(y, count)
    layers, _ = model.generate(ancestral(count, seed), **as_argument(c))
    return model.join([layer.z for layer in layers])
