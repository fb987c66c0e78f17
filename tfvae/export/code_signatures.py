"""The signatures of an exported vector-quantized model."""

import numpy as np
import tensorflow as tf

from tfvae.conditions import describe
from tfvae.export.code_ties import count_flips
from tfvae.export.contract import Agreement, Signatures, held_out, in_parts, stream_specs
from tfvae.graphs import in_graph
from tfvae.random import make_seed

_NUM_DRAWS = 64
# A draw whose logits are rounded differently takes another code where two are nearly equally
# probable, and all later codes differ too. Up to this share of draws is rounding; more is an error.
_DRAWS_TO_AGREE = 0.98


class CodeSignatures(Signatures):
    """The signatures of a `CodeModel`; K is its `codebook_size`.

    - `decode_codes(codes [B, *code_shape])` → `image [B, *x_shape]`, the mean of p(x|codes);
    - `encode(image [B, *x_shape])` → `codes [B, *code_shape]`;
    - `sample(seed [2], index [B], temperature [])` → `image`, `codes`: the draws of these numbers
      from the stream of the seed, the loop over positions inside the graph;
    - `parameters(codes [B, *code_shape])` → `parameters`: what `likelihood` makes p(x|codes) of.

    Codes are int32, from 0 to K − 1; the functions do not check that.
    """

    def define(self):
        model, spec = self.model, tf.TensorSpec
        codes = spec((None, *model.code_shape), tf.int32, "codes")
        image = spec((None, *model.x_shape), tf.float32, "image")
        return {
            "decode_codes": (self.decode_codes, [codes]),
            "encode": (self.encode, [image]),
            "sample": (self.sample, stream_specs()),
            "parameters": (self.parameters, [codes]),
        }

    def decode_codes(self, codes, condition=None):
        """Return the images of codes."""
        return {"image": self.model.decode(codes, self._given(condition, codes))}

    def encode(self, image, condition=None):
        """Return the codes of images."""
        return {"codes": self.model.encode(image, self._given(condition, image))}

    def _given(self, condition, rows):
        """Return the condition of a signature, or any condition if the signature takes none.

        The model needs one; what is computed from it is then cut from the graph.
        """
        if condition is None and self.model.trains_on_condition:
            return self.model.condition.example(tf.shape(rows)[0])
        return condition

    def sample(self, seed, index, temperature, condition=None):
        """Return images, and the codes that they are the images of."""
        condition = self._given(condition, index)
        codes, image = self.model.draw(seed, index, temperature, condition)
        return {"image": image, "codes": codes}

    def parameters(self, codes, condition=None):
        """Return the decoder's output for codes."""
        return {"parameters": self.model.x_parameters(codes, self._given(condition, codes))}

    def shapes(self):
        return {"num_classes": 0, **describe(self.model.condition)} | {
            "code_shape": list(self.model.code_shape),
            "code_grids": [list(grid) for grid in self.model.code_grids],
            "codebook_size": self.model.codebook_size,
        }

    def example_inputs(self, x, y):
        model = self.model
        x, y = (self._images(16, 1), None) if x is None else held_out(x, y)
        # Not the codes of x, since a model may use few of its codes, and all have to be compared.
        shape = (len(x), *model.code_shape)
        codes = np.random.default_rng(7).integers(0, model.codebook_size, shape, np.int32)
        inputs = {
            "decode_codes": {"codes": codes},
            "parameters": {"codes": codes},
            "encode": {"image": x},
            "sample": {
                "seed": make_seed(7).numpy(),
                "index": np.arange(_NUM_DRAWS, dtype=np.int32),
                "temperature": np.float32(0.9),
            },
        }
        return self.with_conditions(inputs, y)

    def calibration_inputs(self, x, y):
        model = self.model
        x = np.asarray(self._images(100, 2) if x is None else x, np.float32)
        if y is None and model.condition is not None:
            y = model.condition.example(len(x)).numpy()
        labels, seed = model.condition_of_prior(y), make_seed(3)
        encoded, drawn = [], []
        for rows in in_parts(len(x)):
            encoded.append(model.encode(tf.constant(x[rows]), None if y is None else y[rows]))
            index = tf.range(rows.start, rows.start + len(encoded[-1]))
            given = None if labels is None else labels[rows]
            drawn.append(_of_prior(model.prior, seed, index, given))
        # What is decoded comes from an encoder, or from the prior.
        decoded = {"codes": tf.concat([*encoded, *drawn], axis=0).numpy()}
        inputs = {"decode_codes": decoded, "parameters": dict(decoded), "encode": {"image": x}}
        return self.with_conditions(inputs, y)

    def searches(self):
        """Return the names of the quantizers."""
        return tuple(quantizer.name for quantizer in self.model.codebooks)

    def agreement(self, signature, inputs, expected, actual, tolerance):
        ours, theirs = expected["codes"], actual["codes"]
        rows = np.all(ours == theirs, axis=tuple(range(1, ours.ndim)))
        if rows.all():
            return Agreement(rows)
        if signature == "encode":
            image = inputs["image"]
            given = self._given(inputs.get("condition"), image)
            counts = count_flips(self.model, image, ours, theirs, tolerance, given)
            return _encoded(rows, *counts)
        return _sampled(rows)

    def _images(self, count, seed):
        """Return images that the model draws, of any conditions."""
        y = None if self.model.condition is None else self.model.condition.example(count)
        return self.model.sample(count, seed, condition=y).numpy()


@in_graph
def _of_prior(prior, seed, index, labels):
    return prior.draw(seed, index, condition=labels)


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
