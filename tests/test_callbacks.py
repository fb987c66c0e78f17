"""Trainings that are killed, stopped or finished, and go on."""

import csv
import functools
import os
import signal
import types

import keras
import numpy as np
import pytest
from tiers import LONG, nightly_but

import tfvae
from tfvae.callbacks import Resume, callback_states, training_state
from tfvae.checkpoints import Position
from tfvae.data import Examples, shuffled_batches
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, TfvaeWarning
from tfvae.standardization import Standardization

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

BATCHES, EPOCHS = 7, 3
X = np.random.default_rng(0).random((31, 4, 4, 1), np.float32)
CODES = np.random.default_rng(1).integers(0, 5, (31, 3)).astype(np.int32)
ALWAYS = 1e-9  # minutes: a checkpoint after every call


class Killed(Exception):
    """What stands in for the death of a process: nothing of Keras or tfvae knows it."""


class Dies(keras.callbacks.Callback):
    """Ends a training when so many batches and validations were begun."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            raise Killed
        self.left -= 1

    on_test_batch_begin = on_train_batch_begin


def make_vae(steps=1):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2, seed=3),  # it has a state of its own
            keras.layers.Dense(4),
        ]
    )
    decoder = tfvae.networks.dense_decoder(2, (4, 4, 1), hidden=())
    model = tfvae.VAE(encoder, decoder)
    model.compile(tfvae.optimizers.Adam(1e-2), steps_per_execution=steps, beta=0.5)
    return model


def make_vqvae(steps=1):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 2, strides=2)])
    decoder = keras.Sequential(
        [keras.Input((2, 2, 2)), keras.layers.Conv2DTranspose(1, 2, strides=2)]
    )
    quantizer = tfvae.quantizers.get(
        "ema", num_embeddings=6, embedding_dim=2, initializer="kmeans", threshold_ema_dead_code=1.0
    )
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="normal")
    model.compile(tfvae.optimizers.Adam(1e-2), steps_per_execution=steps)
    return model


def make_prior(steps=1):
    keras.utils.set_random_seed(0)
    options = {"num_layers": 1, "hidden_size": 8, "num_heads": 2, "dropout": 0.3}
    prior = tfvae.code_priors.get("transformer", codebook_size=5, **options)
    prior.compile(keras.optimizers.SGD(0.1, momentum=0.9), steps_per_execution=steps)
    return prior


def images(count=None):
    return Examples(X[:count], resample=True).batches(4, seed=2)


def codes():
    return shuffled_batches(CODES, 4)


CASES = {
    "vae": (make_vae, images, np.round(X[:6])),
    "vqvae": (make_vqvae, images, X[:6]),
    "code prior": (make_prior, codes, CODES[:6]),
}


class Spoils(keras.callbacks.Callback):
    """Makes a weight NaN after so many steps, as a gradient that overflows does."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        if self.model.steps_made == self.at:
            self.model.trainable_variables[-1].assign_add(
                np.full(self.model.trainable_variables[-1].shape, np.nan)
            )


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    model, data = begin_anew("vae")
    resume = Resume(tmp_path, minutes=ALWAYS)
    last = "the last one .* is that of batch 4 of epoch 1"
    with pytest.warns(TfvaeWarning, match=f"not finite.*{last}"):
        model.fit(data, epochs=1, callbacks=[Spoils(5), resume], verbose=0)
    assert resume.checkpoints.last() == (0, 4)


