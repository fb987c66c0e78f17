"""The variational autoencoder with several stochastic layers."""

from collections.abc import Sequence

import keras

from tfvae import likelihoods, priors
from tfvae import posteriors as families
from tfvae.conditions import Condition
from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.joint import StochasticLayer
from tfvae.models.joined_latents import joined_shape
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.models.vae import check_prior, given_prior
from tfvae.networks import wiring
from tfvae.posteriors import Posterior

# How the weights of the networks lie in a file; see `from_config`.
_LAYOUT = "encoders, decoders"


@keras.saving.register_keras_serializable("tfvae")
class HierarchicalVAE(LatentVariableModel):
    """A VAE with stochastic layers z_1, …, z_L, each given its neighbour.

    p(x, z) = p(x|z_1) p(z_1|z_2) … p(z_{L−1}|z_L) p(z_L),
    q(z|x) = q(z_1|x) q(z_2|z_1) … q(z_L|z_{L−1}).

    A latent is z_1, …, z_L flattened and joined, `[B, D_1 + … + D_L]`; of it `decode` reads z_1.
    With Bernoulli layers this is a sigmoid belief network. q draws from the bottom up and p from
    the top down, so of the KL only the top layer's is known in closed form given the layers drawn
    before; the others are sampled.

    Source: Burda et al. 2016, "Importance weighted autoencoders", sec. 2 and 5 (two layers);
    Mnih and Gregor 2014, "Neural variational inference and learning in belief networks", sec. 4.

    Args:
        encoders: Keras models from the bottom up: x → parameters of q(z_1|x), then z_l →
            parameters of q(z_{l+1}|z_l).
        decoders: Keras models from the bottom up: z_1 → parameters of p(x|z_1), then z_{l+1} →
            parameters of p(z_l|z_{l+1}).
        prior: of the top layer, a `tfvae.priors.Prior` or its name; by default the one that fits.
        posteriors: the family of every layer, or a list of one for each: "diagonal_normal",
            "bernoulli", "categorical" or a `tfvae.posteriors.Posterior`. p(z_l|z_{l+1}) is of the
            family of q(z_l|…), with the same weights, if it has any.
        likelihood: as in `VAE`.
        seed: with the step, decides all noise.
        condition: as in `VAE`; each network of two inputs is given it, and a prior that takes it.

    Raises:
        InvalidArgument: numbers of networks or shapes that do not fit each other, or a condition
            that no part takes.
    """

    def __init__(
        self,
        encoders: list[keras.Model],
        decoders: list[keras.Model],
        *,
        prior: str | priors.Prior | None = None,
        posteriors: str | Posterior | Sequence[str | Posterior] = "diagonal_normal",
        likelihood: str | likelihoods.Likelihood = "bernoulli",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        count = len(encoders)
        super().__init__(num_layers=count, seed=seed, condition=condition, **kwargs)
        if not isinstance(posteriors, (list, tuple)):
            family = families.get(posteriors)
            # A layer's weights are its own, so each has a family object of its own.
            posteriors = [type(family).from_config(family.get_config()) for _ in range(count)]
        if count == 0 or len(decoders) != count or len(posteriors) != count:
            raise InvalidArgument(
                f"There are {count} encoders, {len(decoders)} decoders and {len(posteriors)} "
                "posteriors; expected one of each for every stochastic layer."
            )
        self.encoders = tuple(encoders)
        self.decoders = tuple(decoders)
        self.posteriors = tuple(map(families.get, posteriors))
        top = self.posteriors[-1]
        self.prior = priors.get(priors.default(top.kind) if prior is None else prior)
        check_prior(self.prior, top)
        self.likelihood = likelihoods.get(likelihood)
        if encoders[0].built and getattr(encoders[0], "input_shape", None) is not None:
            self.build(wiring.shape_beside_condition(encoders[0], self.condition))

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = wiring.example_shape(input_shape, "encoder")
        shapes = [self.x_shape]
        for number, (encoder, posterior) in enumerate(
            zip(self.encoders, self.posteriors, strict=True), start=1
        ):
            role = f"encoder of z{number}"
            inputs = wiring.beside_condition(encoder, shapes[-1], self.condition)
            shapes.append(wiring.connect(encoder, inputs, posterior, role))
        self.layer_shapes = tuple(shapes[1:])
        inputs = wiring.beside_condition(self.decoders[0], shapes[1], self.condition)
        wiring.connect_decoder(self.decoders[0], inputs, self.likelihood, self.x_shape)
        for number in range(1, len(self.decoders)):
            self._connect_upper(number)
        single = len(self.encoders) == 1
        below = self.x_shape if single else None
        self.finish_build(below)

    def _connect_upper(self, number):
        """Build the network of p(z_number|z_{number+1}), and check that it fits its layers."""
        lower, upper = self.layer_shapes[number - 1 : number + 1]
        family, role = self.posteriors[number - 1], f"decoder of z{number + 1}"
        inputs = wiring.beside_condition(self.decoders[number], upper, self.condition)
        shape = wiring.connect(self.decoders[number], inputs, family, role)
        if shape != lower:
            raise InvalidArgument(
                f"The {role} describes a z{number} of shape {shape}, but the encoder gives one of "
                f"shape {lower}. Expected a decoder output of shape "
                f"{(*lower[:-1], family.params_size(lower[-1]))}."
            )

    @property
    def posterior_of_layer(self) -> tuple[families.Posterior, ...]:
        """The family of each stochastic layer, from the bottom up."""
        return self.posteriors

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of all layers, flattened and joined; of one layer, its own."""
        return joined_shape(self.layer_shapes)

    @property
    def generative_parts(self) -> tuple[keras.layers.Layer, ...]:
        """What p(x, z) is made of."""
        return (*self.decoders, self.prior, self.likelihood)

    def parts_given_condition(self):
        """As in `GenerativeModel`; `decode` reads z_1 alone."""
        decoders = [wiring.takes_condition(decoder) for decoder in self.decoders]
        return {
            "encode": any(map(wiring.takes_condition, self.encoders)),
            "decode": decoders[0],
            "sample": any(decoders) or self.prior.takes_condition,
        }

    def bottom_up(self, x, training=False, condition=None):
        """Return the parameters of q(z_1|x), `[B, ...]`."""
        return wiring.apply_given(self.encoders[0], x, self.x_shape, condition, training)

    def infer(self, h, draw, training=False, condition=None):
        """Draw z_1 from q(z_1|x), of parameters h, then each z_{l+1} from q(z_{l+1}|z_l)."""
        q = [self.posteriors[0](h)]
        drawn = [draw(0, q[0])]
        for number in range(1, len(self.encoders)):
            conditional = wiring.conditional(
                self.encoders[number],
                self.posteriors[number],
                self.layer_shapes[number - 1],
                training,
                condition,
            )
            q.append(conditional(drawn[-1][0]))
            drawn.append(draw(number, q[-1]))
        z, log_q = zip(*drawn, strict=True)
        top = len(z) - 1
        layers = tuple(
            StochasticLayer(
                self._p_z(number, z[number + 1 :], training, condition),
                z[number],
                q[number],
                log_q[number],
                p_sees_later=number < top,
            )
            for number in range(len(z))
        )
        return layers, self._x_params(z[0], training, condition)

    def generate(self, draw, training=False, condition=None):
        """Draw z_L from p(z_L), then each z_l from p(z_l|z_{l+1})."""
        layers = []  # from the bottom up
        for number in reversed(range(len(self.decoders))):
            p = self._p_z(number, [layer.z for layer in layers], training, condition)
            layers.insert(0, StochasticLayer(p, draw(number, p)))
        return tuple(layers), self._x_params(layers[0].z, training, condition)

    def _p_z(self, number, above, training, condition):
        """Return p(z_l|z_{l+1}) of layer `number`, given the values of the layers above it."""
        if not above:
            return given_prior(
                self.prior,
                lambda x: self.posteriors[0](self.bottom_up(x, training)),
                self.encoders,
                training,
                condition,
            )
        conditional = wiring.conditional(
            self.decoders[number + 1],
            self.posteriors[number],
            self.layer_shapes[number + 1],
            training,
            condition,
        )
        return conditional(above[0])

    def _x_params(self, z, training, condition):
        shape = self.layer_shapes[0]
        return wiring.apply_given(self.decoders[0], z, shape, condition, training)

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = {**super().get_config(), "layout": _LAYOUT}
        for name in ("encoders", "decoders", "prior", "posteriors", "likelihood"):
            part = getattr(self, name)
            part = list(part) if isinstance(part, tuple) else part
            config[name] = keras.saving.serialize_keras_object(part)
        return config

    @classmethod
    def from_config(cls, config):
        """Return the model described by `get_config`.

        Raises:
            InvalidFile: the configuration is that of a development version of tfvae 0.1.0, whose
                files hold the weights of p(z) in another place.
        """
        config = dict(config)
        if config.pop("layout", None) != _LAYOUT:
            raise InvalidFile(
                "This HierarchicalVAE was written by a development version of tfvae 0.1.0, which "
                "kept the networks of p(z) in another place of the file. Load it with that "
                "version, or train the model again."
            )
        return super().from_config(config)
