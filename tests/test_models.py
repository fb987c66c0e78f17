"""What the constructors of all models have in common."""

import inspect

import pytest

import tfvae

# What data flows through, in this order, and then keywords.
NETWORKS = {
    "VAE": ["encoder", "decoder"],
    "HierarchicalVAE": ["encoders", "decoders"],
    "LadderVAE": ["encoder", "inference", "generation", "top_down"],
    "VQVAE": ["encoder", "quantizer", "decoder"],
    "HierarchicalVQVAE": ["encoders", "quantizers", "decoders"],
}
ORDER = ["prior", "posterior", "posteriors", "likelihood", "form", "seed", "condition", "kwargs"]


def constructors():
    """Return all models that are no bases, by name."""
    latents = ("BoundTraining", "LatentVariableModel")
    codes = ("ReplaceablePrior", "CodeTraining", "CodeModel")
    bases = ("GenerativeModel", *latents, *codes)
    found = {name: getattr(tfvae.models, name) for name in tfvae.models.__all__}
    return {
        name: part
        for name, part in found.items()
        if inspect.isclass(part)
        and issubclass(part, tfvae.models.GenerativeModel)
        and name not in bases
    }


def test_all_models_are_looked_at_here():
    assert set(constructors()) == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_positional_and_keywords_have_one_order(name):
    parameters = inspect.signature(constructors()[name]).parameters
    positional = [p.name for p in parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == NETWORKS[name]
    keywords = list(parameters)[len(positional) :]
    assert keywords == [each for each in ORDER if each in keywords]
    assert {"prior", "likelihood", "seed", "condition", "kwargs"} <= set(keywords)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_keyword_as_a_positional_argument_is_refused_by_name(name):
    networks = [None] * len(NETWORKS[name])
    with pytest.raises(TypeError, match=rf"{name}.__init__\(\) takes .* positional arguments"):
        constructors()[name](*networks, "bernoulli")


def test_its_layers_are_the_parts_of_a_model_and_what_it_got_later():
    def names(model):
        rows = []
        model.summary(print_fn=rows.append)
        kinds = [type(layer).__name__ for layer in model.layers]
        assert all(f"({kind})" in "\n".join(rows) for kind in kinds)
        return kinds

    encoder = tfvae.networks.dense_encoder((4, 4, 1), 2, hidden=())
    decoder = tfvae.networks.dense_decoder(2, (4, 4, 1), hidden=())
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli", prior="bernoulli")
    own = ["Sequential", "Sequential", "IndependentBernoulli", "BernoulliPrior", "Bernoulli"]
    assert names(model) == own
    model.compile("adam", estimator="rebar")
    assert names(model) == [*own, "REBAR"]
    assert model.get_layer(model.estimator.name) is model.estimator
