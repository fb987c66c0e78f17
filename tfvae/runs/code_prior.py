"""Fitting a prior to the codes of a trained VQ-VAE, into the run that holds it."""

import contextlib
import math
import time

import keras
import numpy as np
import tensorflow as tf

from tfvae import code_priors
from tfvae.config import Config
from tfvae.errors import InvalidArgument, NonFiniteLoss, TfvaeError
from tfvae.files import atomic, update_report
from tfvae.images import save_grid
from tfvae.models import CodeModel
from tfvae.optimizers import Adam
from tfvae.runs import callbacks, pictures
from tfvae.runs.directory import RunDirectory
from tfvae.runs.train import load_data


def train_prior(run_dir, config: Config | None = None, progress: bool = True, splits=None) -> dict:
    """Fit a prior to the codes of a run's training images, and save it inside the run's model.

    The weights kept are those of the epoch with the lowest loss on the validation images. The run
    gets `samples.png` from the new prior, `samples-uniform.png` from the uniform one,
    `prior-curves.png`, and the section "code_prior" in its report; the model appears last, whole.

    Args:
        run_dir: a run of a VQ-VAE that `train` finished.
        config: the run's configuration with other settings of `code_prior`; by default its own.
        progress: whether to show a progress bar on standard error.
        splits: the data, where it is loaded already.

    Returns:
        The section "code_prior": nats per example (`loss`, `val_loss`), `uniform`, what the uniform
        prior takes, `bits_per_code`, all of the validation images, and `epoch`, the one kept.

    Raises:
        TfvaeError: no run of a VQ-VAE, settings or data that cannot be used, a loss that is not
            finite.
    """
    start = time.perf_counter()
    run = RunDirectory(run_dir)
    config = config or run.read_config()
    model = run.load_model()
    if not isinstance(model, CodeModel):
        raise InvalidArgument(
            f"{run_dir} holds a {type(model).__name__}, whose latents are not codes: it is trained "
            "together with its prior. Expected a run of a VQ-VAE."
        )
    splits = splits or load_data(config)
    codes, held_out = (encode_all(model, images) for images in (splits.train, splits.validation))
    options = config.code_prior
    keras.utils.set_random_seed(options.seed)
    prior = code_priors.get(
        options.name, codebook_size=model.codebook_size, seed=options.seed, **options.options
    )
    history = _fit(prior, options, codes, held_out, progress)
    model.prior = prior
    _draw(run, model, history, splits)
    best = int(np.argmin(history["val_loss"]))
    values = {
        "name": options.name,
        "loss": float(history["loss"][best]),
        "val_loss": float(history["val_loss"][best]),
        "uniform": prior.num_positions * math.log(model.codebook_size),
        "bits_per_code": float(history["val_bits_per_code"][best]),
        "epoch": best + 1,
        "parameters": prior.count_params(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    with atomic(run.model_file) as temporary:
        model.save(temporary)
    run.write_config(config)
    update_report(run.path, "code_prior", values)
    return values


def _draw(run, model, history, splits):
    epochs = range(len(history["loss"]))
    rows = [
        {"epoch": n + 1} | {name: values[n] for name, values in history.items()} for n in epochs
    ]
    pictures.curves(rows, run.path / "prior-curves.png", pictures.PRIOR_CURVES)
    if splits.shape[-1] not in (1, 3):
        return
    save_grid(model.sample(64).numpy(), run.path / "samples.png")
    uniform = code_priors.UniformCodePrior(model.codebook_size)
    uniform.build((None, *model.code_shape))
    save_grid(model.decode(uniform.sample(64)).numpy(), run.path / "samples-uniform.png")


def encode_all(model, images, batch_size: int = 500) -> np.ndarray:
    """Return the codes of all images of a split, `[N, *code_shape]` int32."""
    encode = tf.function(model.encode, reduce_retracing=True)
    parts = [
        encode(images.numpy(start, start + batch_size)).numpy()
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def _fit(prior, options, codes, held_out, progress):
    steps = max(1, options.epochs * math.ceil(len(codes) / options.batch_size))
    prior.compile(Adam(keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)))
    best = keras.callbacks.EarlyStopping(
        "val_loss", patience=options.epochs, restore_best_weights=True
    )
    hooks = [keras.callbacks.TerminateOnNaN(), best]
    with contextlib.ExitStack() as stack:
        if progress:
            hooks.append(stack.enter_context(callbacks.Progress(0, options.epochs)))
        try:
            history = prior.fit(
                codes,
                validation_data=held_out,
                batch_size=options.batch_size,
                epochs=options.epochs,
                callbacks=hooks,
                verbose=0,
            ).history
        except KeyboardInterrupt:
            raise TfvaeError("Interrupted; the run is as it was before.") from None
    if not np.all(np.isfinite(history["loss"])):
        raise NonFiniteLoss(
            f"The loss of the prior became {history['loss'][-1]} in epoch {len(history['loss'])}; "
            "the run is as it was before. Lower the learning rate."
        )
    return history
