import pytest

from tfvae import estimators, flows, likelihoods, objectives, posteriors, priors
from tfvae.errors import InvalidArgument

REGISTRIES = [
    objectives.REGISTRY,
    estimators.REGISTRY,
    flows.REGISTRY,
    posteriors.REGISTRY,
    likelihoods.REGISTRY,
    priors.REGISTRY,
]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_unknown_name_is_refused_with_the_closest_one(registry):
    for name in registry.names():
        misspelt = name[0] + name[2:]
        with pytest.raises(InvalidArgument, match=f"Did you mean '{name}'") as error:
            registry.get(misspelt)
        assert registry.kind in str(error.value)
        assert repr(misspelt) in str(error.value)


def test_a_name_like_no_other_gets_the_list_without_a_guess():
    with pytest.raises(InvalidArgument, match="Valid names: ciwae, elbo, exact, iwae") as error:
        objectives.get("qqqqqqqq")
    assert "Did you mean" not in str(error.value)


def test_options_reach_the_constructor_and_misspelt_ones_are_refused():
    assert likelihoods.REGISTRY.get("categorical", num_levels=7).num_levels == 7
    with pytest.raises(InvalidArgument, match="Did you mean 'num_levels'"):
        likelihoods.REGISTRY.get("categorical", num_level=7)


def test_an_object_is_returned_as_it_is():
    factory = likelihoods.Categorical(5)
    assert likelihoods.REGISTRY.get(factory) is factory


@pytest.mark.parametrize("identifier", [None, 3, likelihoods.Categorical])
def test_what_is_neither_a_name_nor_an_instance_is_refused(identifier):
    with pytest.raises(InvalidArgument, match="an instance, not a class"):
        likelihoods.REGISTRY.get(identifier)
