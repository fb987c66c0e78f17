"""What a quantized file loses: of the likelihood of test images, and of their reconstructions."""

import math

import numpy as np
import tensorflow as tf

from tfvae.conditions import refuse
from tfvae.export.parity import psnr
from tfvae.joint import sampler
from tfvae.models import CodeModel
from tfvae.ondevice import Decoder
from tfvae.random import Stream, fold_in, make_seed

_BATCH_SIZE = 50


def quality(model, decoder: Decoder, x: np.ndarray, num_samples: int = 64, seed: int = 0) -> dict:
    """Measure a file beside the model that it was made from.

    The file's log p(x) is that of its own decoder, by importance sampling with the model's q(z|x)
    and from the very samples that the model's is estimated from, so that their difference has
    little noise:

        log p(x) ≈ log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x).

    Of a model of codes it is the bound log p(x|codes of x) + log p(codes of x), with the codes that
    the file's encoder gives.

    Args:
        model: built, in any precision.
        decoder: of the file; it needs the signatures `encode` and `parameters`.
        x: test examples, `[N, *x_shape]`.
        num_samples: K; of a model of codes nothing is sampled.
        seed: any integer.

    Returns:
        `num_examples`; in nats per example `log_likelihood` of the file,
        `log_likelihood_change` from the model's, its `standard_error` over examples (None for one);
        `mse` of the file's reconstructions, `mse_keras`, `psnr`, `psnr_keras` and `psnr_change` in
        dB, at a peak of 1 (None where an error is 0); `code_agreement`, the share of codes that are
        those of Keras, where there are codes.
    """
    refuse(model, "The quality of an export")
    change = _code_change if isinstance(model, CodeModel) else _latent_change
    x = np.asarray(x, np.float32)
    before, after, same_codes, errors = [], [], [], []
    for start in range(0, len(x), _BATCH_SIZE):
        batch = x[start : start + _BATCH_SIZE]
        measured = change(model, decoder, batch, num_samples, fold_in(make_seed(seed), start))
        before.append(measured[0])
        after.append(measured[1])
        same_codes.append(measured[2])
        errors.append(_squared_errors(model, decoder, batch))
    before, after = np.concatenate(before), np.concatenate(after)
    own, keras = np.mean(np.concatenate(errors, axis=1), axis=1)
    difference = after.astype(np.float64) - before
    error = float(difference.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None
    values = {
        "num_examples": len(x),
        "log_likelihood": float(after.mean()),
        "log_likelihood_change": float(difference.mean()),
        "standard_error": error,
        "mse": float(own),
        "mse_keras": float(keras),
        **_ratios(own, keras),
    }
    if isinstance(model, CodeModel):
        values["code_agreement"] = float(np.mean(np.concatenate(same_codes)))
    return values


def _ratios(own, keras):
    ours, theirs = psnr(own), psnr(keras)
    change = None if ours is None or theirs is None else ours - theirs
    return {"psnr": ours, "psnr_keras": theirs, "psnr_change": change}


def _latent_change(model, decoder, x, num_samples, seed):
    """Return log p(x) of the model and of the file, `[B]` each."""
    joint = model.inference(x)(sampler(num_samples, fold_in(seed, int(Stream.EVALUATE))))
    log_weights = joint.log_likelihood + joint.log_p() - joint.log_q()
    z = model.join(joint.z)
    params = _parameters(decoder, latents=tf.reshape(z, [-1, *model.latent_shape]).numpy())
    params = np.reshape(params, (num_samples, len(x), *params.shape[1:]))
    own = model.likelihood(tf.constant(params), 2).log_prob(x)
    others = log_weights - joint.log_likelihood + own
    log_p = [tf.reduce_logsumexp(w, axis=0) - math.log(num_samples) for w in (log_weights, others)]
    return log_p[0].numpy(), log_p[1].numpy(), np.ones(0)


def _code_change(model, decoder, x, num_samples, seed):
    """Return the bound of the model and of the file, `[B]` each, and which codes agree."""
    codes = model.encode(x).numpy()
    own_codes = decoder.encode(x)
    with_codes = (
        (codes, model.x_parameters(codes)),
        (own_codes, _parameters(decoder, codes=own_codes)),
    )
    condition = _no_class(model, len(x))
    bounds = [
        model.likelihood(tf.constant(params)).log_prob(x) + model.prior.log_prob(c, condition)
        for c, params in with_codes
    ]
    return bounds[0].numpy(), bounds[1].numpy(), np.ravel(codes == own_codes)


def _no_class(model, count):
    """Return labels for a prior with classes: the change hardly depends on which."""
    return np.zeros(count, np.int32) if model.prior.num_classes else None


def _parameters(decoder, **rows):
    """Return what the likelihood takes, from the file, a part at a time."""
    ((name, array),) = rows.items()
    parts = [
        decoder.run("parameters", **{name: array[start : start + 256]})["parameters"]
        for start in range(0, len(array), 256)
    ]
    return np.concatenate(parts)


def _squared_errors(model, decoder, x):
    """Return the mean squared error of each reconstruction, of the file and of Keras, `[2, B]`."""
    decode = decoder.decode if decoder.code_shape is None else decoder.decode_codes
    own = decode(decoder.encode(x))
    keras = model(tf.constant(x), training=False).numpy()
    axes = tuple(range(1, x.ndim))
    return np.stack([np.mean((images - x) ** 2, axis=axes) for images in (own, keras)])
