"""The public names of tfvae and where each lives: to add one, add its line here.

Type checkers read this file; `tfvae/__init__.py` imports a name when it is first used.
"""

from tfvae.models import VAE as VAE
from tfvae.models import HierarchicalVAE as HierarchicalVAE
from tfvae.models import LadderVAE as LadderVAE
from tfvae.models import VQVAE as VQVAE
from tfvae.models import HierarchicalVQVAE as HierarchicalVQVAE
from tfvae.models import GenerativeModel as GenerativeModel
from tfvae.models import LatentVariableModel as LatentVariableModel
from tfvae.models import CodeModel as CodeModel
from tfvae.evaluation import log_likelihood as log_likelihood
from tfvae.evaluation import LogLikelihood as LogLikelihood
from tfvae.evaluation import exact_log_likelihood as exact_log_likelihood
from tfvae.evaluation import annealed_importance_sampling as annealed_importance_sampling
from tfvae.evaluation import fit_posterior as fit_posterior
from tfvae.evaluation import amortization_gap as amortization_gap
from tfvae.evaluation import mutual_information as mutual_information
from tfvae.evaluation import active_units as active_units
from tfvae.evaluation import score as score
from tfvae.evaluation import impute as impute
from tfvae.evaluation import diagnose as diagnose
from tfvae.models import fit_jointly as fit_jointly
from tfvae import bound as bound
from tfvae import callbacks as callbacks
from tfvae import checkpoints as checkpoints
from tfvae import code_priors as code_priors
from tfvae import codec as codec
from tfvae import conditions as conditions
from tfvae import config as config
from tfvae import data as data
from tfvae import distribute as distribute
from tfvae import distributions as distributions
from tfvae import errors as errors
from tfvae import estimators as estimators
from tfvae import evaluation as evaluation
from tfvae import exact as exact
from tfvae import export as export
from tfvae import flows as flows
from tfvae import hub as hub
from tfvae import joint as joint
from tfvae import likelihoods as likelihoods
from tfvae import models as models
from tfvae import networks as networks
from tfvae import objectives as objectives
from tfvae import ondevice as ondevice
from tfvae import optimizers as optimizers
from tfvae import posteriors as posteriors
from tfvae import priors as priors
from tfvae import quantizers as quantizers
from tfvae import random as random
from tfvae import recipes as recipes
from tfvae import runs as runs
from tfvae import schedules as schedules
from tfvae import sklearn as sklearn
from tfvae import sound as sound

__version__: str
