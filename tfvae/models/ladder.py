"""The ladder variational autoencoder: q and p share a top-down pass."""

import keras
import tensorflow as tf

from tfvae import likelihoods, posteriors, priors
from tfvae._plain.checks import choice
from tfvae.conditions import Condition
from tfvae.distributions import tfd
from tfvae.distributions.factory import independent, softplus_scale
from tfvae.distributions.latents import NormalLatent
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer
from tfvae.models.joined_latents import joined_shape
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.models.vae import check_prior, given_prior
from tfvae.networks import wiring
from tfvae.networks.ladder import FORMS
from tfvae.posteriors import Posterior


@keras.saving.register_keras_serializable("tfvae")
class LadderVAE(LatentVariableModel):
    """A VAE with Gaussian layers z_L, …, z_1, which q draws from the top down, as p does.

    p(x, z) = p(x|d_0) p(z_L) Π_{l<L} p(z_l|d_l),  q(z|x) = q(z_L|h_L) Π_{l<L} q(z_l|h_l, d_l),
    with features h_1, …, h_L of x from the bottom up and a shared state d_{l−1} = f_l(z_l, d_l)
    from the top down, which sees every z above. The inference network of layer l gives Δμ and
    ρ > 0, or μ̂ and σ̂:

    - "residual": q(z_l|…) = N(μ_p + Δμ, (σ_p ρ)²), which starts near p (Vahdat and Kautz 2020,
      "NVAE", sec. 3.2);
    - "precision": q(z_l|…) is the product of N(μ̂, σ̂²), which sees h_l alone, and p(z_l|d_l),
      normalized (Sønderby et al. 2016, "Ladder variational autoencoders", eq. 17 to 19).

    At the top both are N(μ̂, σ̂²). The KL of every layer is known in closed form given the layers
    above, so all may have free bits; without them or a warm-up of β, upper layers tend to switch
    off. Latents may be vectors or grids. A latent as one tensor is z_1, …, z_L, flattened and
    joined. `tfvae.networks.dense_ladder` and `residual_ladder` give the four kinds of networks.

    With a condition y every distribution is given it: q(z_l|x, y, z_>l), p(z_l|z_>l, y), p(x|z, y).
    Each network that has one more input than said below gets c(y) `[B, C]` there, on the way up and
    on the way down, and so does a prior that takes it.

    Source: Sønderby et al. 2016; Maaløe et al. 2019, "BIVA"; Child 2021, "Very deep VAEs".

    Args:
        encoder: Keras model x → [h_1, …, h_L].
        inference: L Keras models that give the parameters of q(z_l|…), z_1's first, each 2 times
            the latent's channels on the last axis. In the form "residual" the model of z_l, l < L,
            takes [h_l, d_l]; in the form "precision" it takes h_l. That of z_L takes h_L.
        generation: L − 1 Keras models, d_l → parameters of p(z_l|d_l), z_1's first.
        top_down: L Keras models: z_L → d_{L−1}, and [z_l, d_l] → d_{l−1}; the first, of z_1, gives
            the likelihood's parameters.
        prior: p(z_L), by name or as a `tfvae.priors.Prior`; a `VampPrior` is the mixture of
            q(z_L|u).
        likelihood: as in `VAE`.
        form: "residual" or "precision".
        seed: with the step, decides all noise.
        condition: as in `VAE`.

    Raises:
        InvalidArgument: numbers of networks or shapes that do not fit each other, or a condition
            that no part takes.
    """

    def __init__(
        self,
        encoder: keras.Model,
        inference: list[keras.Model],
        generation: list[keras.Model],
        top_down: list[keras.Model],
        *,
        prior: str | priors.Prior = "standard_normal",
        likelihood: str | likelihoods.Likelihood = "bernoulli",
        form: str = "residual",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        count = len(inference)
        super().__init__(num_layers=count, seed=seed, condition=condition, **kwargs)
        if count == 0 or len(top_down) != count or len(generation) != count - 1:
            raise InvalidArgument(
                f"There are {count} inference, {len(generation)} generation and {len(top_down)} "
                "top-down networks; expected L, L − 1 and L of them for L stochastic layers."
            )
        self.encoder = encoder
        self.inference_networks = tuple(inference)
        self.generation_networks = tuple(generation)
        self.top_down_networks = tuple(top_down)
        self.form = choice("form", form, FORMS)
        self.posteriors = tuple(posteriors.DiagonalNormal() for _ in range(count))
        self.prior = priors.get(prior)
        check_prior(self.prior, self.posteriors[-1])
        self.likelihood = likelihoods.get(likelihood)
        if encoder.built and getattr(encoder, "input_shape", None) is not None:
            self.build(wiring.shape_beside_condition(encoder, self.condition))

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = wiring.example_shape(input_shape, "encoder")
        inputs = wiring.beside_condition(self.encoder, self.x_shape, self.condition)
        self._h_shapes = wiring.output_shapes(self.encoder, inputs, "encoder")
        count = len(self.inference_networks)
        if len(self._h_shapes) != count:
            raise InvalidArgument(
                f"The encoder has {len(self._h_shapes)} outputs; expected one for each of the "
                f"{count} stochastic layers, that of z1 first."
            )
        shapes, states = [None] * count, [None] * count  # of z_l and of d_l
        for number in reversed(range(count)):
            inputs = self._inference_inputs(number, states[number])
            self._check_form(number, inputs)
            inputs = self._with_condition(self._i(number), inputs)
            role = f"inference network of z{number + 1}"
            family = self.posteriors[number]
            shapes[number] = wiring.connect(self._i(number), inputs, family, role)
            if number < count - 1:
                self._check_p(number, states[number], shapes[number])
            inputs = shapes[number]
            if states[number] is not None:
                inputs = [shapes[number], states[number]]
            network = self.top_down_networks[number]
            inputs = self._with_condition(network, inputs)
            if number:
                role = f"top-down network of z{number + 1}"
                states[number - 1] = wiring.connect_inputs(network, inputs, role)
            else:
                wiring.connect_decoder(network, inputs, self.likelihood, self.x_shape)
        self.layer_shapes, self._d_shapes = tuple(shapes), tuple(states)
        self.finish_build(self.x_shape)

    def _i(self, number):
        return self.inference_networks[number]

    def _inference_inputs(self, number, state):
        """Return the shapes of the inputs of the inference network of a layer."""
        alone = state is None or self.form == "precision"
        return self._h_shapes[number] if alone else [self._h_shapes[number], state]

    def _check_form(self, number, inputs):
        """Refuse an inference network with the number of inputs of another form."""
        found = len(getattr(self._i(number), "inputs", None) or ())
        expected = len(inputs) if isinstance(inputs, list) else 1
        if not found or found in (expected, expected + (self.condition is not None)):
            return
        name, s = f"h_{number + 1}", "" if found == 1 else "s"
        seen = name if expected == 1 else f"{name} and d_{number + 1}"
        condition = "" if self.condition is None else ", and one more if it takes the condition"
        raise InvalidArgument(
            f"The inference network of z{number + 1} has {found} input{s}; expected {expected}, "
            f"{seen}, in the form {self.form!r}{condition}. Make the networks and the model with "
            f"form={self.form!r}, or the model with the form of the networks."
        )

    def _with_condition(self, network, inputs):
        """Return the shapes of all inputs of a network, given those of its values."""
        return wiring.beside_condition(network, inputs, self.condition)

    def _check_p(self, number, state, shape):
        role = f"generation network of z{number + 1}"
        network, family = self.generation_networks[number], self.posteriors[number]
        found = wiring.connect(network, self._with_condition(network, state), family, role)
        if found != shape:
            raise InvalidArgument(
                f"The {role} describes latents of shape {found}, but the inference network gives "
                f"{shape}. Expected an output of shape "
                f"{(*shape[:-1], family.params_size(shape[-1]))}."
            )

    @property
    def posterior_of_layer(self) -> tuple[Posterior, ...]:
        """The family of each stochastic layer, independent normals."""
        return self.posteriors

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of all layers, flattened and joined; of one layer, its own."""
        return joined_shape(self.layer_shapes)

    @property
    def generative_parts(self) -> tuple[keras.layers.Layer, ...]:
        """What p(x, z) is made of."""
        return (
            *self.generation_networks,
            *self.top_down_networks,
            self.prior,
            self.likelihood,
        )

    def parts_given_condition(self):
        """As in `GenerativeModel`; q_l is made of all that p has above it, p(x|z) of every z."""
        count = len(self.layer_shapes)
        from_above = [1 + (number < count - 1) for number in range(count)]  # z_l, and d_l if any
        inputs = from_above if self.form == "residual" else [1] * count
        encodes = wiring.takes_condition(self.encoder)
        infers = any(map(wiring.takes_condition, self.inference_networks, inputs))
        generates = any(map(wiring.takes_condition, self.generation_networks))
        descends = list(map(wiring.takes_condition, self.top_down_networks, from_above))
        return {
            "encode": encodes or infers or generates or any(descends[1:]),
            "decode": any(descends),
            "sample": any(descends) or generates or self.prior.takes_condition,
        }

    def bottom_up(self, x, training=False, condition=None):
        """Return the features h_1, …, h_L of x."""
        features = wiring.apply_given(self.encoder, x, self.x_shape, condition, training)
        return features if isinstance(features, (list, tuple)) else [features]

    def infer(self, h, draw, training=False, condition=None):
        """Draw z_L, …, z_1 from q, and return them with the parameters of p(x|z)."""
        return self._descend(draw, training, condition, h)

    def generate(self, draw, training=False, condition=None):
        """Draw z_L, …, z_1 from p."""
        return self._descend(draw, training, condition)

    def _descend(self, draw, training, condition, h=None):
        layers, state = [], None
        given = {"condition": condition, "training": training}
        for number in reversed(range(len(self.layer_shapes))):
            p = self._p(number, state, **given)
            if h is None:
                layers.insert(0, StochasticLayer(p, draw(number, p)))
            else:
                q = self._q(number, p, h[number], state, **given)
                z, log_q = draw(number, q)
                layers.insert(0, StochasticLayer(p, z, q, log_q))
            state = self._next_state(number, layers[0].z, state, **given)
        return tuple(layers), state

    def _p(self, number, state, condition, training):
        """Return p(z_l|d_l); at the top, the prior."""
        if state is None:
            top = [self.encoder, self.inference_networks[-1]]
            return given_prior(self.prior, self._q_top(training), top, training, condition)
        network, shape = self.generation_networks[number], self._d_shapes[number]
        params = wiring.apply_given(network, state, shape, condition, training)
        return self.posteriors[number](params, len(state.shape) - len(shape))

    def _q(self, number, p, h, state, condition, training):
        """Return q(z_l|h_l, d_l), given p(z_l|d_l)."""
        values, shapes = h, self._h_shapes[number]
        if state is not None and self.form == "residual":
            values, shapes = [h, state], [shapes, self._d_shapes[number]]
        params = wiring.apply_given(self._i(number), values, shapes, condition, training)
        batch_ndims = len(params.shape) - len(self.layer_shapes[number])
        if state is None:
            return self.posteriors[number](params, batch_ndims)
        loc, raw = tf.split(tf.cast(params, tf.float32), 2, axis=-1)
        combine = residual if self.form == "residual" else precision_weighted
        batch_ndims = len(state.shape) - len(self._d_shapes[number])
        loc, scale = combine(loc, softplus_scale(raw), p.distribution)
        return independent(NormalLatent(loc, scale, batch_ndims), batch_ndims)

    def _q_top(self, training):
        """Return the function x → q(z_L|x), for a prior that is made of it."""
        top = len(self.layer_shapes) - 1

        def q_z_given_x(x):
            h = self.bottom_up(x, training)[top]
            return self._q(top, None, h, None, condition=None, training=training)

        return q_z_given_x

    def _next_state(self, number, z, state, condition, training):
        """Return d_{l−1} = f_l(z_l, d_l); of z_1, the parameters of p(x|z)."""
        values, shapes = z, self.layer_shapes[number]
        if state is not None:
            values, shapes = [z, state], [shapes, self._d_shapes[number]]
        network = self.top_down_networks[number]
        return wiring.apply_given(network, values, shapes, condition, training)

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = {**super().get_config(), "form": self.form}
        parts = {
            "encoder": self.encoder,
            "inference": list(self.inference_networks),
            "generation": list(self.generation_networks),
            "top_down": list(self.top_down_networks),
            "prior": self.prior,
            "likelihood": self.likelihood,
        }
        return config | {k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}


def residual(delta, ratio, p: tfd.Normal) -> tuple[tf.Tensor, tf.Tensor]:
    """Return μ and σ of N(μ_p + Δμ, (σ_p ρ)²) (Vahdat and Kautz 2020, sec. 3.2)."""
    return p.loc + delta, p.scale * ratio


def precision_weighted(loc, scale, p: tfd.Normal) -> tuple[tf.Tensor, tf.Tensor]:
    """Return μ and σ of the product of N(μ̂, σ̂²) and p (Sønderby et al. 2016, eq. 17 to 19)."""
    ours, theirs = scale**-2, p.scale**-2
    variance = 1.0 / (ours + theirs)
    return (loc * ours + p.loc * theirs) * variance, tf.sqrt(variance)
