"""The variational autoencoder with several stochastic layers."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import distributions, networks, priors
from tfvae.distributions import Chain
from tfvae.errors import InvalidArgument
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.models.vae import check_prior

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfvae")
class HierarchicalVAE(LatentVariableModel):
    """A VAE with stochastic layers z_1, …, z_L, each given its neighbour.

    p(x, z) = p(x|z_1) p(z_1|z_2) … p(z_{L−1}|z_L) p(z_L),
    q(z|x) = q(z_1|x) q(z_2|z_1) … q(z_L|z_{L−1}).

    A latent is z_1, …, z_L flattened and joined, `[B, D_1 + … + D_L]`; of it `decode` reads z_1.
    With Bernoulli layers this is a sigmoid belief network. KL(q‖p) has no closed form: it is
    sampled. E[z|x], what `encode` gives, is taken layer by layer, each at the mean of the one
    before.

    Source: Burda et al. 2016, "Importance weighted autoencoders", sec. 2 and 5 (two layers);
    Mnih and Gregor 2014, "Neural variational inference and learning in belief networks", sec. 4.

    Args:
        encoders: Keras models from the bottom up: x → parameters of q(z_1|x), then z_l →
            parameters of q(z_{l+1}|z_l).
        decoders: Keras models from the bottom up: z_1 → parameters of p(x|z_1), then z_{l+1} →
            parameters of p(z_l|z_{l+1}). All but the first run in inference mode.
        prior: of the top layer, a `tfvae.priors.Prior` or its name; by default the one that fits.
        posteriors: the family of every layer, or a list of one for each: "diagonal_normal",
            "bernoulli", "categorical" or a `tfvae.distributions.Factory`. p(z_l|z_{l+1}) is of the
            family of q(z_l|…).
        likelihood: as in `VAE`.
        seed: with the step, decides all noise.

    Raises:
        InvalidArgument: numbers of networks or shapes that do not fit each other.
    """

    def __init__(
        self,
        encoders: list[keras.Model],
        decoders: list[keras.Model],
        prior=None,
        posteriors="diagonal_normal",
        likelihood="bernoulli",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        count = len(encoders)
        if not isinstance(posteriors, (list, tuple)):
            posteriors = [posteriors] * count
        if count == 0 or len(decoders) != count or len(posteriors) != count:
            raise InvalidArgument(
                f"There are {count} encoders, {len(decoders)} decoders and {len(posteriors)} "
                "posteriors; expected one of each for every stochastic layer."
            )
        self.encoders = list(encoders)
        self.decoder = decoders[0]
        self.posteriors = tuple(distributions.POSTERIORS.get(p) for p in posteriors)
        top = priors.get(priors.default(self.posteriors[-1].kind) if prior is None else prior)
        check_prior(top, self.posteriors[-1])
        self.prior = priors.HierarchicalPrior(top, decoders[1:], self.posteriors[:-1])
        self.likelihood = distributions.LIKELIHOODS.get(likelihood)
        if encoders[0].built and getattr(encoders[0], "input_shape", None) is not None:
            self.build(encoders[0].input_shape)

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = networks.example_shape(input_shape, "encoder")
        shapes = [self.x_shape]
        for number, (encoder, posterior) in enumerate(
            zip(self.encoders, self.posteriors, strict=True), start=1
        ):
            role = f"encoder of z{number}"
            shapes.append(networks.connect(encoder, shapes[-1], posterior, role))
        self._layer_shapes = tuple(shapes[1:])
        networks.connect_decoder(self.decoder, shapes[1], self.likelihood, self.x_shape)
        if not self.prior.built:
            self.prior.build(self.layer_shapes)
        self.built = True
        if self.estimator is not None:
            self.estimator.prepare(self)

    @property
    def latent_kinds(self) -> tuple[str, ...]:
        """The kind of each stochastic layer, from the bottom up."""
        return tuple(posterior.kind for posterior in self.posteriors)

    @property
    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each stochastic layer, from the bottom up."""
        return self._layer_shapes

    @property
    def latent_shape(self) -> tuple[int]:
        """The shape of all layers, flattened and joined."""
        return (sum(map(math.prod, self.layer_shapes)),)

    def q_z_given_x(self, x: tf.Tensor, training: bool = False) -> Chain:
        """Return q(z|x), batch shape `[B]`; its layers are drawn from the bottom up."""
        first, *upper = (
            networks.conditional(encoder, posterior, shape, training)
            for encoder, posterior, shape in zip(
                self.encoders, self.posteriors, (self.x_shape, *self.layer_shapes[:-1]), strict=True
            )
        )
        return Chain(first(x), upper, self.layer_shapes)

    def p_x_given_z(self, z: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return p(x|z_1), with the leading axes of z as its batch: `[B]` or `[K, B]`."""
        shape = self.layer_shapes[0]
        given = networks.conditional(self.decoder, self.likelihood, shape, training)
        return given(self._lowest(z))

    def x_parameters(self, z: tf.Tensor) -> tf.Tensor:
        """Return the parameters of p(x|z_1), as `likelihood` takes them, for z `[B, D]`."""
        return self.decoder(self._lowest(z))

    def _lowest(self, z):
        shape = self.layer_shapes[0]
        lowest = z[..., : math.prod(shape)]
        if len(shape) > 1:
            lowest = tf.reshape(lowest, tf.concat([tf.shape(z)[:-1], shape], 0))
        return lowest

    def exact_kl(self, q):
        """Refuse: the KL between chains has no closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("KL(q‖p) of several stochastic layers has no closed form.")

    def has_exact_kl(self) -> bool:
        """Whether KL(q(z|x)‖p(z)) is known in closed form: no."""
        return False

    def get_config(self):
        """Return the constructor arguments, serialized."""
        parts = {
            "encoders": list(self.encoders),
            "decoders": [self.decoder, *self.prior.decoders],
            "prior": self.prior.top,
            "posteriors": list(self.posteriors),
            "likelihood": self.likelihood,
        }
        config = {"name": self.name, "seed": self.seed}
        return config | {k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}
