"""The training of a configuration into a run directory."""

import contextlib
import dataclasses
import time
from pathlib import Path

import keras

from tfvae import data, data_paths, distribute, paths
from tfvae._plain.files import atomic, update_report
from tfvae.callbacks import EarlyStopping
from tfvae.checkpoints import Position
from tfvae.config import Config
from tfvae.config.locations import is_path
from tfvae.config.resumed import check_resumed
from tfvae.data import Splits
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, command
from tfvae.models import CodeModel, GenerativeModel, LatentVariableModel, step_memory
from tfvae.runs import callbacks, loop, pictures
from tfvae.runs.build import build_model, with_networks
from tfvae.runs.directory import RunDirectory
from tfvae.runs.initial_weights import start_from


def train(
    config: Config,
    run_dir: str | Path,
    resume: bool = False,
    progress: bool = True,
    splits: Splits | None = None,
) -> RunDirectory:
    """Train, and fill the run directory with the model, its history and its pictures.

    Every few minutes a checkpoint is written. The order of the data and all noise are functions of
    the seed, the epoch and the step, so a resumed run continues at the very batch, and ends with
    the same weights as a run that was not interrupted (`callbacks.Resume`).

    Of several workers (`training.distribute = "multiworker"`) each calls this with the same
    arguments; worker 0 writes, and the others return once the training has ended.

    Args:
        config: the complete configuration.
        run_dir: folder to write to; it may not hold a run unless `resume`.
        resume: continue the run in `run_dir` from its last checkpoint.
        progress: whether to show a progress bar on standard error.
        splits: the data, where it is loaded already.

    Raises:
        InvalidArgument: settings that do not fit, or with `resume` other ones than before.
        InvalidData: data that cannot be used.
        InvalidFile: the folder holds a run, or with `resume` none; another training of it is under
            way; or a file cannot be written.
        NonFiniteLoss: a loss is not finite.
        DivergedLoss: it ended far above where it started; raised once everything is written.
        TfvaeError: memory did not suffice, or an interruption (Ctrl-C), after a checkpoint.
        SystemExit: with status 0, after SIGTERM and a checkpoint.

    Warns:
        TfvaeWarning: the loss ended above where it started, a checkpoint is damaged and the one
            before is used, or more epochs follow another schedule of the learning rate, or do not
            continue a run that stopped early.
    """
    start = time.perf_counter()
    strategy = loop.strategy("training", config.training)
    chief = distribute.is_chief(strategy)
    splits = splits or load_data(config)
    config = with_networks(config, splits.shape)
    # What was seen of the data, for files that the model is given later.
    grey = splits.full_range and config.data.binarization == "none"
    seen = {"data.full_range": config.data.full_range or grey}
    if splits.kind != "image":
        seen["data.kind"] = splits.kind
    config = config.override(seen)
    config.to_toml()  # refuses options that no file can hold, before there is one
    run = RunDirectory(run_dir)
    _check_folder(run, config, resume)
    with strategy.scope():
        model = build_model(config, splits)
    _check_splits(model, splits)
    has_begun = resume and run.position() > (0, 0)  # a checkpoint has the weights
    if config.training.initial_weights and not has_begun:
        start_from(config.training.initial_weights, model)
    if isinstance(model, LatentVariableModel):
        step_memory.check(model, config.training.num_samples, config.training.batch_size)
    batches = splits.train.batches(config.training.batch_size, config.training.seed)
    distribute.wait(strategy)  # until all have seen what is in the folder
    with run.checkpoints.in_use() if chief else contextlib.nullcontext():
        if chief:
            _check_folder(run, config, resume)  # another training may have begun or ended meanwhile
            run.write_config(config)
        fitted = loop.fit(
            model,
            batches,
            config.training.epochs,
            run,
            f"Continue with `{command('train', '--resume', '--run-dir', run.path)}`.",
            progress,
            config.training.checkpoint_minutes,
            hooks=_hooks(config, run, chief),
            measure_start=True,
            validation_data=splits.validation.dataset(config.training.batch_size),
        )
        if not chief:
            return run
        unchanged = _unchanged(run, model)
        _settle_prior(run, model, unchanged)
        outdated = () if unchanged is not None else ("evaluation", "diagnosis", "exports")
        kept = _write(run, model, splits, fitted, config.training.patience, start, outdated)
    rate = config.training.learning_rate
    loop.check_end(fitted.start_loss, kept, splits.num_values, run, rate)
    return run


def _write(run, model, splits, fitted, patience, start, outdated):
    """Write a trained model, its pictures and its report; return the rows up to the epoch kept.

    The sections of the report whose names begin with one of `outdated` are of the model before.
    """
    replicas = model.distribute_strategy.num_replicas_in_sync
    with atomic(run.model_file) as temporary:
        model.save(temporary)
    if distribute.is_multi_worker(model.distribute_strategy):
        model = model.copy()  # that needs no other worker: they are gone
    rows = fitted.rows
    pictures.draw(run, model, splits, rows)
    kept = rows[: callbacks.best_epoch(rows, "val_loss")] if patience else rows
    report = {
        "seconds": round(time.perf_counter() - start, 1),
        "epochs": len(rows),
        "epoch": kept[-1]["epoch"],
        "steps": model.steps_made,
        "parameters": model.count_params(),
        "replicas": replicas,
        "checkpoints": fitted.checkpoints,
    }
    update_report(run.path, "training", report, outdated)
    return kept