class Halves(keras.callbacks.Callback):
    """Halves β after every epoch: what it assigns is kept nowhere else."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.beta *= 0.5


def others(case):
    """Callbacks that know something: of the best epoch, and when to lower the learning rate."""
    more = [Halves()] if case == "vae" else []
    return [
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=1e3, factor=0.7),
        *more,
    ]


def state(model):
    return [*model.variables, *model.optimizer.variables, *model.assigned_settings()]


@functools.cache
def made(case, steps):
    """Return a model, its data, and the values of its variables before the first step."""
    make, batches, held_out = CASES[case]
    model, data = make(steps), batches()
    if not model.built:
        model.build((None, *held_out.shape[1:]))
    model.optimizer.build(model.trainable_variables)
    return model, data, [np.asarray(variable).copy() for variable in state(model)]


def begin_anew(case, steps=1):
    """Return a model as a new process would make it; its graph is made only once."""
    model, data, start = made(case, steps)
    for variable, value in zip(state(model), start, strict=True):
        variable.assign(value)
    data.start_at(0)
    return model, data


def fit(case, *callbacks, steps=1, epochs=EPOCHS, data=None):
    """Fit a model in what stands in for a new process; return its state, and the history."""
    model, own = begin_anew(case, steps)
    history = model.fit(
        own if data is None else data,
        epochs=epochs,
        verbose=0,
        validation_data=CASES[case][2],
        validation_batch_size=3,
        callbacks=[*callbacks, *others(case)],
    )
    return [np.asarray(variable).copy() for variable in state(model)], history


def assert_same(one, other):
    """Check that two results of `fit` are the same, bit by bit."""
    assert one[1].history == other[1].history
    assert one[1].epoch == other[1].epoch
    for left, right in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def whole():
    """Return a function that gives what comes of a training that nothing interrupts."""
    known = {}

    def of(case):
        if case not in known:
            known[case] = fit(case)
        return known[case]

    return of


# Moments: batches and validation batches begun in that process, and how many steps a call makes.
@pytest.mark.parametrize(
    ("case", "moments", "steps"),
    [
        # Within an epoch, twice without progress, within a validation, at its end, in the last one.
        ("vae", [4, 0, 0, 4, 2, 17], 1),
        pytest.param("vae", [3, 2], 3, marks=LONG),  # 7 batches are no multiple of 3
        pytest.param("vqvae", [5, 8, 1], 2, marks=LONG),
        pytest.param("code prior", [5, 7], 1, marks=LONG),
    ],
)
def test_a_training_that_is_killed_ends_as_one_that_is_not(case, moments, steps, whole, tmp_path):
    for moment in moments:
        with pytest.raises(Killed):
            fit(case, Dies(moment), Resume(tmp_path, ALWAYS), steps=steps)
    assert_same(fit(case, Resume(tmp_path, ALWAYS), steps=steps), whole(case))


def test_it_goes_on_at_the_batch_where_it_was(tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(BATCHES + 2 + 3), Resume(tmp_path, ALWAYS))  # 2 batches of validation
    model = made("vae", 1)[0]
    assert model.steps_made == BATCHES + 3
    resume = Resume(tmp_path)
    assert resume.checkpoints.last() == (1, 3)
    fit("vae", resume)
    assert model.steps_made == EPOCHS * BATCHES


class CountsBatches(keras.callbacks.Callback):
    """Counts the calls for batches in all processes together."""

    def __init__(self):
        super().__init__()
        self.begun = self.ended = 0

    def get_state(self):
        return {"ended": self.ended}

    def set_state(self, state):
        self.begun = self.ended = state["ended"]

    def on_train_batch_begin(self, batch, logs=None):
        self.begun += 1

    def on_train_batch_end(self, batch, logs=None):
        self.ended += 1


def test_callbacks_are_called_once_for_every_batch(tmp_path):
    seen = []
    with pytest.raises(Killed):
        fit("vae", Dies(BATCHES + 2 + 3), Resume(tmp_path, ALWAYS), CountsBatches())
    counts = CountsBatches()
    noting = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(batch)
    )
    fit("vae", Resume(tmp_path), counts, noting)
    assert counts.begun == counts.ended == EPOCHS * BATCHES
    assert seen == [*range(3, BATCHES), *(EPOCHS - 2) * [*range(BATCHES)]]


def test_the_file_of_a_csv_logger_goes_on(tmp_path):
    log, whole = tmp_path / "log.csv", tmp_path / "whole.csv"
    fit("vae", keras.callbacks.CSVLogger(whole))
    logger = keras.callbacks.CSVLogger(log)
    with pytest.raises(Killed):
        fit("vae", Dies(2 * (BATCHES + 2) + 3), Resume(tmp_path / "kept", ALWAYS), logger)
    assert len(log.read_text().splitlines()) == 1 + 2
    with log.open("a") as file:  # of an epoch whose checkpoint was not written
        file.write(log.read_text().splitlines()[-1].replace("1", "2", 1) + "\n")
    for _ in range(2):  # the second time it has ended
        logger = keras.callbacks.CSVLogger(log)
        fit("vae", Resume(tmp_path / "kept"), logger)
        assert log.read_text() == whole.read_text()
        assert not logger.append
    fit("vae", Resume(tmp_path / "kept"), keras.callbacks.CSVLogger(log, append=True))
    assert log.read_text() == whole.read_text()


def test_the_file_of_a_csv_logger_has_the_columns_of_all_epochs(tmp_path):
    for epochs, options in ((1, {}), (2, {"validation_data": np.round(X[:6])})):
        model, _ = begin_anew("vae")
        logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        hooks = [Resume(tmp_path / "kept"), logger]
        model.fit(images(), epochs=epochs, callbacks=hooks, verbose=0, **options)
    header, first, second = csv.reader((tmp_path / "log.csv").read_text().splitlines())
    first, second = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert (first["epoch"], second["epoch"]) == ("0", "1")
    assert first["val_loss"] == "NA"
    assert float(second["val_loss"]) > 0


def test_callbacks_that_count_batches_go_on(tmp_path):
    def hooks(folder):
        name = str(tmp_path / folder / "{epoch}-{batch}.weights.h5")
        (tmp_path / folder).mkdir(exist_ok=True)
        board = keras.callbacks.TensorBoard(tmp_path / "board", write_graph=False, update_freq=2)
        saves = keras.callbacks.ModelCheckpoint(name, save_freq=5, save_weights_only=True)
        return board, saves

    board, saves = hooks("whole")
    fit("vae", board, saves)
    with pytest.raises(Killed):
        fit("vae", Dies(BATCHES + 2 + 3), Resume(tmp_path / "kept", ALWAYS), *hooks("parts"))
    resumed, saves = hooks("parts")
    fit("vae", Resume(tmp_path / "kept"), resumed, saves)
    whole, parts = (sorted(p.name for p in (tmp_path / n).iterdir()) for n in ("whole", "parts"))
    assert parts == whole
    assert resumed._global_train_batch == board._global_train_batch == EPOCHS * BATCHES
    assert resumed._global_test_batch == board._global_test_batch


class TestOtherData:
    @pytest.fixture
    def kept(self, tmp_path):
        """The folder of a training on data with labels and columns."""
        self.refit(tmp_path)
        return tmp_path

    def refit(self, folder, x=X, epochs=1, **options):
        model, _ = begin_anew("vae")
        batches = Examples(x, **options).batches(4, seed=2)
        model.fit(batches, epochs=epochs, callbacks=[Resume(folder)], verbose=0)

    @pytest.mark.parametrize("other", [X[::-1], np.sqrt(X), 0.9 * X], ids=["order", "root", "x"])
    def test_values(self, kept, other):
        with pytest.raises(InvalidArgument, match=r"on other data than this, .* as many examples"):
            self.refit(kept, other, 2)

    def test_units(self, kept):
        units = Standardization([0.0], [1.0])
        with pytest.raises(InvalidArgument, match="on other data than this"):
            self.refit(kept, epochs=2, standardization=Standardization([5.0], [1.0]))
        self.refit(kept / "units", standardization=units)
        with pytest.raises(InvalidArgument, match="on other data than this"):
            self.refit(kept / "units", epochs=2, standardization=Standardization([0.1], [1.0]))


def test_data_that_cannot_be_told_is_so_before_the_first_step(tmp_path):
    model, _ = begin_anew("vae")
    batches = images()

    def damaged():
        raise InvalidData("Example 3 is damaged.")

    batches._contents = damaged
    with pytest.raises(InvalidData, match="Example 3"):
        model.fit(batches, epochs=1, callbacks=[Resume(tmp_path)], verbose=0)
    assert model.steps_made == 0


def test_the_steps_of_a_call_may_be_others_when_it_goes_on(whole, tmp_path):
    for moment, steps in ((4, 1), (4, 3)):
        with pytest.raises(Killed):
            fit("vae", Dies(moment), Resume(tmp_path, ALWAYS), steps=steps)
    assert_same(fit("vae", Resume(tmp_path), steps=1), whole("vae"))


def test_other_settings_of_compile_are_named_when_it_goes_on(tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(4), Resume(tmp_path, ALWAYS))
    model, data = make_vae(), images()
    options = {"steps_per_execution": 7, "run_eagerly": True}
    model.compile(tfvae.optimizers.Adam(5e-2), beta=0.25, **options)
    with pytest.warns(TfvaeWarning, match=r"`compile` now: beta, optimizer.learning_rate\. The"):
        model.fit(data, epochs=1, callbacks=[Resume(tmp_path)], verbose=0)


def test_numbers_that_a_callback_assigned_are_no_other_setting_of_compile(tmp_path):
    model, data = begin_anew("vae")
    for epochs in (1, 2):
        history = model.fit(data, epochs=epochs, callbacks=[Halves(), Resume(tmp_path)], verbose=0)
    assert history.epoch == [0, 1]
    assert model.beta == 0.125
    assert model.compiled_numbers == {"beta": 0.5, "free_bits": 0.0}


def test_a_checkpoint_sets_what_a_callback_of_keras_knows_and_nothing_else():
    stopping = keras.callbacks.EarlyStopping("loss")
    (entry,) = callback_states.states_of([stopping])
    entry["state"] |= {"wait": 3, "monitor": "other", "on_epoch_end": None}
    callback_states.restore_states([stopping], [entry])
    assert (stopping.wait, stopping.monitor) == (3, "loss")
    assert "on_epoch_end" not in vars(stopping)


@pytest.mark.parametrize("loss_scale", nightly_but([False, True], True))
def test_a_rate_that_a_callback_lowered_is_no_other_setting_of_compile(loss_scale, tmp_path):
    model, data = make_vae(), images(8)
    optimizer = tfvae.optimizers.Adam(1e-2)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if loss_scale else optimizer
    model.compile(optimizer, run_eagerly=True)
    for epochs in (1, 2):
        lowers = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        history = model.fit(data, epochs=epochs, callbacks=[lowers, Resume(tmp_path)], verbose=0)
    assert history.epoch == [0, 1]
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2 / 4)


def fit_scheduled(folder, steps, epochs, loss_scale=False):
    model, data = make_vae(), images(8)
    optimizer = tfvae.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps))
    if loss_scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, run_eagerly=True)
    model.fit(data, epochs=epochs, callbacks=[Resume(folder)], verbose=0)


@pytest.mark.parametrize("loss_scale", nightly_but([False, True], True))
def test_a_rate_that_jumps_is_named_when_a_training_goes_on(loss_scale, tmp_path, recwarn):
    fit_scheduled(tmp_path, 2 * 2, 1, loss_scale)  # of two batches each
    fit_scheduled(tmp_path, 2 * 2, 2, loss_scale)
    fit_scheduled(tmp_path, 4 * 2, 2, loss_scale)  # which makes no step
    assert not [str(w.message) for w in recwarn if w.category is TfvaeWarning]
    with pytest.warns(
        TfvaeWarning, match=r"was 0 after epoch 2 and goes on with 0\.005: .*weights"
    ):
        fit_scheduled(tmp_path, 4 * 2, 3, loss_scale)


def test_rates_that_differ_are_told_apart():
    with pytest.warns(TfvaeWarning, match=r"was 0\.01 after epoch 2 and goes on with 0\.010011:"):
        training_state.warn_of_another_rate(0.01, 0.0100113, Position(2, 0))


def test_a_training_that_ended_is_not_repeated_and_may_be_longer(whole, tmp_path):
    shorter = fit("vae", Resume(tmp_path), epochs=2)
    again = fit("vae", Resume(tmp_path), epochs=2)
    assert_same(again, shorter)
    assert_same(fit("vae", Resume(tmp_path)), whole("vae"))


def test_a_training_that_stopped_early_stays_stopped(tmp_path):
    def stopping(epochs):
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e3, patience=1)
        model, batches = begin_anew("vae")
        return model.fit(
            batches,
            epochs=epochs,
            verbose=0,
            validation_data=np.round(X[:6]),
            callbacks=[stop, Resume(tmp_path)],
        ).history

    first = stopping(5)
    assert len(first["loss"]) == 2
    assert stopping(5) == first
    with pytest.warns(TfvaeWarning, match="stopped early, after epoch 2, and more epochs do not"):
        assert stopping(9) == first


@pytest.mark.parametrize("moment", [3, BATCHES + 1], ids=["in an epoch", "in a validation"])
def test_sigterm_finishes_the_step_saves_and_leaves_with_status_0(moment, whole, tmp_path, capsys):
    class Terminated(Dies):
        def on_train_batch_begin(self, batch, logs=None):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            self.left -= 1

        on_test_batch_begin = on_train_batch_begin

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        fit("vae", Terminated(moment), Resume(tmp_path, how="Call me again."))
    assert stop.value.code == 0
    said = capsys.readouterr().err
    assert "SIGTERM: finishing the step." in said
    done = min(moment + 1, BATCHES)
    kept = f"Stopped after batch {done} of epoch 1; all is kept in {tmp_path}. Call me again."
    assert kept in said
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert_same(fit("vae", Resume(tmp_path)), whole("vae"))


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_the_step_and_saves_and_a_second_does_not_wait(times, tmp_path):
    class Pressed(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            for _ in range(times if batch == 2 else 0):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        fit("vae", Pressed(), Resume(tmp_path))
    if times == 1:
        assert "Stopped after batch 3 of epoch 1; all is kept in" in str(stop.value)
    assert Resume(tmp_path).checkpoints.last() == ((0, 3) if times == 1 else (0, 0))


def test_a_damaged_checkpoint_costs_one_interval_and_no_more(whole, tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(5), Resume(tmp_path, ALWAYS))
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(TfvaeWarning, match="goes on from the one before: batch 4 of epoch 1"):
        assert_same(fit("vae", Resume(tmp_path)), whole("vae"))


def test_what_checkpoints_cost_is_counted_over_all_processes(tmp_path):
    first = Resume(tmp_path, ALWAYS)
    with pytest.raises(Killed):
        fit("vae", Dies(5), first)
    assert first.saved == 5
    second = Resume(tmp_path, ALWAYS)
    fit("vae", second)
    # A checkpoint does not count itself, nor does one that comes after its kill.
    assert 4 + 2 + 7 * (EPOCHS - 1) < second.saved < 4 + 4 * EPOCHS + 7 * EPOCHS
    assert second.seconds > second.seconds_saving > first.seconds_saving


def test_short_epochs_have_fewer_checkpoints_than_ends(tmp_path, monkeypatch):
    resume = Resume(tmp_path)
    saved = []
    save = resume.checkpoints.save
    monkeypatch.setattr(
        resume.checkpoints, "save", lambda at, tree: (saved.append(at), save(at, tree))
    )
    fit("vae", resume, epochs=12, data=images(8))
    assert saved[0] == (1, 0)
    assert saved[-1] == (12, 0)
    assert len(saved) < 12


def test_batches_of_data_are_those_of_the_epoch_without_resume_too():
    seen = []

    def pixels():
        return np.concatenate([batch.numpy() for batch in data]).tolist()

    class Looks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(pixels())

    data = shuffled_batches(np.round(X), 4)
    begin_anew("vae")[0].fit(data, epochs=2, verbose=0, callbacks=[Looks()])
    expected = []
    for epoch in range(2):
        data.start_at(epoch)
        expected.append(pixels())
    assert seen == expected
    assert seen[0] != seen[1]


def test_a_model_that_is_not_one_of_tfvae_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(InvalidArgument, match="for the `fit` of a model of tfvae"):
        model.fit(np.zeros((4, 3)), np.zeros((4, 1)), verbose=0, callbacks=[Resume(tmp_path)])


def test_a_layer_that_the_first_step_would_build_is_refused(make_vae, images, tmp_path):
    model, data = make_vae(), tfvae.data.shuffled_batches(images, 6)
    model.compile("adam")
    model.late = keras.layers.Dense(2, name="late")
    with pytest.raises(InvalidArgument, match="The layer 'late' has no weights yet"):
        model.fit(data, callbacks=[Resume(tmp_path)], verbose=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["array", "mapped", "shuffled"])
def test_data_that_cannot_go_on_at_a_batch_is_refused_with_what_can(kind, tmp_path):
    x = np.round(X)
    data = {
        "array": x,
        "mapped": shuffled_batches(x, 4).map(lambda batch: batch),
        "shuffled": shuffled_batches(x, 4).shuffle(3),
    }[kind]
    with pytest.raises(InvalidArgument, match=r"cannot go on within a .*shuffled_batches\(x, bat"):
        begin_anew("vae")[0].fit(data, verbose=0, callbacks=[Resume(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_epoch": 3}, "steps_per_epoch=3, but an epoch of this data has 7 batches"),
        ({"initial_epoch": 1}, "initial_epoch=1, but the training goes on after batch 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(2), Resume(tmp_path, ALWAYS))
    model, data = begin_anew("vae")
    with pytest.raises(InvalidArgument, match=message):
        model.fit(data, epochs=3, verbose=0, callbacks=[Resume(tmp_path)], **options)


class Says(keras.callbacks.Callback):
    """Says what the validation loss is, and keeps the averages and the weights of every epoch."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.averages, self.weights = losses, [], []

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]
        self.averages.append([np.asarray(a) for a in averages_of(self.model)])
        self.weights.append(self.model.get_weights())


