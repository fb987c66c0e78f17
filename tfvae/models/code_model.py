"""The base of vector-quantized models: training, usage of the codes, the prior over them."""

import math
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae import code_priors, distribute, likelihoods
from tfvae._plain.checks import whole
from tfvae.conditions import Condition, as_argument
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning
from tfvae.models.code_usage import CodeUsage, WarnOfCollapse
from tfvae.models.generative_model import GenerativeModel
from tfvae.networks import wiring
from tfvae.quantizers import Quantized, Quantizer
from tfvae.training import arguments

_VECTORS_FOR_START = 65_536
_BATCH_FOR_START = 100


class CodeModel(GenerativeModel):
    """p(x) = Σ_codes p(x|codes) p(codes), with a deterministic encoder x → codes.

    With a condition it is p(x|y) = Σ_codes p(x|codes, y) p(codes|y): a network with one more input
    gets c(y) there, and a prior with classes gets y. Where only the prior has classes, only
    `sample` and log p need y; the networks, and their training, do not take it.

    One example costs, in nats,  −log p(x|z_q(x)) + Σ_sites quantizer's loss.  The only average is
    that over the batch, so the loss of an example is the same in any batch, and the weights of its
    terms do not depend on the sizes of image, grid or vectors.

    Subclasses give this constructor `codebooks`, the list of their quantizers, all of one codebook
    size, set `decoder` before they call `build`, and implement

    - `connect()`: build the networks for `x_shape`; return the decoder's input shape, the shape of
      the codes, and how many codes an example has of each codebook;
    - `quantized(x, training, condition)`, `lookup(codes, condition)`: see there;
    - `by_codebook(codes)`: the codes of each codebook, a list of integer tensors;
    - `vectors_to_start(index, x, condition)`: the input of the quantizer number `index` for x;
    - `parts_given_condition()`, of the networks.

    These are given c(y) `[B, C]`, and no argument `condition` where no network takes it.

    Args:
        codebooks: the quantizers.
        prior: a `tfvae.code_priors.CodePrior`; uniform if None.
        likelihood: by name, or a `tfvae.likelihoods.Likelihood`.
        seed: with the step, decides all noise of training; quantizers have seeds of their own.
        condition: what y is; see `GenerativeModel`.
    """

    _decoder_role = "decoder"
    better = GenerativeModel.better | {
        "reconstruction": "min",
        "quantization": "min",
        "perplexity": "max",
        "code_usage": "max",
        "code_bits": None,
    }
    instead_of_loss = "Choose the `likelihood` and the quantizer's `commitment_cost` instead."
    takes_condition_instead = "no condition, and a prior with `num_classes=`"

    def __init__(
        self,
        codebooks: list[Quantizer],
        *,
        prior: code_priors.CodePrior | None = None,
        likelihood: str | likelihoods.Likelihood = "normal",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        averages = ("loss", "reconstruction", "quantization")
        super().__init__(averages, seed=seed, condition=condition, **kwargs)
        self.codebooks = list(codebooks)
        self.likelihood = likelihoods.get(likelihood)
        if isinstance(self.likelihood, likelihoods.Observed):
            raise InvalidArgument(
                f"{type(self).__name__} takes no missing values: its codes stand for whole "
                "examples. Use tfvae.VAE with the likelihood Observed, or fill them in first, with "
                "tfvae.impute of such a model."
            )
        self._usage = CodeUsage()
        self.prior = code_priors.UniformCodePrior(self.codebook_size) if prior is None else prior
        self._has_default_prior = prior is None

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = wiring.example_shape(input_shape, "encoder")
        self.latent_shape, self.code_shape, sites = self.connect()
        if not self.code_shape:
            raise InvalidArgument(
                f"The encoder gives one vector of shape {self.latent_shape} for each example, so "
                "there is a single code; expected a grid of vectors, [B, ..., D]. For a grid of "
                f"one vector, end it in keras.layers.Reshape((1, {self.latent_shape[-1]}))."
            )
        shape = wiring.beside_condition(self.decoder, self.latent_shape, self._condition)
        role = self._decoder_role
        wiring.connect_decoder(self.decoder, shape, self.likelihood, self.x_shape, role)
        self._usage.start(sites, self.codebook_size)
        if self._has_default_prior:  # of the codebook size that `connect` has decided
            self.prior = code_priors.UniformCodePrior(self.codebook_size)
        self._check_prior(self.prior)
        self.check_condition_is_used()
        self.check_units_fit()
        self.built = True

    def connect(self) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
        """Build encoders and quantizers; see the class."""
        raise NotImplementedError

    def quantized(
        self, x: tf.Tensor, training: bool = False, condition: tf.Tensor | None = None
    ) -> Quantized:
        """Return the decoder's input for x, the codes of x, and the quantizers' loss.

        Args:
            x: examples, `[B, *x_shape]`.
            training: whether the networks train, and the quantizers learn from these examples.
            condition: c(y), `[B, C]`, or None.

        Returns:
            `Quantized(vectors [B, *latent_shape], codes [B, *code_shape], loss [B, ...])`.
        """
        raise NotImplementedError

    def lookup(self, codes: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Return the decoder's input for codes `[B, *code_shape]`: `[B, *latent_shape]`."""
        raise NotImplementedError

    def by_codebook(self, codes: tf.Tensor) -> list[tf.Tensor]:
        """Return the codes of each codebook."""
        raise NotImplementedError

    def vectors_to_start(
        self,
        index: int,
        x: np.ndarray | tf.Tensor,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return the input of the quantizer number `index` for x, `[B, ..., D]`."""
        raise NotImplementedError

    def compile(self, optimizer: str | keras.optimizers.Optimizer = "adam", **kwargs) -> None:
        """Set the optimizer, and Keras's `jit_compile`, `steps_per_execution`, `run_eagerly`.

        By the name "adam" the optimizer is that of `tfvae.optimizers`.

        Raises:
            InvalidArgument: `loss` or `metrics`: the loss is the model's own.
        """
        super().compile(optimizer, **kwargs)

    @property
    def codebook_size(self) -> int:
        """How many values a code takes."""
        return self.codebooks[0].codebook_size

    @property
    def code_grids(self) -> tuple[tuple[int, ...], ...]:
        """The grids that the codes of an example are made of, in their order."""
        return (self.code_shape,)

    @property
    def prior(self) -> code_priors.CodePrior:
        """The prior p(codes). Set it to one that was fitted to codes of this model."""
        return self._attached.prior

    @prior.setter
    def prior(self, prior):
        if not isinstance(prior, code_priors.CodePrior):
            raise InvalidArgument(
                f"`prior` is {prior!r}; expected a tfvae.code_priors.CodePrior. Make one by name "
                f'with code_priors.get("transformer", codebook_size={self.codebook_size}).'
            )
        if self.built:
            self._check_prior(prior)
        self._attached.hold(prior=prior)
        self._has_default_prior = False

    def __setattr__(self, name, value):
        """Set an attribute; Keras would track a prior here before the setter sees it."""
        if name == "prior":
            type(self).prior.fset(self, value)
        else:
            super().__setattr__(name, value)

    # The prior has a `fit` of its own; the training of this model does not change it.

    @property
    def trainable_variables(self):
        """What `fit` trains: networks and codebooks, not the prior."""
        return _without(self.prior.variables, super().trainable_variables)

    @property
    def trainable_weights(self):
        """As `trainable_variables`."""
        return _without(self.prior.variables, super().trainable_weights)

    @property
    def non_trainable_variables(self):
        """The weights that `fit` does not train by gradients, those of the prior included."""
        return _without(self.trainable_variables, self.variables)

    @property
    def non_trainable_weights(self):
        """As `non_trainable_variables`, without seeds."""
        return _without(self.trainable_variables, self.weights)

    @property
    def trains_without_gradients(self):
        """Whether a codebook moves by averages, or starts dead codes anew."""
        layers = [each for each in self._flatten_layers() if isinstance(each, Quantizer)]
        return any(quantizer.trainable and quantizer.tracks_usage for quantizer in layers)

    @property
    def metrics(self):
        """The averages and code usage reported by `fit` and `evaluate`.

        `loss` = `reconstruction` + `quantization`, −log p(x|z_q) and the quantizer's own terms, in
        nats per example. With the frequencies p_k of the codes of a codebook over all batches of
        the epoch together, and H = −Σ_k p_k log p_k: `perplexity`, exp(H), averaged over codebooks;
        `code_usage`, the fraction of codes that occur; `code_bits`, Σ_codebooks sites · H / ln 2,
        the bits of an example whose codes are coded one by one.
        """
        return [*super().metrics, self._usage]

    @property
    def epoch_metrics(self):
        return [*super().epoch_metrics, self._usage]

    @property
    def code_counts(self) -> tf.Tensor:
        """How often each code came up since the epoch began, `[codebooks, codebook_size]`."""
        return self._usage.counts.value

    # The condition of the networks, set by the constructor; otherwise that of the prior.

    @property
    def condition(self):
        """What y is, a `tfvae.conditions.Condition`; None if neither networks nor prior take it."""
        return self._condition or self.prior.condition

    @property
    def uses_of_condition(self):
        """Which of "encode", "decode" and "sample" depend on y."""
        return super().uses_of_condition | ({"sample"} if self.prior.condition else set())

    @property
    def trains_on_condition(self):
        """Whether `fit`, `evaluate` and `predict` need y beside x: where a network takes it."""
        return self._condition is not None

    def condition_of_prior(
        self, y: np.ndarray | tf.Tensor | int | None
    ) -> np.ndarray | tf.Tensor | int | None:
        """Return y for the prior; None if the prior has no classes."""
        return None if self.prior.condition is None else y

    def encode_condition(self, y, count):
        """Return c(y), `[count, C]`, for the networks; None where they take none.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        if self._condition is None and (y is None or self.condition is not None):
            return None
        return super().encode_condition(y, count)

    def p_x_given_vectors(
        self, vectors: tf.Tensor, training: bool = False, condition: tf.Tensor | None = None
    ) -> tfd.Distribution:
        """Return p(x|z_q), batch shape `[B]`, for vectors `[B, *latent_shape]` and c(y)."""
        return self.likelihood(self._x_params(vectors, condition, training))

    def _x_params(self, vectors, condition, training=False):
        shape = self.latent_shape
        return wiring.apply_given(self.decoder, vectors, shape, condition, training)

    def autoencode(
        self,
        x: np.ndarray | tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tuple[Quantized, tfd.Distribution]:
        """Return `quantized`, and p(x|z_q) of it, for examples and y `[B, ...]` or one for all."""
        x = tf.cast(x, tf.float32)
        c = self.encode_condition(condition, tf.shape(x)[0])
        quantized = self.quantized(x, training, **as_argument(c))
        return quantized, self.p_x_given_vectors(quantized.vectors, training, c)

    def call(self, x, training=False, condition=None):
        """Return reconstructions, the mean of p(x|z_q(x))."""
        return self.autoencode(x, training, condition)[1].mean()

    def x_parameters(
        self, codes: np.ndarray | tf.Tensor, condition: np.ndarray | tf.Tensor | int | None = None
    ) -> tf.Tensor:
        """Return the parameters of p(x|codes), as `likelihood` takes them; see `decode`."""
        c = self.encode_condition(condition, tf.shape(codes)[0])
        return self._x_params(self.lookup(codes, **as_argument(c)), c)

    def encode(
        self, x: np.ndarray | tf.Tensor, condition: np.ndarray | tf.Tensor | int | None = None
    ) -> tf.Tensor:
        """Return the codes of x, `[B, *code_shape]` int32.

        Args:
            x: examples, `[B, *x_shape]`.
            condition: y, `[B, ...]` or one for all, where networks take it.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        x = tf.cast(x, tf.float32)
        c = self.encode_condition(condition, tf.shape(x)[0])
        return self.quantized(x, **as_argument(c)).codes

    def decode(
        self, codes: np.ndarray | tf.Tensor, condition: np.ndarray | tf.Tensor | int | None = None
    ) -> tf.Tensor:
        """Return the mean of p(x|codes), `[B, *x_shape]`; images in [0, 1].

        Args:
            codes: `[B, *code_shape]`.
            condition: y, `[B, ...]` or one for all, where networks take it.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: an array of codes out of range, of another shape, or not whole numbers;
                conditions of another type or shape, or out of range.
        """
        if not tf.is_symbolic_tensor(codes):
            codes = self.check_codes(codes)
        return self.likelihood(self.x_parameters(codes, condition)).mean()

    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
        **options,
    ) -> tf.Tensor:
        """Return n images, the means of p(x|codes) for codes ~ p(codes), `[n, *x_shape]`.

        Args:
            n: how many.
            seed: any integer.
            temperature: divides the prior's logits; below 1, likelier codes.
            condition: of what to draw images, y: labels `[n]` or vectors `[n, C]`, or one for all.
            options: `top_k`, `top_p`; see `CodePrior.sample`.

        Raises:
            InvalidArgument: n is below 1, or more than memory holds, an option that the prior does
                not take, or a condition that is missing or not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        self.check_count(whole("n", n))
        y = self.check_condition(condition, n)
        given = self.condition_of_prior(y)
        with self.blaming_file():
            codes = self.prior.sample(n, seed, condition=given, temperature=temperature, **options)
            return self.decode(codes, y)

    def draw(
        self,
        seed: tf.Tensor,
        index: tf.Tensor,
        temperature: float = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return draws number `index` of the stream `seed`: codes and images.

        A function of its arguments alone, made of operators that LiteRT has; see `CodePrior.draw`.
        """
        given = self.condition_of_prior(condition)
        codes = self.prior.draw(seed, index, temperature, given)
        # An identity: LiteRT in a browser cannot return a tensor that comes directly from a loop.
        codes = tf.minimum(codes, self.codebook_size - 1)
        return codes, self.decode(codes, condition)

    def check_codes(self, codes: np.ndarray | tf.Tensor) -> np.ndarray:
        """Return codes as an int32 array, or refuse them.

        Raises:
            InvalidData: not whole numbers of `[N, *code_shape]` in [0, codebook_size); with the
                dropout of a residual quantizer, −1 at the last levels leaves these out.
        """
        codes, quantizer = np.asarray(codes), self.codebooks[0]
        expected = f"expected {quantizer.expected_codes}"
        if not np.issubdtype(codes.dtype, np.integer):
            raise InvalidData(
                f"The codes are {codes.dtype}; {expected}, as `encode` gives them. Cast whole "
                'numbers with `.astype("int32")`.'
            )
        if codes.shape[1:] != self.code_shape or not codes.ndim:
            raise InvalidData(
                f"The codes have the shape {codes.shape}; expected "
                f"[N, {', '.join(map(str, self.code_shape))}]. Give the codes of a single example "
                "an axis of its own with `codes[None]`."
            )
        if not quantizer.are_codes(codes):
            raise InvalidData(
                f"The codes are from {codes.min()} to {codes.max()}; {expected}. They belong to a "
                "model with another codebook, or are not codes."
            )
        return codes.astype(np.int32)

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        x, y, sample_weight = self.begin_step(data, training=True)
        with tf.GradientTape() as tape:
            terms, codes = self._terms(x, y, training=True)
            loss = self.total_loss(sum(terms), x, y, training=True)
            scaled_loss = self.scaled_loss(loss, sample_weight)
        self.minimize(tape, scaled_loss)
        return self._update_metrics(loss, terms, codes, sample_weight)

    def test_step(self, data):
        """Measure one batch."""
        x, y, sample_weight = self.begin_step(data)
        terms, codes = self._terms(x, y, training=False)
        loss = self.total_loss(sum(terms), x, y, training=False)
        return self._update_metrics(loss, terms, codes, sample_weight)

    def fit(self, x: Any = None, y: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """Train; see `keras.Model.fit`. y is the condition, where a network takes it.

        A codebook that starts from the data ("kmeans") does so here, once, from the encoder's
        output for up to 65,536 vectors: of examples all over an array, of the first batches of a
        dataset. A codebook of which hardly any code is used is warned about (`WarnOfCollapse`).

        Raises:
            InvalidData: as in `VAE.fit`, or too few examples to start the codebook from.
        """
        options = arguments("fit", *args, **kwargs)
        options["callbacks"] = _with_warning(options.get("callbacks"))
        if self._has_fitted_prior():
            warnings.warn(
                "The prior was fitted on the codes that this model gives now. Training changes "
                "them, and the prior stays as it is: fit it anew on `model.encode(x)` afterwards.",
                TfvaeWarning,
                stacklevel=2,
            )
        return super().fit(x, y, **options)

    def _terms(self, x, y, training):
        """Return the two terms of the loss, `[B]` each in nats, and the codes."""
        x = tf.cast(x, tf.float32)
        quantized, p_x = self.autoencode(x, training, y if self.trains_on_condition else None)
        reconstruction = -p_x.log_prob(x)
        sites = list(range(1, len(quantized.loss.shape)))
        quantization = tf.reduce_sum(quantized.loss, axis=sites)
        return (reconstruction, quantization), quantized.codes

    def _update_metrics(self, loss, terms, codes, sample_weight):
        self.update_averages(loss, terms, sample_weight)
        self._usage.update_state(self.by_codebook(codes))
        return self.get_metrics_result()

    def _check_prior(self, prior):
        if not prior.built and prior.codebook_size == self.codebook_size:
            prior.build((None, *self.code_shape))
        shape = tuple(prior.code_shape) if prior.built else "any shape"
        if (shape, prior.codebook_size) != (tuple(self.code_shape), self.codebook_size):
            raise InvalidArgument(
                f"The prior is over codes of {shape} from a codebook of {prior.codebook_size}, but "
                f"this model has codes of {tuple(self.code_shape)} from a codebook of "
                f"{self.codebook_size}. Fit a prior on `model.encode(x)` of this model."
            )
        given = self._condition
        if given and prior.condition and given.num_classes != prior.num_classes:
            classes = f"with num_classes={given.num_classes}"
            raise InvalidArgument(
                f"The prior has {prior.num_classes} classes, but the condition of this model is "
                f"{given}. Use a prior {classes if given.num_classes else 'without classes'}."
            )

    def _has_fitted_prior(self):
        uniform = isinstance(self.prior, code_priors.UniformCodePrior)
        return not uniform and int(self.prior.training_step) > 0

    def start_from_data(self, x, y):
        """Initialize the codebooks that start from data."""
        y = y if self.trains_on_condition else None
        # From the last to the first: the input of a finer codebook depends on the coarser ones.
        for index, quantizer in reversed(list(enumerate(self.codebooks))):
            if not quantizer.needs_data:
                continue
            vectors, count = [], 0
            most = math.ceil(_VECTORS_FOR_START / self._usage.sites[index])
            for batch, given in _batches(x, y, most):
                given = given if self.trains_on_condition else None
                c = self.encode_condition(given, tf.shape(batch)[0])
                batch = tf.cast(batch, tf.float32)
                part = self.vectors_to_start(index, batch, **as_argument(c))
                vectors.append(tf.reshape(tf.cast(part, tf.float32), [-1, part.shape[-1]]).numpy())
                count += len(vectors[-1])
                if count >= _VECTORS_FOR_START:
                    break
            quantizer.initialize(np.concatenate(vectors)[:_VECTORS_FOR_START])
            # The sums of k-means are rounded differently on different machines.
            floats = [v for v in quantizer.variables if v.dtype.startswith("float")]
            distribute.take_from_chief(self.distribute_strategy, floats)


def build_quantizer(quantizer: Quantizer, vectors_shape, role: str) -> None:
    """Build a quantizer for vectors of a shape.

    Raises:
        InvalidArgument: they are not of its `embedding_dim`.
    """
    if vectors_shape[-1] != quantizer.embedding_dim:
        raise InvalidArgument(
            f"The {role} gives vectors of {vectors_shape[-1]} numbers, the last axis of "
            f"{vectors_shape}, but the quantizer takes {quantizer.embedding_dim}. End the {role} "
            f"in {quantizer.embedding_dim} channels, or change the quantizer."
        )
    if not quantizer.built:
        quantizer.build((None, *vectors_shape))


def _without(removed, variables):
    removed = {id(variable) for variable in removed}
    return [variable for variable in variables if id(variable) not in removed]


def _with_warning(callbacks):
    """Return callbacks, however they are given, with a warning of collapse among them."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if any(isinstance(callback, WarnOfCollapse) for callback in callbacks):
        return list(callbacks)
    # First, so that no other callback resets the counts before it sees them.
    return [WarnOfCollapse(), *callbacks]


def _batches(x, y, count):
    """Yield batches, and the conditions beside them if there are any.

    The batches hold up to `count` examples, spread over a whole array, or all those of a dataset.
    """
    if isinstance(x, tf.data.Dataset):
        for batch in x:
            yield keras.utils.unpack_x_y_sample_weight(batch)[:2]
        return
    if not isinstance(x, (np.ndarray, tf.Tensor)):
        raise InvalidArgument(
            f"A codebook that starts from the data got {type(x).__name__}; expected an array or a "
            "tf.data.Dataset. Give `fit` one of these, or call the quantizer's `initialize` first."
        )
    step = math.ceil(len(x) / count)
    chosen, beside = np.asarray(x)[::step], None if y is None else np.asarray(y)[::step]
    for start in range(0, len(chosen), _BATCH_FOR_START):
        rows = slice(start, start + _BATCH_FOR_START)
        yield chosen[rows], None if beside is None else beside[rows]
