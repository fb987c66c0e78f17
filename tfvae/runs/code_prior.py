"""The fit of a prior to the codes of a trained VQ-VAE, in the directory of its run."""

import contextlib
import dataclasses
import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae import code_priors, conditions, distribute
from tfvae._plain.files import atomic, clear_strays, update_report
from tfvae.config import CodePriorConfig, Config
from tfvae.config.resumed import check_resumed
from tfvae.data import Examples, Splits, shuffled_batches
from tfvae.errors import InvalidArgument, InvalidFile, command
from tfvae.images import save_grid
from tfvae.models import CodeModel
from tfvae.optimizers import Adam
from tfvae.runs import callbacks, loop, pictures
from tfvae.runs.directory import RunDirectory
from tfvae.runs.train import check_epochs, load_data


def train_prior(
    run_dir: str | Path,
    config: Config | None = None,
    resume: bool = False,
    progress: bool = True,
    splits: Splits | None = None,
) -> dict:
    """Fit a prior to the codes of a run's training images, and save it inside the run's model.

    The weights kept are those of the epoch with the lowest loss on the validation images. The run
    gets `samples.png` from the new prior, `samples-uniform.png` from the uniform one,
    `prior-curves.png`, and the section "code_prior" in its report; the model appears last, whole.

    Every few minutes a checkpoint of the fit is written to `code-prior/` of the run. As in `train`,
    a resumed fit continues at the very batch. A fit that did not reach its end is not replaced by
    another, and no other training of the run or of its prior may begin before this one is done.

    Args:
        run_dir: a run of a VQ-VAE that `train` finished.
        config: the run's configuration with other settings of `code_prior`; by default its own, or
            with `resume` that of the fit that goes on.
        resume: continue the last fit of this run from its last checkpoint.
        progress: whether to show a progress bar on standard error.
        splits: the data, where it is loaded already.

    Returns:
        The section "code_prior": nats per example (`loss`, `val_loss`), `uniform`, what the uniform
        prior takes, `bits_per_code`, all of the validation images, and `epoch`, the one kept. On
        workers other than number 0, which write nothing, nothing.

    Raises:
        TfvaeError: no run of a VQ-VAE, another training of the run or of its prior that is under
            way, settings or data that cannot be used, a fit that waits to be resumed, a loss that
            is not finite, or one far above that of the uniform prior, or an interruption (Ctrl-C),
            after a checkpoint.
        SystemExit: with status 0, after SIGTERM and a checkpoint.
    """
    run = RunDirectory(run_dir)
    own = run.read_config()
    config = config or (fit_to_resume(run).read_config() if resume else own)
    strategy = loop.strategy("code_prior", config.code_prior)
    chief = distribute.is_chief(strategy)
    # The codes are those of the model until the fit is done: no other training may replace it.
    in_use = run.checkpoints.in_use() if chief else contextlib.nullcontext()
    with distribute.watching_workers(strategy), in_use:
        return _train_prior(run, config, strategy, resume, progress, splits)


def _train_prior(run, config, strategy, resume, progress, splits):
    """Fit a prior in a run that no other process changes; see `train_prior`."""
    start = time.perf_counter()
    model = run.load_model()
    if not isinstance(model, CodeModel):
        raise InvalidArgument(
            f"{run.path} holds a {type(model).__name__}, whose latents are not codes: it is "
            "trained together with its prior. Expected a run of a VQ-VAE."
        )
    options = config.code_prior
    if resume:
        fit = fit_to_resume(run)
        check_resumed(fit.read_config(), config, ("data", "code_prior"), "A fit")
        position = fit.position()
        check_epochs("The fit of the prior", run.path, position, options.epochs)
    else:
        _check_no_other(run)
    splits = splits or load_data(config, model)
    parts = (splits.train, splits.validation)
    codes, held_out = (encode_all(model, images) for images in parts)
    with strategy.scope():
        prior = _new_prior(model, options, splits.condition)
    distribute.wait(strategy)  # until all workers have read what the next lines change
    chief = distribute.is_chief(strategy)
    if chief and not resume:
        run.forget_code_prior()
    if chief:
        run.code_prior.write_config(config)
    labels = [images.conditions_of(prior) for images in parts]
    fitted = _fit(run, prior, config, (codes, held_out), labels, progress)
    if not chief:
        return {}
    clear_strays(run.path)
    rows, best = fitted.rows, callbacks.best_epoch(fitted.rows, "val_loss")
    model.prior = prior
    _draw(run, model, rows, splits)
    (kept,) = (row for row in rows if row["epoch"] == best)
    values = {
        "name": options.name,
        "loss": kept["loss"],
        "val_loss": kept["val_loss"],
        "uniform": model.prior.num_positions * math.log(model.codebook_size),
        "bits_per_code": kept["val_bits_per_code"],
        "epoch": best,
        "parameters": model.prior.count_params(),
        "seconds": round(time.perf_counter() - start, 1),
        "checkpoints": fitted.checkpoints,
    }
    with atomic(run.model_file) as temporary:
        model.save(temporary)
    # The rest of what the run says may have changed since a fit began that was resumed.
    run.write_config(dataclasses.replace(run.read_config(), data=config.data, code_prior=options))
    update_report(run.path, "code_prior", values, outdated=("evaluation", "exports"))
    positions = model.prior.num_positions
    loop.check_end(values["uniform"], rows[:best], positions, run.code_prior, options.learning_rate)
    return values


