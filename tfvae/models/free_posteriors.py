"""Training of decoder and prior with a free posterior for each example, without an encoder."""

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import not_negative, whole
from tfvae.conditions import as_argument
from tfvae.errors import InvalidArgument
from tfvae.models.vae import VAE
from tfvae.optimizers import adam_direction
from tfvae.random import Stream, fold_in, make_seed, stream_seed


def fit_jointly(
    model: VAE,
    x: np.ndarray,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    epochs: int = 50,
    batch_size: int = 100,
    learning_rate: float = 0.02,
    inner_steps: int = 5,
    init: str = "prior",
    seed: int = 0,
) -> tuple[np.ndarray, list[float]]:
    """Train decoder and prior of a compiled `VAE`, with a q_n(z) of its own for every example.

    maximize Σ_n objective(log w_n),  log w_n = log p(x_n, z) − log q_n(z),  z ~ q_n,

    over the parameters of p and of every q_n, with the objective, estimator and number of samples
    of `compile`. At each visit of an example its q_n takes `inner_steps` steps of Adam, then p one
    step of the model's optimizer. The encoder is not used, and not trained: this is variational
    inference before amortization, stochastic variational EM.

    Source: Jordan et al. 1999, "An introduction to variational methods for graphical models",
    sec. 6; Hoffman et al. 2013, "Stochastic variational inference".

    Args:
        model: a compiled `VAE`.
        x: an array `[N, *x_shape]`.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, for a model with a condition.
        epochs: passes over the data.
        batch_size: examples in a step; those that fill no batch wait for the next epoch's order.
        learning_rate: of the free posteriors.
        inner_steps: steps of a posterior for one of p.
        init: "prior" starts every q_n at parameters of zero, N(0, I) or uniform; "encoder" at the
            encoder's output.
        seed: with the step, decides the order of the examples, all draws and the noise of layers.

    Returns:
        The parameters of the posteriors, `[N, *params_shape]`, for `model.posterior`; and the loss
        of every epoch, in nats per example.

    Raises:
        InvalidArgument: a model that is not compiled, has no single posterior family or nothing to
            train, values that cannot be used, or a condition that is missing or not wanted.
        InvalidData: data that does not fit the model, or conditions that do not.
    """
    _check(model, init)
    counts = {"epochs": epochs, "batch_size": batch_size, "inner_steps": inner_steps}
    for name, value in counts.items():
        whole(name, value)
    not_negative("learning_rate", learning_rate)
    x = np.asarray(x, np.float32)
    model.check_data(x)
    y = model.check_condition(condition, len(x))
    if y is not None:  # one for all becomes one for each
        y = tf.broadcast_to(y, [len(x), *model.condition.spec.shape[1:]])
    model.check_trainable(_generative_variables(model))
    if not model.steps_made:
        model.start_from_data(x, y)
    batch_size = min(batch_size, len(x))
    table = _start(model, x, y, init)
    rows = [
        tf.Variable(table),
        tf.Variable(tf.zeros_like(table)),
        tf.Variable(tf.zeros_like(table)),
    ]
    visits = tf.Variable(tf.zeros([len(x)]))
    step = _make_step(model, tf.constant(x), y, rows, visits, learning_rate, inner_steps, seed)
    order_seed = fold_in(make_seed(seed), int(Stream.SHUFFLE))
    losses = []
    for epoch in range(epochs):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(x)), fold_in(order_seed, epoch)
        ).numpy()
        count = len(x) // batch_size
        batches = order[: count * batch_size].reshape(count, batch_size)
        losses.append(float(np.mean([step(tf.constant(batch)) for batch in batches])))
    return rows[0].numpy(), losses


def _make_step(model, x, y, rows, visits, learning_rate, inner_steps, seed):
    trained = _generative_variables(model) + model.estimator.trainable_variables
    model.optimizer.build(model.trainable_variables)

    def estimate(params, batch, given, seed):
        infer = model.inference(batch, True, params, given, seed)
        bound = model.training_bound()
        context = model.likelihood.filled(batch)
        return model.estimator.estimate(bound, infer, context, seed, True)

    @tf.function(autograph=False)
    def step(index):
        model.seed_layers(seed)
        batch, given = tf.gather(x, index), None if y is None else tf.gather(y, index)
        params, first, second = (tf.gather(row, index) for row in rows)
        done = tf.gather(visits, index)
        step_seed = stream_seed(seed, Stream.TRAIN, model.step)
        for number in range(inner_steps):
            with tf.GradientTape() as tape:
                tape.watch(params)
                found = estimate(params, batch, given, fold_in(step_seed, number))
                value = tf.reduce_sum(found.surrogate)
            done += 1.0
            count = tf.reshape(done, [-1] + [1] * (len(params.shape) - 1))
            direction, first, second = adam_direction(
                tape.gradient(value, params), first, second, count
            )
            params += learning_rate * direction
        model.forget_losses()
        with tf.GradientTape() as tape:
            last = estimate(params, batch, given, fold_in(step_seed, inner_steps))
            loss = model.total_loss(-last.surrogate, batch, given, training=True)
            scaled_loss = model.scaled_loss(loss, None)
        model.minimize(tape, scaled_loss, trained)
        if last.statistics is not None:
            model.estimator.update(last.statistics)
        for row, values in zip(rows, (params, first, second), strict=True):
            row.scatter_update(tf.IndexedSlices(values, index))
        visits.scatter_update(tf.IndexedSlices(done, index))
        return tf.reduce_mean(loss.per_example)

    return step


def _generative_variables(model):
    return [w for part in model.generative_parts for w in part.trainable_variables]


def _start(model, x, y, init):
    encoded = []
    for start in range(0, len(x), 1000):
        part = tf.constant(x[start : start + 1000])
        c = model.encode_condition(None if y is None else y[start : start + 1000], len(part))
        encoded.append(np.asarray(model.bottom_up(part, **as_argument(c))))
    encoded = np.concatenate(encoded).astype(np.float32)
    return encoded if init == "encoder" else np.zeros_like(encoded)


def _check(model, init):
    if not all(hasattr(model, name) for name in ("posterior", "encoder")):
        raise InvalidArgument(
            f"{type(model).__name__} has no single posterior family whose parameters could be free;"
            " expected a tfvae.VAE."
        )
    if not model.compiled:
        raise InvalidArgument("The model is not compiled. Call model.compile(...) first.")
    if model.has_additional_loss:
        raise InvalidArgument(
            f"{type(model).__name__} adds a loss of its own (`additional_loss`), which "
            "`fit_jointly` does not count. Train it with `fit`."
        )
    if init not in ("prior", "encoder"):
        raise InvalidArgument(f"`init` is {init!r}; expected 'prior' or 'encoder'.")