def _check_folder(run, config, resume):
    """Refuse a folder that holds a run, or with `resume` one that these settings do not go on."""
    if not resume:
        paths.check_new_run(run.path)
        return
    check_resumed(run.read_config(), config, ("data", "model", "training"), "A run")
    check_epochs("The run", run.path, run.position(), config.training.epochs)


def _hooks(config, run, chief):
    board = keras.callbacks.TensorBoard(run.tensorboard, write_graph=False)
    hooks = [board] if chief else []
    if config.training.ema_momentum:
        hooks.append(keras.callbacks.SwapEMAWeights())  # so that validation is of the average
    if config.training.patience:
        patience = config.training.patience
        hooks.append(EarlyStopping("val_loss", patience=patience, restore_best_weights=True))
    return hooks


def check_epochs(what: str, path, position: Position, epochs: int) -> None:
    """Refuse to resume a training with fewer epochs than it has done.

    Raises:
        InvalidArgument: with how many they are.
    """
    if Position(epochs, 0) >= position:
        return
    begun = f", and begun epoch {position.epoch + 1}" if position.batch else ""
    raise InvalidArgument(
        f"{what} in {path} has done {position.epoch} epochs already{begun}; expected --epochs of "
        "at least that many."
    )


def _unchanged(run, model):
    """Return the model of the finished run, or None if there is none, or steps were made since."""
    if not run.model_file.is_file():
        return None
    try:
        finished = run.load_model()
    except InvalidFile:
        return None
    return finished if finished.steps_made == model.steps_made else None


def _settle_prior(run, model, unchanged):
    """Keep the prior over codes of a finished run, unless the run was trained further."""
    if not isinstance(model, CodeModel) or not run.model_file.is_file():
        return
    if unchanged is not None:
        model.prior = unchanged.prior
    else:
        run.forget_code_prior()  # it was fitted to other codes


def load_data(config: Config, model: GenerativeModel | None = None) -> data.Splits:
    """Load the data of a configuration.

    Args:
        config: the configuration.
        model: the model for the data, by whose schema a table is read and by whose statistics
            arrays are standardized; None to compute both from the training examples.

    Raises:
        InvalidData: data that is missing or does not fit; or the configuration of a trained model
            names a TFDS dataset, and a file or folder of that name is here.
    """
    options = config.data
    if model is not None and is_path(options.name) and not Path(options.name).is_absolute():
        raise InvalidData(
            f"The model was trained on the TFDS dataset {options.name!r}, and {Path.cwd()} has a "
            "file or folder of that name, which would be taken for it. Run this in another folder, "
            f"or choose the latter with --dataset {Path(options.name).resolve()}."
        )
    columns, standardize = options.columns, options.standardize
    if model is not None:
        columns, standardize = model.schema or columns, model.standardization or False
    # A configuration may have these from other data, in whose place this was named.
    is_tfds = data_paths.dataset_kind(options.name) == "tfds"
    splits = data.load(
        options.name,
        (options.data_dir or None) if is_tfds else None,
        options.binarization,
        config.training.seed,
        options.download,
        options.layout if data_paths.holds_arrays(options.name) else "auto",
        options.resize,
        options.crop,
        options.condition,
        options.memory_gb,
        options.kind,
        columns,
        missing=options.missing,
        standardize=standardize,
        full_range=options.full_range,
    )
    parts = {p: of_vocabulary(getattr(splits, p), model, options.name) for p in data.SPLITS}
    return dataclasses.replace(splits, **parts)


def of_vocabulary(examples: data.Examples, model: GenerativeModel | None, name) -> data.Examples:
    """Return lines of tokens as levels of the vocabulary of a model; other examples as they are.

    Raises:
        InvalidData: a token that the model does not know.
    """
    if examples.kind != "tokens" or model is None or not model.num_tokens:
        return examples
    largest = int(examples.extent()[1])
    if largest >= model.num_tokens:
        raise InvalidData(
            f"{name} holds the token {largest}, and the model was trained on tokens from 0 to "
            f"{model.num_tokens - 1}. Leave these lines out, or train on data that has it."
        )
    return dataclasses.replace(examples, max_value=float(model.num_tokens - 1))


def _check_splits(model, splits):
    """Check the images before the first step, a part at a time.

    Of images that are not in memory a thousand are checked, evenly spaced; integers are in range by
    their type, floats were checked when they were opened, and every batch is checked in its step.
    """
    for name in ("train", "validation", "test"):
        images = getattr(splits, name)
        if not images.in_memory:
            model.check_data(images.sample(1000), name)
            continue
        for start in range(0, len(images), 10_000):
            model.check_data(images.numpy(start, start + 10_000), name)
