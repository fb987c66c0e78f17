"""What every training loop shares: its settings, checks of its data, and the mean of its loss."""

from tfvae.training.batch import unpack
from tfvae.training.data import arguments
from tfvae.training.own_loss import COMPILE_OPTIONS, OwnLoss
from tfvae.training.steps import Loss

__all__ = ["COMPILE_OPTIONS", "Loss", "OwnLoss", "arguments", "unpack"]
