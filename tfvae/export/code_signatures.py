"""What an export of a vector-quantized model offers."""

import numpy as np
import tensorflow as tf

from tfvae.export.code_ties import count_flips
from tfvae.export.contract import Agreement, Signatures, held_out, stream_specs
from tfvae.random import make_seed

_NUM_DRAWS = 64
# A draw whose logits are rounded otherwise takes another code where two are as good as equal, and
# everything after it is another draw. So few of them are rounding; more are an error.
_DRAWS_TO_AGREE = 0.98


class CodeSignatures(Signatures):
    """The signatures of a `CodeModel`; K is its `codebook_size`.

    - `decode_codes(codes [B, *code_shape])` → `image [B, *x_shape]`, the mean of p(x|codes);
    - `encode(image [B, *x_shape])` → `codes [B, *code_shape]`;
    - `sample(seed [2], index [B], temperature [])` → `image`, `codes`: the draws of these numbers
      from the stream of the seed, the loop over positions inside the graph. With a prior that has
      classes there is one more input, the labels `condition [B]`;
    - `parameters(codes [B, *code_shape])` → `parameters`: what `likelihood` makes p(x|codes) of.

    Codes are int32, from 0 to K − 1; the functions do not check that.
    """

    def define(self):  # noqa: D102
        model, spec = self.model, tf.TensorSpec
        codes = spec((None, *model.code_shape), tf.int32, "codes")
        image = spec((None, *model.x_shape), tf.float32, "image")
        condition = [spec((None,), tf.int32, "condition")] if model.prior.num_classes else []
        return {
            "decode_codes": (self.decode_codes, [codes]),
            "encode": (self.encode, [image]),
            "sample": (self.sample, [*stream_specs(), *condition]),
            "parameters": (self.parameters, [codes]),
        }

    def decode_codes(self, codes):
        """Return the images of codes."""
        return {"image": self.model.decode(codes)}

    def encode(self, image):
        """Return the codes of images."""
        return {"codes": self.model.encode(image)}

    def sample(self, seed, index, temperature, condition=None):
        """Return images, and the codes that they are the images of."""
        codes = self.model.prior.draw(seed, index, temperature, condition)
        # Changes none of them. LiteRT in a browser cannot hand out what comes straight from a loop.
        codes = tf.minimum(codes, self.model.codebook_size - 1)
        return {"image": self.model.decode(codes), "codes": codes}

    def parameters(self, codes):
        """Return the decoder's output for codes."""
        return {"parameters": self.model.x_parameters(codes)}

    def shapes(self):  # noqa: D102
        return {
            "code_shape": list(self.model.code_shape),
            "code_grids": [list(grid) for grid in self.model.code_grids],
            "codebook_size": self.model.codebook_size,
            "num_classes": self.model.prior.num_classes,
        }

    def example_inputs(self, x):  # noqa: D102
        model = self.model
        x = model.sample(16, seed=1, **self._labels(16)).numpy() if x is None else held_out(x)
        # Not the codes of x: a model may use few of its codes, and the file must hold them all.
        shape = (len(x), *model.code_shape)
        codes = np.random.default_rng(7).integers(0, model.codebook_size, shape, np.int32)
        return {
            "decode_codes": {"codes": codes},
            "parameters": {"codes": codes},
            "encode": {"image": x},
            "sample": {
                "seed": make_seed(7).numpy(),
                "index": np.arange(_NUM_DRAWS, dtype=np.int32),
                "temperature": np.float32(0.9),
                **self._labels(_NUM_DRAWS),
            },
        }

    def calibration_inputs(self, x):  # noqa: D102
        model = self.model
        if x is None:
            x = model.sample(100, seed=2, **self._labels(100)).numpy()
        x = np.asarray(x, np.float32)
        drawn = model.prior.sample(len(x), seed=3, **self._labels(len(x)))
        # What is decoded comes from an encoder, or from the prior.
        decoded = {"codes": tf.concat([model.encode(tf.constant(x)), drawn], axis=0).numpy()}
        return {"decode_codes": decoded, "parameters": decoded, "encode": {"image": x}}

    def searches(self):
        """Return the names of the quantizers."""
        return tuple(quantizer.name for quantizer in self.model.codebooks)

    def agreement(self, signature, inputs, expected, actual, tolerance):  # noqa: D102
        ours, theirs = expected["codes"], actual["codes"]
        rows = np.all(ours == theirs, axis=tuple(range(1, ours.ndim)))
        if rows.all():
            return Agreement(rows)
        if signature == "encode":
            counts = count_flips(self.model, inputs["image"], ours, theirs, tolerance)
            return _encoded(rows, *counts)
        return _sampled(rows)

    def _labels(self, count):
        """Return labels for so many draws, by the name of the input; none without classes."""
        num_classes = self.model.prior.num_classes
        if not num_classes:
            return {}
        return {"condition": np.arange(count, dtype=np.int32) % num_classes}


def _encoded(rows, flips, ties):
    problem = None
    if ties < flips:
        problem = (
            f"{flips} codes are not those of Keras, {flips - ties} of them at vectors that are "
            "nearer to one code than to the other; expected the same codes, except at ties"
        )
    return Agreement(rows, flips, problem)


def _sampled(rows):
    problem, share = None, rows.mean()
    if share < _DRAWS_TO_AGREE and len(rows) > 1:  # a single draw may be that one
        problem = (
            f"{np.sum(~rows)} of {len(rows)} draws have other codes than in Keras; expected at "
            f"least {_DRAWS_TO_AGREE:.0%} to be the same"
        )
    # One flip each: the codes after it follow from it.
    return Agreement(rows, int(np.sum(~rows)), problem)
