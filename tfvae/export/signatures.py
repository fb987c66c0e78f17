"""The named signatures that every export offers, and a float32 copy of a model to export."""

import keras
import numpy as np
import tensorflow as tf

from tfvae.random import make_seed

NAMES = ("decode", "encode", "sample")


def float32_copy(model):
    """Return the model with all layers computing in float32, which is what runs everywhere."""
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model
    return model.copy(_in_float32(model.get_config()))


def functions(model) -> dict:
    """Return {signature: (function, input specs)}.

    - `decode(latents [B, *latent_shape])` → `image [B, *x_shape]`, the mean of p(x|z);
    - `encode(image [B, *x_shape])` → `mean`, `stddev` of q(z|x);
    - `sample(seed [2], index [B], temperature [])` → `image`, `latents`: the draws of these numbers
      from the stream of the seed, with the generator inside the graph.
    """

    def decode(latents):
        return {"image": model.decode(latents)}

    def encode(image):
        q = model.q_z_given_x(image)
        return {"mean": q.mean(), "stddev": q.stddev()}

    def sample(seed, index, temperature):
        latents = model.prior.sample(seed, index, temperature)
        return {"image": model.decode(latents), "latents": latents}

    spec = tf.TensorSpec
    return {
        "decode": (decode, [spec((None, *model.latent_shape), tf.float32, "latents")]),
        "encode": (encode, [spec((None, *model.x_shape), tf.float32, "image")]),
        "sample": (
            sample,
            [
                spec((2,), tf.int32, "seed"),
                spec((None,), tf.int32, "index"),
                spec((), tf.float32, "temperature"),
            ],
        ),
    }


def write_saved_model(model, path) -> None:
    """Write a SavedModel with the signatures. `model` computes in float32."""
    # Keras's archive, not tf.saved_model.save: the latter leaves weights out of what is converted.
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, specs) in functions(model).items():
        archive.add_endpoint(name, function, input_signature=specs)
    archive.write_out(str(path), verbose=False)


def example_inputs(model, x: np.ndarray | None) -> dict:
    """Return inputs for every signature, made from held-out examples, or from samples if None."""
    x = model.sample(16, seed=1).numpy() if x is None else np.asarray(x[:64], np.float32)
    q = model.q_z_given_x(tf.constant(x))
    seed = make_seed(7)
    return {
        "decode": {"latents": q.sample(seed=seed).numpy()},
        "encode": {"image": x},
        "sample": {
            "seed": seed.numpy(),
            "index": np.arange(len(x), dtype=np.int32),
            "temperature": np.float32(0.9),
        },
    }


def _in_float32(config):
    """Replace every precision policy in a Keras config."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return config
