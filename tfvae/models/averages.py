from tfvae.training import Averages  # noqa
