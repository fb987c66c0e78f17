"""Training a configuration into a run directory."""

import contextlib
import inspect
import itertools
import time
import warnings

import keras
import tensorflow as tf

from tfvae import data, distributions, estimators, networks, objectives
from tfvae.config import Config, ModelConfig, TrainingConfig
from tfvae.errors import InvalidArgument, TfvaeError, TfvaeWarning
from tfvae.files import atomic, update_report
from tfvae.models import VAE, HierarchicalVAE, LatentVariableModel
from tfvae.optimizers import Adam
from tfvae.runs import callbacks, pictures
from tfvae.runs.directory import RunDirectory

_SAMPLE_FOR_BIAS = 10_000


def train(
    config: Config, run_dir, resume: bool = False, progress: bool = True, splits=None
) -> RunDirectory:
    """Train, and fill the run directory with the model, its history and its pictures.

    Epoch by epoch the model is kept in a checkpoint. Order of the data and all noise are functions
    of the seed, the epoch and the step, so a run that is resumed ends with the same weights as one
    that was not interrupted.

    Args:
        config: the complete configuration.
        run_dir: folder to write to; it may not hold a run unless `resume`.
        resume: continue the run in `run_dir` from its last epoch.
        progress: whether to show a progress bar on standard error.
        splits: the data, where it is loaded already.

    Raises:
        TfvaeError: a configuration or data that cannot be used, a folder that holds a run, a loss
            that is not finite.
    """
    start = time.perf_counter()
    splits = splits or load_data(config)
    run = RunDirectory(run_dir)
    epochs_done, model = run.last_checkpoint() if resume else (0, None)
    if config.training.epochs < epochs_done:
        raise InvalidArgument(
            f"The run in {run_dir} has done {epochs_done} epochs already; expected --epochs of at "
            "least that many."
        )
    if model is None:
        model = build_model(config, splits)
    elif config.training.schedule != "constant":  # its length changes with the number of epochs
        model.optimizer.learning_rate = _learning_rate(config.training, splits)
    _check_splits(model, splits)
    epoch = tf.Variable(epochs_done, dtype=tf.int64, trainable=False)
    batches = splits.train.batches(config.training.batch_size, config.training.seed, epoch)
    if resume:
        run.write_config(config)
    else:
        run = RunDirectory.create(run_dir, config)

    with contextlib.ExitStack() as stack:
        hooks = [callbacks.EpochCounter(epoch), *_callbacks(run, epochs_done)]
        if progress:
            bar = callbacks.Progress(epochs_done, config.training.epochs)
            hooks.append(stack.enter_context(bar))
        _fit(model, config.training, batches, splits.validation, epochs_done, hooks, run)
    with atomic(run.model_file) as temporary:
        model.save(temporary)
    pictures.draw(run, model, splits, callbacks.read_history(run))
    update_report(
        run.path,
        "training",
        {
            "seconds": round(time.perf_counter() - start, 1),
            "epochs": config.training.epochs,
            "steps": int(model.step),
            "parameters": model.count_params(),
        },
    )
    return run


def load_data(config: Config) -> data.Splits:
    """Load the data of a configuration."""
    options = config.data
    return data.load(
        options.name,
        options.data_dir or None,
        options.binarization,
        config.training.seed,
        options.download,
    )