def averages_of(model):
    return getattr(model.optimizer, "_model_variables_moving_average", [])


@pytest.fixture
def averaging(make_vae):
    model = make_vae()
    optimizer = tfvae.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, run_eagerly=True)  # quicker than to trace a few steps
    return model


class TestEarlyStopping:
    LOSSES = (3.0, 1.0, 2.0, 4.0, 0.0)
    OPTIONS = {"monitor": "val_loss", "patience": 2, "restore_best_weights": True}

    def test_the_average_of_the_best_epoch_is_restored(self, averaging, images):
        says = Says(self.LOSSES)
        stop = tfvae.callbacks.EarlyStopping(**self.OPTIONS)
        history = averaging.fit(images, epochs=5, callbacks=[says, stop], verbose=0)
        assert len(history.epoch) == 4
        for weight, best, last in zip(
            averaging.trainable_variables, says.averages[1], says.averages[3], strict=True
        ):
            np.testing.assert_array_equal(weight, best)
            assert np.any(best != last)
        for one, other in zip(averages_of(averaging), says.averages[1], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_without_an_average_it_is_that_of_keras(self, make_vae, images):
        says, model = Says(self.LOSSES), make_vae()
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        stop = tfvae.callbacks.EarlyStopping(**self.OPTIONS)
        model.fit(images, epochs=5, callbacks=[says, stop], verbose=0)
        for weight, best in zip(model.get_weights(), says.weights[1], strict=True):
            np.testing.assert_array_equal(weight, best)

    def test_a_training_that_is_killed_restores_the_same(self, make_vae, tmp_path):
        def fit(folder, *dies):
            model = make_vae()
            optimizer = tfvae.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
            model.compile(optimizer, run_eagerly=True)  # quicker than to trace it
            stop = tfvae.callbacks.EarlyStopping(**self.OPTIONS)
            data = shuffled_batches(np.round(X[:4]), 4)  # one batch
            hooks = [Says(self.LOSSES), stop, *dies, Resume(folder, ALWAYS)]
            model.fit(data, epochs=5, callbacks=hooks, verbose=0)
            return model.get_weights()

        whole = fit(tmp_path / "whole")
        with pytest.raises(Killed):
            fit(tmp_path / "killed", Dies(2))
        for one, other in zip(fit(tmp_path / "killed"), whole, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_what_would_lose_the_best_weights_is_refused(self, averaging, images):
        for stop, more, message in (
            (keras.callbacks.EarlyStopping, [], r"Use tfvae.callbacks.EarlyStopping, which"),
            (
                tfvae.callbacks.EarlyStopping,
                [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
                r"Use keras.callbacks.SwapEMAWeights\(\), which validates",
            ),
        ):
            with pytest.raises(InvalidArgument, match=message):
                averaging.fit(images, callbacks=[*more, stop(**self.OPTIONS)], verbose=0)
        assert averaging.steps_made == 0


def test_what_is_no_number_of_minutes_is_refused(tmp_path):
    for minutes in (0, -1.0, float("nan")):
        with pytest.raises(InvalidArgument, match="expected a number above 0"):
            Resume(tmp_path, minutes)


def test_other_data_or_another_model_is_refused_and_nothing_changed(tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(5), Resume(tmp_path, ALWAYS))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidArgument, match=r"batch_size 4, seed 2; .*batch_size 5, seed 2"):
        fit("vae", Resume(tmp_path), data=Examples(X, resample=True).batches(5, seed=2))
    with pytest.raises(InvalidFile, match="of another model"):
        fit("vqvae", Resume(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.pop("callbacks"),
        lambda tree: tree["variables"].pop("averages"),
        lambda tree: tree["variables"].update(model=[1.5] * len(tree["variables"]["model"])),
        lambda tree: tree.update(callbacks=[{"class": "History", "state": 3}]),
        lambda tree: tree.update(compiled=3),
        lambda tree: tree.update(learning_rate="0.1"),
    ],
)
def test_a_whole_checkpoint_of_something_else_is_refused(change, tmp_path):
    with pytest.raises(Killed):
        fit("vae", Dies(3), Resume(tmp_path, ALWAYS))
    resume = Resume(tmp_path)
    position, tree = resume.checkpoints.load()
    change(tree)
    resume.checkpoints.save(position, tree)
    with pytest.raises(InvalidFile, match=f"in {tmp_path} hold something else"):
        fit("vae", resume)


def test_a_callback_of_ones_own_is_given_back_what_it_knew(tmp_path):
    class Counts(keras.callbacks.Callback):
        batches = 0

        def get_state(self):
            return {"batches": self.batches, "table": np.full(2, self.batches)}

        def set_state(self, state):
            self.batches = state["batches"]
            np.testing.assert_array_equal(state["table"], [self.batches] * 2)

        def on_epoch_end(self, epoch, logs=None):
            self.batches += 10

    with pytest.raises(Killed):
        fit("vae", Counts(), Dies(BATCHES + 2 + 3), Resume(tmp_path, ALWAYS))
    counts = Counts()
    fit("vae", counts, Resume(tmp_path))
    assert counts.batches == 10 * EPOCHS


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(3, [(1, 0), (3, 4), (6, 1), (8, 0)]), (10, [(1, 0), (4, 0), (7, 0), (8, 0)])],
)
def test_checkpoints_come_when_their_time_has_passed(minutes, expected, tmp_path, monkeypatch):
    """A batch takes 10 s, and a checkpoint 1 s: half a percent of the 200 s before its epoch ends.

    The first one costs nothing, as far as is known.
    """
    clock, saved = types.SimpleNamespace(now=0.0), []
    clock.monotonic = lambda: clock.now

    def passes(seconds):
        clock.now += seconds

    def save(position, tree):
        saved.append(position)
        passes(1)

    monkeypatch.setattr("tfvae.callbacks.resume.time", clock)
    resume = Resume(tmp_path, minutes)
    monkeypatch.setattr(resume.checkpoints, "save", save)
    batch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: passes(10))
    model, data = begin_anew("vae")
    model.fit(data, epochs=8, callbacks=[batch, resume], verbose=0)
    assert saved == expected


@pytest.mark.parametrize(
    ("kind", "arguments", "known"),
    [
        ("History", [], {"epoch": [0, 1], "history": {"loss": [2.0, 1.0]}}),
        (
            "EarlyStopping",
            ["loss"],
            {"wait": 2, "stopped_epoch": 5, "best": 0.5, "best_epoch": 3, "best_weights": [1.0]},
        ),
        ("ReduceLROnPlateau", ["loss"], {"wait": 2, "best": 0.5, "cooldown_counter": 3}),
        (
            "ModelCheckpoint",
            ["x.weights.h5", "loss", 0, True, True],
            {"best": 0.5, "_batches_seen_since_last_saving": 3, "_last_batch_seen": 4},
        ),
        ("TensorBoard", ["logs"], {"_global_train_batch": 7, "_global_test_batch": 2}),
        ("SwapEMAWeights", [], {"_ema_weights_in_model": True}),
    ],
)
def test_what_callbacks_of_keras_know_is_kept(kind, arguments, known):
    one, other = (getattr(keras.callbacks, kind)(*arguments) for _ in range(2))
    vars(one).update(known)
    callback_states.restore_states([other], callback_states.states_of([one]))
    assert {name: getattr(other, name) for name in known} == known