def _new_prior(model, options: CodePriorConfig, condition):
    """Return a new prior; raise the error for one that cannot be fitted before writing anything.

    It has a class for each label, where the data has labels.
    """
    keras.utils.set_random_seed(options.seed)
    given = model.condition if model.trains_on_condition else conditions.get(condition)
    settings = {"codebook_size": model.codebook_size, "seed": options.seed}
    if given is not None and given.num_classes:
        settings["num_classes"] = given.num_classes
    prior = code_priors.get(options.name, **settings | options.options)
    if condition is None and prior.condition is not None:
        raise InvalidArgument(
            f"code_prior.options has num_classes = {prior.num_classes}, but the run has no labels. "
            "Name them with --set data.condition=label."
        )
    prior.build((None, *model.code_shape))
    prior.check_trainable()
    return prior


def _check_no_other(run):
    """Refuse to replace a fit that was interrupted."""
    if not run.code_prior.config_file.is_file():
        return
    done, wanted = run.code_prior.position(), run.code_prior.read_config().code_prior.epochs
    if (0, 0) < done < (wanted, 0):
        raise InvalidArgument(
            f"{run.path} has a fit of a prior that came to {done}, of {wanted} epochs. Continue it "
            f"with --resume, or delete {run.code_prior.path} to start anew."
        )


def fit_to_resume(run: RunDirectory) -> RunDirectory:
    """Return the directory of the unfinished fit of a prior.

    Raises:
        InvalidFile: there is none.
    """
    if not run.code_prior.config_file.is_file():
        raise InvalidFile(
            f"{run.path} has no fit of a prior to continue. Start one with "
            f"`{command('train-prior', run.path)}`."
        )
    return run.code_prior


def _draw(run, model, rows, splits):
    pictures.curves(rows, run.path / "prior-curves.png", pictures.PRIOR_CURVES)
    if splits.kind != "image" or splits.shape[-1] not in (1, 3):
        return
    y = pictures.some_conditions(model, splits)
    save_grid(model.sample(64, condition=y).numpy(), run.path / "samples.png")
    uniform = code_priors.UniformCodePrior(model.codebook_size)
    uniform.build((None, *model.code_shape))
    save_grid(model.decode(uniform.sample(64), y).numpy(), run.path / "samples-uniform.png")


def encode_all(model: CodeModel, images: Examples, batch_size: int = 500) -> np.ndarray:
    """Return the codes of all images of a split, `[N, *code_shape]` int32."""
    encode = tf.function(model.encode, reduce_retracing=True, autograph=False)
    parts = []
    for start in range(0, len(images), batch_size):
        rows = start, start + batch_size
        y = images.conditions_of(model, *rows) if model.trains_on_condition else None
        parts.append(encode(images.numpy(*rows), y).numpy())
    return np.concatenate(parts)


def _fit(run, prior, config: Config, parts, labels, progress):
    """Fit a new prior, or continue a fit; the prior ends with the weights of the best epoch.

    Args:
        run: the run.
        prior: as it is before the first step.
        config: with the settings of the fit.
        parts: the codes of the training and of the validation images.
        labels: theirs, or None twice.
        progress: whether to show a progress bar.
    """
    options, (codes, held_out) = config.code_prior, parts
    batch_size = min(options.batch_size, len(codes))
    batches = shuffled_batches(codes, batch_size, options.seed, conditions=labels[0])
    steps = options.epochs * batches.num_batches
    with prior.distribute_strategy.scope():
        prior.compile(Adam(keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)))
    best = keras.callbacks.EarlyStopping("val_loss", patience=math.inf, restore_best_weights=True)
    return loop.fit(
        prior,
        batches,
        options.epochs,
        run.code_prior,
        "The model of the run is as it was before. Continue with "
        f"`{command('train-prior', run.path, '--resume')}`.",
        progress,
        config.training.checkpoint_minutes,
        hooks=[best],
        validation_data=held_out if labels[1] is None else (held_out, labels[1]),
        validation_batch_size=batch_size,
    )
