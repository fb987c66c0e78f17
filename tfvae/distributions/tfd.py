"""The names of TensorFlow Probability that tfvae uses; no other module imports it."""

import tensorflow_probability as tfp

Bernoulli = tfp.distributions.Bernoulli
Beta = tfp.distributions.Beta
ContinuousBernoulli = tfp.distributions.ContinuousBernoulli
Distribution = tfp.distributions.Distribution
Independent = tfp.distributions.Independent
LogNormal = tfp.distributions.LogNormal
NegativeBinomial = tfp.distributions.NegativeBinomial
Normal = tfp.distributions.Normal
Poisson = tfp.distributions.Poisson
StudentT = tfp.distributions.StudentT
TruncatedNormal = tfp.distributions.TruncatedNormal
VonMises = tfp.distributions.VonMises

FULLY_REPARAMETERIZED = tfp.distributions.FULLY_REPARAMETERIZED
NOT_REPARAMETERIZED = tfp.distributions.NOT_REPARAMETERIZED
RegisterKL = tfp.distributions.RegisterKL

sanitize_seed = tfp.random.sanitize_seed
split_seed = tfp.random.split_seed
