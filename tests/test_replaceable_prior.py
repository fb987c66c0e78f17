"""The prior of a VQVAE: uniform, replaced, with classes; its weights beside those of the model."""

import warnings

import numpy as np
import pytest
from test_vqvae import LIKELIHOODS, D, K, fit, fitted_prior, learned_prior, make, networks

import tfvae
from tfvae import code_priors
from tfvae.errors import InvalidArgument, TfvaeWarning

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


def _by_name(name, built=True):
    encoder, decoder = networks(LIKELIHOODS["bernoulli"], built)
    return encoder, name, decoder


def test_without_one_all_codes_are_as_likely(images):
    model = make()
    assert isinstance(model.prior, code_priors.UniformCodePrior)
    log_p = model.prior.log_prob(model.encode(images))
    np.testing.assert_allclose(log_p, np.full(12, -4 * np.log(K)), rtol=1e-6)


def test_samples_come_from_the_one_that_is_set(images):
    model = make()
    codes = model.encode(images[:1])
    model.prior = learned_prior(model, codes)
    expected = np.repeat(model.decode(codes), 3, axis=0)
    np.testing.assert_allclose(model.sample(3, seed=1), expected, rtol=0, atol=1e-6)


def test_one_with_classes_samples_by_class(images):
    model = make()
    prior = code_priors.CategoricalCodePrior(K, num_classes=2)
    prior.build((None, 2, 2))
    codes = model.encode(images[:2]).numpy()
    assert not np.array_equal(*codes)
    prior.table.assign(30.0 * np.eye(K)[codes.reshape(2, -1)])
    model.prior = prior
    expected = model.decode(codes[[1, 0, 1]])
    sample = model.sample(3, condition=np.array([1, 0, 1]))
    np.testing.assert_allclose(sample, expected, rtol=0, atol=1e-6)
    with pytest.raises(InvalidArgument, match="a label from 0 to 1, and this call got none"):
        model.sample(3)


def test_training_the_model_leaves_it_as_it_is(images):
    model = make()
    model.compile(run_eagerly=True)
    fit(model, images)
    model.prior = fitted_prior(model, images)
    before = model.prior.table.numpy()
    assert np.any(before)
    own = {id(variable) for variable in model.prior.variables}
    for names in ("weights", "variables"):
        trained, rest = (
            {id(v) for v in getattr(model, f"{kind}_{names}")}
            for kind in ("trainable", "non_trainable")
        )
        assert not own & trained
        assert own <= rest
        assert trained | rest == {id(v) for v in getattr(model, names)}
    slots = len(model.optimizer.variables)
    with pytest.warns(TfvaeWarning, match="fit it anew"):
        fit(model, images, epochs=2)
    np.testing.assert_array_equal(model.prior.table, before)
    assert len(model.optimizer.variables) == slots


def test_training_warns_of_a_prior_fitted_before_and_of_no_other(images):
    model = make()
    model.compile(run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TfvaeWarning)
        model.fit(images, verbose=0)
        model.prior = learned_prior(model)  # never fitted
        model.fit(images, verbose=0)
    model.prior = fitted_prior(model, images)
    with pytest.warns(TfvaeWarning, match="on the codes that this model gives now") as caught:
        model.fit(images, verbose=0, epochs=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_one_for_other_codes_is_refused():
    model = make()
    for size, shape in ((K, (2, 3)), (K, (4,)), (K + 1, (2, 2))):
        prior = code_priors.CategoricalCodePrior(size)
        prior.build((None, *shape))
        message = rf"\({shape[0]},.*codebook of {size}.*codes of \(2, 2\).*codebook of {K}"
        with pytest.raises(InvalidArgument, match=message):
            model.prior = prior
    assert isinstance(model.prior, code_priors.UniformCodePrior)
    unbuilt = code_priors.CategoricalCodePrior(K + 1)
    with pytest.raises(InvalidArgument, match=f"any shape from a codebook of {K + 1}"):
        model.prior = unbuilt
    assert not unbuilt.built
    with pytest.raises(InvalidArgument, match=f"codebook of {K + 1}"):
        make(prior=unbuilt)
    for wrong in ("transformer", tfvae.priors.REGISTRY.get("standard_normal")):
        with pytest.raises(InvalidArgument, match=r"expected a tfvae\.code_priors\.CodePrior"):
            model.prior = wrong


@pytest.mark.parametrize("built", [True, False])
def test_the_uniform_one_is_over_the_codes_of_a_quantizer_by_name(built):
    """Its size is known once the encoder has said how many axes a vector has."""
    model = tfvae.VQVAE(*_by_name("lfq", built), likelihood=LIKELIHOODS["bernoulli"])
    model.build((None, 4, 4, 1))
    assert model.codebook_size == model.prior.codebook_size == 2**D
    given = code_priors.UniformCodePrior(7)
    with pytest.raises(InvalidArgument, match="codebook of 7"):
        tfvae.VQVAE(*_by_name("lfq"), likelihood=LIKELIHOODS["bernoulli"], prior=given)


def test_one_that_is_set_before_the_model_is_built_stays():
    model = tfvae.VQVAE(*_by_name("lfq", built=False), likelihood=LIKELIHOODS["bernoulli"])
    model.prior = prior = code_priors.CategoricalCodePrior(2**D)
    model.build((None, 4, 4, 1))
    assert model.prior is prior


def test_one_that_is_not_built_is_built_for_the_codes(images):
    prior = code_priors.CategoricalCodePrior(K)
    assert make(prior=prior).prior is prior
    assert prior.code_shape == (2, 2)
