"""Names of parts that tfvae does not bring."""

import pytest

from tfvae import recipes
from tfvae.config import Config
from tfvae.config.names import check_names
from tfvae.errors import InvalidArgument

OF_CODES = {"model.family": "vqvae", "model.network": "residual"}


@pytest.mark.parametrize(
    ("setting", "name", "closest"),
    [
        ("training.objective", "beta_vae", "'elbo', with"),
        ("training.estimator", "reinforce", "'score_function'"),
        ("model.posterior", "gaussian", "'diagonal_normal'"),
        ("model.prior", "gaussian", "'standard_normal'"),
        ("model.likelihood", "mse", "'normal'"),
        ("model.quantizer", "rvq", "'residual'"),
        ("code_prior.name", "gpt", "'transformer'"),
    ],
)
def test_a_name_of_no_part_is_refused(setting, name, closest):
    config = Config().override({setting: name, **(OF_CODES if "quantizer" in setting else {})})
    with pytest.raises(InvalidArgument, match=f"{name!r}. Did you mean {closest}"):
        check_names(config)


@pytest.mark.parametrize("name", recipes.names())
def test_the_parts_of_a_recipe_are_known(name):
    check_names(recipes.load(name))
