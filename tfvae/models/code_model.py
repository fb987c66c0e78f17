"""The base of vector-quantized models: codes from x, and x from codes."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae import code_priors, likelihoods
from tfvae._plain.checks import whole
from tfvae.conditions import Condition, as_argument
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.models.code_training import CodeTraining
from tfvae.networks import wiring
from tfvae.quantizers import Quantized, Quantizer


class CodeModel(CodeTraining):
    """p(x) = Σ_codes p(x|codes) p(codes), with a deterministic encoder x → codes.

    With a condition it is p(x|y) = Σ_codes p(x|codes, y) p(codes|y): a network with one more input
    gets c(y) there, and a prior with classes gets y. Where only the prior has classes, only
    `sample` and log p need y; the networks, and their training, do not take it.

    One example costs, in nats,  −log p(x|z_q(x)) + Σ_sites quantizer's loss.  The only average is
    that over the batch, so the loss of an example is the same in any batch, and the weights of its
    terms do not depend on the sizes of image, grid or vectors.

    Subclasses give this constructor `codebooks`, their quantizers, all of one codebook
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

    def __init__(
        self,
        codebooks: Sequence[Quantizer],
        *,
        prior: code_priors.CodePrior | None = None,
        likelihood: str | likelihoods.Likelihood = "normal",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, condition=condition, **kwargs)
        self.codebooks = tuple(codebooks)
        self.likelihood = likelihoods.get(likelihood)
        if isinstance(self.likelihood, likelihoods.Observed):
            raise InvalidArgument(
                f"{type(self).__name__} takes no missing values: its codes stand for whole "
                "examples. Use tfvae.VAE with the likelihood Observed, or fill them in first, with "
                "tfvae.impute of such a model."
            )
        self.start_prior(prior)

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
        self.build_prior()
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

    @property
    def code_grids(self) -> tuple[tuple[int, ...], ...]:
        """The grids that the codes of an example are made of, in their order."""
        return (self.code_shape,)

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
        whole("n", n)
        with self.blaming_file():
            self.check_count(n, 2 * self.prior.state_bytes())
            y = self.check_condition(condition, n)
            given = self.condition_of_prior(y)
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
