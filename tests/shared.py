"""What several test files share: seeds, tiny models, and a model whose log p(x) is known."""

import contextlib
import gc
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from eager import without_graphs
from tensorflow.python import pywrap_tfe

import tfvae
from tfvae.ondevice import flatfile
from tfvae.runs import callbacks, pictures
from tfvae.tools.main import main

# TensorFlow's own objects stay, and graphs make many: looking through all of them for garbage as
# often as Python does by default takes a tenth of the time of the suite.
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# TensorFlow forgets the kernel of every operation whenever a seed is set, so that eager operations
# that count their own draws begin anew. There are none of these here, and each test sets a seed: to
# make the kernels again takes a fifth of the time of the suite.
pywrap_tfe.TFE_ContextClearCaches = lambda context: None


def pytest_configure(config):
    """Run graphs as they are traced: most run twice, and to rewrite one takes longer than that.

    It is a sixth of the time of the suite. Users run graphs that Grappler has rewritten, and so do
    the tests with `--grappler`.
    """
    rewritten = config.getoption("grappler")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not rewritten})


@pytest.fixture(autouse=True, scope="module")
def _collected():
    """Give back what the graphs and models of a file took: they hold each other in cycles."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _same_start():
    """Start every test from one seed, and leave no precision policy behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def eagerly():
    """Make no graphs."""
    with without_graphs():
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Have runs draw no pictures, which take a second."""
    monkeypatch.setattr(pictures, "draw", lambda *_: None)


@pytest.fixture
def quickly(eagerly, no_pictures):
    """Take the few steps of a run without a graph, and draw no pictures of it."""


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def images():
    """Twelve binary images of 4×4 pixels."""
    pixels = np.random.default_rng(1).integers(0, 2, (12, 4, 4, 1)).astype(np.float32)
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="session")
def make_vae():
    """Return a function that builds a tiny VAE; the same arguments give the same weights."""

    def build(likelihood="bernoulli", x_shape=(4, 4, 1), latents=2, **options):
        keras.utils.set_random_seed(1)
        likelihood = tfvae.likelihoods.REGISTRY.get(likelihood)
        params_shape = (*x_shape[:-1], likelihood.params_size(x_shape[-1]))
        encoder = tfvae.networks.dense_encoder(x_shape, 2 * latents, hidden=(8,))
        decoder = tfvae.networks.dense_decoder(latents, params_shape, hidden=(8,))
        return tfvae.VAE(encoder, decoder, likelihood=likelihood, **options)

    return build


@pytest.fixture(scope="session")
def device_model(make_vae):
    """A tiny VAE whose images and latents differ from example to example."""
    model = make_vae()
    rng = np.random.default_rng(0)
    model.set_weights([w if w.ndim == 0 else rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="session")
def device_content(device_model, tmp_path_factory):
    """The bytes of the `.tflite` of `device_model`."""
    path = tmp_path_factory.mktemp("device") / "decoder.tflite"
    tfvae.export.litert(device_model, path)
    return path.read_bytes()


@pytest.fixture(scope="session")
def edited():
    """Return a function that gives a `.tflite` after `change(model, schema)` has changed its tree.

    A description in it keeps the digest of before; `flatfile.sealed` puts that right.
    """

    def edit(content, change):
        model, schema = flatfile.parse(content)
        change(model, schema)
        return flatfile.pack(model)

    return edit


@pytest.fixture(scope="session")
def foreign_content():
    """The bytes of a `.tflite` of another program: y = x + 1 for any number of rows of three."""

    class Successor(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, "x")], autograph=False)
        def next(self, x):
            return {"y": x + 1.0}

    module = Successor()
    functions = [module.next.get_concrete_function()]
    return tf.lite.TFLiteConverter.from_concrete_functions(functions, module).convert()


@pytest.fixture(scope="session")
def assert_mean():
    """Return a check that draws, along axis 0, have an expected mean within 4 standard errors."""

    def check(draws, expected):
        draws = np.asarray(draws, np.float64)
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        off = np.abs(draws.mean(axis=0) - expected)
        assert np.all(off <= 4 * error + 1e-7), f"off by {np.max(off / error):.1f} standard errors"

    return check


@pytest.fixture
def interrupted_after(monkeypatch):
    """Return a context in which the user presses Ctrl-C after so many epochs of a training.

    The history then has the row of the last epoch, but there is no checkpoint of it.
    """

    @contextlib.contextmanager
    def pressing(epochs):
        on_epoch_end = callbacks.History.on_epoch_end

        def interrupted(self, epoch, logs=None):
            on_epoch_end(self, epoch, logs)
            if epoch + 1 == epochs:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(callbacks.History, "on_epoch_end", interrupted)
            yield

    return pressing


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in this process: (status, out, err).

    The current folder is an empty one.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tfvae", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def run_python():
    """Return a function that runs a script in a fresh interpreter and gives what it printed."""

    def run(script, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class LinearGaussian:
    """x = W z + b + s·ε, z ~ N(0, I): log p(x), p(z|x) and the ELBO are known in closed form.

    The columns of W are orthogonal, so p(z|x) is a diagonal normal, and the VAE can hold it.
    """

    scale = 0.7

    def __init__(self, x_size=5, latents=2):
        rng = np.random.default_rng(3)
        orthogonal, _ = np.linalg.qr(rng.normal(size=(x_size, latents)))
        self.w = orthogonal * np.linspace(1.5, 0.6, latents)
        self.b = rng.normal(size=x_size)
        self.variance = 1.0 / (1.0 + np.sum(self.w**2, axis=0) / self.scale**2)
        z = rng.normal(size=(4, latents))
        self.x = (z @ self.w.T + self.b + self.scale * rng.normal(size=(4, x_size))).astype("f4")

    def log_p(self, x):
        covariance = self.w @ self.w.T + self.scale**2 * np.eye(len(self.b))
        return scipy.stats.multivariate_normal(self.b, covariance).logpdf(x)

    def vae(self, encoder="arbitrary", **options):
        """Return the VAE whose encoder is the true "posterior" p(z|x), or an "arbitrary" one.

        The arbitrary one is wider than the true posterior, so that the weights have a variance.
        """
        to_mean = self.w * self.variance / self.scale**2
        raw = np.log(np.expm1(np.sqrt(self.variance) - 1e-6)) - np.log(np.e - 1)
        kernel = np.concatenate([to_mean, np.zeros_like(to_mean)], axis=1)
        bias = np.concatenate([-self.b @ to_mean, raw])
        if encoder == "arbitrary":
            rng = np.random.default_rng(4)
            kernel = kernel + 0.05 * rng.normal(size=kernel.shape)
            bias = bias + np.array([0.3, -0.3, 0.5, 0.3])
        return tfvae.VAE(
            _affine(kernel, bias),
            _affine(self.w.T, self.b),
            likelihood=tfvae.likelihoods.Normal(scale=self.scale),
            **options,
        )

    def q(self, model, x):
        """Return the mean and the standard deviation of the model's q(z|x), by NumPy."""
        kernel, bias = model.encoder.get_weights()
        mean, raw = np.split(x.astype(np.float64) @ kernel + bias, 2, axis=-1)
        return mean, np.log1p(np.exp(raw + np.log(np.e - 1))) + 1e-6

    def expected_log_likelihood(self, mean, sigma, x):
        """Return E_q[log p(x|z)]."""
        residual = x - self.b - mean @ self.w.T
        squares = np.sum(residual**2, -1) + np.sum(sigma**2 * np.sum(self.w**2, axis=0), -1)
        log_normalizer = 0.5 * len(self.b) * np.log(2 * np.pi * self.scale**2)
        return -0.5 * squares / self.scale**2 - log_normalizer

    @staticmethod
    def kl(mean, sigma):
        """Return KL(q‖p)."""
        return 0.5 * np.sum(mean**2 + sigma**2 - 1 - 2 * np.log(sigma), axis=-1)


def _affine(kernel, bias):
    network = keras.Sequential([keras.Input((kernel.shape[0],)), keras.layers.Dense(len(bias))])
    network.set_weights([kernel, bias])
    return network


@pytest.fixture(scope="session")
def linear_gaussian():
    return LinearGaussian()


@pytest.fixture(params=["eager", "graph", "xla"])
def mode(request):
    """A way to run a function of tensors: as it is, in a graph, or compiled by XLA."""
    return {
        "eager": lambda function: function,
        "graph": lambda function: tf.function(function, autograph=False),
        "xla": lambda function: tf.function(function, jit_compile=True, autograph=False),
    }[request.param]
