"""Student's t densities."""

from tfvae._plain.checks import positive
from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.scales import WithScale


@REGISTRY.register("student_t")
class StudentT(WithScale, Likelihood):
    """x_d = μ_d + σ t, t of Student's distribution: a normal with heavy tails, for outliers.

    Args:
        df: degrees of freedom ν; the tails fall as |x|^(−ν−1).
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.
    """

    def __init__(self, df: float = 4.0, scale: float | str = "shared", **kwargs):
        super().__init__(scale, **kwargs)
        self.df = positive("df", df)
        self.unbounded = {"raw scale": (1 / 2, 1)} if scale == "learned" else {}

    def distribution(self, params, batch_ndims):
        (loc,), scale = self.split(params)
        return independent(_StudentT(self.df, loc, scale), batch_ndims)

    def get_config(self):
        return {"df": self.df} | super().get_config()


class _StudentT(tfd.StudentT):
    """Whose mean is μ for every ν: the centre, where the mean itself does not exist."""

    def _mean(self):
        return self.loc + 0.0 * self.scale
