"""The loss of a quantized file, in the likelihood of test images and in reconstructions."""

import math

import numpy as np
import tensorflow as tf

from tfvae.export.parity import psnr
from tfvae.joint import sampler
from tfvae.models import CodeModel, GenerativeModel
from tfvae.ondevice import Decoder
from tfvae.random import Stream, fold_in, make_seed

_BATCH_SIZE = 50


def quality(
    model: GenerativeModel,
    decoder: Decoder,
    x: np.ndarray,
    num_samples: int = 64,
    seed: int = 0,
    condition: np.ndarray | int | None = None,
) -> dict:
    """Compare a file with the model that it was made from.

    The log p(x) of the file is that of its own decoder, by importance sampling with the model's
    q(z|x). Both estimates use the same samples, so that their difference has little noise:

        log p(x) ≈ log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x).

    For a model of codes it is the bound log p(x|codes of x) + log p(codes of x), with the codes of
    the file's encoder.

    Args:
        model: built, in any precision.
        decoder: of the file; it needs the signatures `encode` and `parameters`.
        x: test examples, `[N, *x_shape]`.
        num_samples: K; of a model of codes nothing is sampled.
        seed: any integer.
        condition: y of the examples, `[N, ...]`, or one for all, where the model has one: then it
            is log p(x|y).

    Returns:
        `num_examples`; in nats per example `log_likelihood` of the file,
        `log_likelihood_change` from the model's, its `standard_error` over examples (None for one);
        `mse` of the file's reconstructions over the observed values of x, `mse_keras`, `psnr`,
        `psnr_keras` and `psnr_change` in dB, at a peak of 1 (None where an error is 0);
        `code_agreement`, the share of codes that are those of Keras, where there are codes.

    Raises:
        InvalidArgument: a condition that is missing, or that is not wanted.
        InvalidData: examples that the model does not take, or conditions that do not fit.
    """
    change = _code_change if isinstance(model, CodeModel) else _latent_change
    model.check_data(x, "x")
    x = np.asarray(x, np.float32)
    y = model.condition_of_each(condition, len(x))
    before, after, same_codes, errors = [], [], [], []
    for start in range(0, len(x), _BATCH_SIZE):
        batch = x[start : start + _BATCH_SIZE]
        given = None if y is None else y[start : start + _BATCH_SIZE]
        key = fold_in(make_seed(seed), start)
        measured = change(model, decoder, batch, given, num_samples, key)
        before.append(measured[0])
        after.append(measured[1])
        same_codes.append(measured[2])
        errors.append(_squared_errors(model, decoder, batch, given))
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


def _latent_change(model, decoder, x, y, num_samples, seed):
    """Return log p(x) of the model and of the file, `[B]` each."""
    seed = fold_in(seed, int(Stream.EVALUATE))
    infer = model.inference(x, condition=y, seed=seed)
    joint = infer(sampler(num_samples, seed))
    log_weights = joint.log_likelihood + joint.log_p() - joint.log_q()
    z = model.join(joint.z)
    rows = {"latents": tf.reshape(z, [-1, *model.latent_shape]).numpy()}
    if y is not None:
        rows["condition"] = np.concatenate([y] * num_samples)
    params = _parameters(decoder, **rows)
    params = np.reshape(params, (num_samples, len(x), *params.shape[1:]))
    own, _ = model.likelihood.weigh(model.likelihood(tf.constant(params), 2), tf.constant(x), seed)
    others = log_weights - joint.log_likelihood + own
    log_p = [tf.reduce_logsumexp(w, axis=0) - math.log(num_samples) for w in (log_weights, others)]
    return log_p[0].numpy(), log_p[1].numpy(), np.ones(0)


def _code_change(model, decoder, x, y, num_samples, seed):
    """Return the bound of the model and of the file, `[B]` each, and which codes agree."""
    codes = model.encode(x, y).numpy()
    own_codes = decoder.encode(x, **decoder.given("encode", y))
    rows = {"codes": own_codes} if y is None else {"codes": own_codes, "condition": y}
    with_codes = (
        (codes, model.x_parameters(codes, y)),
        (own_codes, _parameters(decoder, **rows)),
    )
    given = model.condition_of_prior(y)
    bounds = [
        model.likelihood(tf.constant(params)).log_prob(x) + model.prior.log_prob(c, given)
        for c, params in with_codes
    ]
    return bounds[0].numpy(), bounds[1].numpy(), np.ravel(codes == own_codes)


def _parameters(decoder, **rows):
    """Return the parameters of p(x|z) from the file, computed for a part of the rows at a time."""
    if not decoder.takes_condition("parameters"):
        rows.pop("condition", None)
    count = len(next(iter(rows.values())))
    parts = [
        decoder.run("parameters", **{k: v[start : start + 256] for k, v in rows.items()})
        for start in range(0, count, 256)
    ]
    return np.concatenate([part["parameters"] for part in parts])


def reconstructions(model, decoder, x, condition=None) -> tuple[np.ndarray, np.ndarray]:
    """Return the reconstructions `[B, *x_shape]` of the file, and those of Keras."""
    decode = "decode" if decoder.code_shape is None else "decode_codes"
    encoded = decoder.encode(x, **decoder.given("encode", condition))
    own = getattr(decoder, decode)(encoded, **decoder.given(decode, condition))
    given = {} if condition is None else {"condition": condition}
    return own, model(tf.constant(x), training=False, **given).numpy()


def _squared_errors(model, decoder, x, y):
    """Return the mean squared error of each reconstruction, of the file and of Keras, `[2, B]`.

    It is of the observed values of x.
    """
    own, keras = reconstructions(model, decoder, x, y)
    axes = tuple(range(1, x.ndim))
    return np.stack([np.nanmean((images - x) ** 2, axis=axes) for images in (own, keras)])