def build_model(config: Config, splits: data.Splits) -> LatentVariableModel:
    """Return the compiled model of a configuration, for images of the shape of `splits`.

    Raises:
        InvalidArgument: names, options or sizes that do not exist or do not go together.
    """
    training = config.training
    keras.utils.set_random_seed(training.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(training.precision)
    try:
        model = _model(config, splits)
    finally:
        keras.config.set_dtype_policy(policy)
    estimator = None
    if training.estimator:
        estimator = _part(estimators.REGISTRY, training.estimator, training.estimator_options)
    model.compile(
        _optimizer(training, splits),
        objective=_part(objectives.REGISTRY, training.objective, training.objective_options),
        estimator=estimator,
        num_samples=training.num_samples,
        beta=training.beta,
        kl_warmup_steps=training.kl_warmup_steps,
        kl=training.kl,
        free_bits=training.free_bits,
        steps_per_execution=training.steps_per_execution,
        jit_compile=training.jit_compile,
    )
    return model


def _part(registry, name, options):
    """Return a part by name; a part that is a plain function takes no options."""
    part = registry.get(name, **options)
    if options and inspect.isfunction(part):
        raise InvalidArgument(f"The {registry.kind} {name!r} takes no options, but got {options}.")
    return part


def _model(config, splits):
    options = config.model
    likelihood = distributions.LIKELIHOODS.get(options.likelihood, **options.likelihood_options)
    posterior = distributions.POSTERIORS.get(options.posterior)
    encoders, decoders = _networks(options, posterior, likelihood, splits)
    common = {"likelihood": likelihood, "seed": config.training.seed}
    common["prior"] = options.prior or None
    if options.upper_latent_sizes:
        return HierarchicalVAE(encoders, decoders, posteriors=posterior, **common)
    return VAE(*encoders, *decoders, posterior=posterior, **common)


def _networks(config: ModelConfig, posterior, likelihood, splits):
    """Return encoders and decoders, one of each for a stochastic layer, from the bottom up."""
    activation = _activation(config.activation)
    shapes = [_latent_shape(config, size) for size in _latent_sizes(config)]
    params = [_params_shape(posterior, shape) for shape in shapes]
    x_params = _params_shape(likelihood, splits.shape)
    bias = None
    if isinstance(likelihood, distributions.Bernoulli):
        images = splits.train.numpy(0, _SAMPLE_FOR_BIAS)
        bias = networks.logit_bias(images, per_channel=config.network == "conv")
    options = {"activation": activation}
    if config.network == "conv":
        options |= {"filters": config.hidden, "units": config.units}
        make_encoder, make_decoder = networks.conv_encoder, networks.conv_decoder
    else:
        options |= {"hidden": config.hidden}
        make_encoder, make_decoder = networks.dense_encoder, networks.dense_decoder
    encoders = [make_encoder(splits.shape, _plain(params[0]), **options)]
    decoders = [make_decoder(_plain(shapes[0]), x_params, bias=bias, **options)]
    between = (config.upper_hidden, activation)
    for below, above in itertools.pairwise(range(len(shapes))):
        encoders.append(networks.dense_encoder(shapes[below], _plain(params[above]), *between))
        decoders.append(networks.dense_decoder(_plain(shapes[above]), params[below], *between))
    return encoders, decoders


def _latent_sizes(config):
    return (config.latent_size, *config.upper_latent_sizes)


def _latent_shape(config, size):
    return (size, config.num_categories) if config.num_categories else (size,)


def _params_shape(factory, shape):
    return (*shape[:-1], factory.params_size(shape[-1]))


def _plain(shape):
    """Return a shape of one axis as a number, as the networks of vectors take it."""
    return shape[0] if len(shape) == 1 else shape


def _activation(name):
    try:
        return keras.activations.get(name)
    except ValueError:
        raise InvalidArgument(
            f"Unknown activation {name!r}; expected one of Keras, such as 'tanh', 'relu', 'gelu' "
            "or 'silu'."
        ) from None


def _learning_rate(config: TrainingConfig, splits):
    if config.schedule == "constant":
        return config.learning_rate
    steps = config.epochs * (len(splits.train) // config.batch_size)
    if config.schedule == "iwae":
        return _published_schedule(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, max(1, steps))


def _published_schedule(learning_rate, steps):
    """Return the eight stages of Burda et al. 2016, sec. 5, over so many steps."""
    ends = [round(steps * (3 ** (i + 1) - 1) / (3**8 - 1)) for i in range(7)]
    rates = [learning_rate * 10 ** (-i / 7) for i in range(8)]
    # Keras counts steps from 0, and a boundary is the last step of its stage.
    return keras.optimizers.schedules.PiecewiseConstantDecay([end - 1 for end in ends], rates)


def _optimizer(config: TrainingConfig, splits):
    rate = _learning_rate(config, splits)
    if config.optimizer == "adam":
        return Adam(rate, epsilon=config.epsilon)
    try:
        optimizer = keras.optimizers.get(
            {"class_name": config.optimizer, "config": {"learning_rate": rate}}
        )
    except (ValueError, TypeError):
        raise InvalidArgument(
            f"Unknown optimizer {config.optimizer!r}; expected 'adam' or the name of a Keras "
            "optimizer, such as 'sgd', 'rmsprop', 'adamw' or 'lion'."
        ) from None
    if config.epsilon != TrainingConfig.epsilon:
        if not hasattr(optimizer, "epsilon"):
            raise InvalidArgument(
                f"training.epsilon is {config.epsilon!r}, but the optimizer {config.optimizer!r} "
                f"has none; expected {TrainingConfig.epsilon!r}, the default."
            )
        optimizer.epsilon = config.epsilon
    return optimizer


def _check_splits(model, splits):
    """Check all images before the first step, a part at a time."""
    for name in ("train", "validation", "test"):
        images = getattr(splits, name)
        for start in range(0, len(images), 10_000):
            model.check_data(images.numpy(start, start + 10_000), name)
    off_levels = model.likelihood.off_levels(splits.test.numpy(0, 1000))
    if off_levels > 0 and not splits.train.resample:
        warnings.warn(
            f"{off_levels:.0%} of the pixels of {splits.name!r} are not among the "
            f"{model.likelihood.num_levels} levels of the {type(model.likelihood).__name__} "
            "likelihood, so log p(x) is not a log-probability of this data. Use --set "
            "data.binarization=dynamic, or a likelihood for grey levels.",
            TfvaeWarning,
            stacklevel=2,
        )


def _callbacks(run, epochs_done):
    return [
        callbacks.StopAtNonFinite(run),
        callbacks.History(run, epochs_done),
        callbacks.Checkpoints(run),
        keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
    ]


def _fit(model, config: TrainingConfig, batches, validation, epochs_done, hooks, run):
    try:
        model.fit(
            batches,
            validation_data=validation.dataset(config.batch_size),
            initial_epoch=epochs_done,
            epochs=config.epochs,
            callbacks=hooks,
            verbose=0,
            shuffle=False,
        )
    except KeyboardInterrupt:
        raise TfvaeError(
            f"Interrupted. Continue with `tfvae train --resume --run-dir {run.path}`."
        ) from None
    except tf.errors.ResourceExhaustedError:
        raise TfvaeError("Out of memory. Use a smaller --batch-size or --num-samples.") from None
