"""The sections of a configuration: what each setting means, and its default."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `tfvae.data.load` is called with.

    An empty `data_dir` is TFDS's own default. `resize` and `crop` are [height, width], or [] for
    images as they are. `condition` names the labels or vectors that the model is given; none if
    it is empty. Data of at most `memory_gb` 10⁹ bytes is held in memory. `columns` says what the
    columns of a table are where that is not what is inferred: `{quality = "ordinal"}`. `missing`
    says that NaN in an array file is a missing value, as an empty cell of a table is.
    `standardize` gives the values of vectors and series the mean 0 and the scale 1. `full_range`
    scales integer pixels by the largest value of their type even where all are 0 or 1; a training
    without binarization sets it where some are not, for files that its model is given.
    """

    name: str = "digits"
    data_dir: str = ""
    binarization: str = "none"
    download: bool = False
    layout: str = "auto"
    kind: str = "auto"
    columns: dict = dataclasses.field(default_factory=dict)
    missing: bool = False
    standardize: bool = False
    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    condition: str = ""
    memory_gb: float = 1.0
    full_range: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks and distributions.

    `family` is "vae", "ladder", "vqvae" or "vqvae2". A VAE's `network` is "dense", with layers as
    wide as `hidden` says (none for affine maps), or "conv", with `hidden` filters and a dense layer
    of `units`, for images and series; with "auto" and an empty `hidden`, these are chosen by the
    shape of the images. "transformer" is for series and tokens, with `network_options` as in
    `tfvae.networks.transformer_encoder`. All take the `network_options` {dropout = 0.1}, say.
    There are `latent_size` latents; with the posterior "categorical" each takes
    `num_categories` values. `upper_latent_sizes` are stochastic layers above these, from the bottom
    up, and `upper_hidden` the widths of the dense layers between two of them. An empty `prior` is
    the one that fits the posterior. The three `..._options` are constructor arguments. The
    `activation` is one of Keras's, or, of dense layers, "gated".

    A "ladder" draws z_1, …, z_L from the top down, with `latent_size` and `upper_latent_sizes`
    latents in each, and `network_options` as in `tfvae.networks.dense_ladder`, or with the network
    "residual" as in `residual_ladder`, where the sizes are channels of grids.

    The families "vqvae" and "vqvae2" have the network "residual", with `network_options` as in
    `tfvae.networks.residual_encoder`, and the `quantizer` of that name with `quantizer_options`; it
    gets the `embedding_dim`, where it does not decide that itself. The network "auto" is the same,
    and chooses how often the images are halved. "vqvae2" has a second grid of codes, of half the
    height and width.
    """

    family: str = "vae"
    network: str = "dense"
    network_options: dict = dataclasses.field(default_factory=dict)
    latent_size: int = 50
    hidden: tuple[int, ...] = (200, 200)
    units: int = 256
    activation: str = "tanh"
    upper_latent_sizes: tuple[int, ...] = ()
    upper_hidden: tuple[int, ...] = ()
    posterior: str = "diagonal_normal"
    posterior_options: dict = dataclasses.field(default_factory=dict)
    num_categories: int = 0
    prior: str = ""
    prior_options: dict = dataclasses.field(default_factory=dict)
    quantizer: str = "ema"
    quantizer_options: dict = dataclasses.field(default_factory=dict)
    embedding_dim: int = 64
    likelihood: str = "bernoulli"
    likelihood_options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What `compile` and `fit` are called with.

    An empty `estimator` is the usual one of the objective; the three `..._options` are constructor
    arguments. `optimizer` is "adam", tfvae's Adam with a fused kernel, or the name of any Keras
    optimizer. `schedule` is

    - "constant";
    - "cosine", which ends at zero;
    - "iwae": `learning_rate` · 10^(−i/7) for the i-th of eight stages, i = 0, …, 7, of 3^i passes
      over the data each, 3280 in all; with fewer `epochs` all stages are shorter in proportion
      (Burda et al. 2016, sec. 5).

    The learning rate rises linearly from 0 over the first `learning_rate_warmup_steps`. With an
    `ema_momentum` m above 0, an average w̄ ← m w̄ + (1 − m) w follows the weights from step to step;
    validation is of the average, and it takes the place of the weights when training ends.

    With a `patience` above 0, training ends once the validation loss has not fallen for so many
    epochs, or after the last, and the weights are those of the epoch where it was lowest.

    A training starts from the `initial_weights` of a trained model, a run or a `.keras` file, where
    they are given, and from random ones otherwise.

    A checkpoint is kept every `checkpoint_minutes`, and of a prior over codes as well.
    """

    objective: str = "elbo"
    objective_options: dict = dataclasses.field(default_factory=dict)
    estimator: str = ""
    estimator_options: dict = dataclasses.field(default_factory=dict)
    num_samples: int = 1
    beta: float = 1.0
    kl_warmup_steps: int = 0
    kl: str = "auto"
    free_bits: float = 0.0
    epochs: int = 50
    batch_size: int = 100
    optimizer: str = "adam"
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    learning_rate: float = 1e-3
    schedule: str = "constant"
    learning_rate_warmup_steps: int = 0
    ema_momentum: float = 0.0
    patience: int = 0
    initial_weights: str = ""
    seed: int = 0
    precision: str = "float32"
    steps_per_execution: int = 20
    jit_compile: bool = False
    checkpoint_minutes: float = 5.0
    distribute: str = ""


@dataclasses.dataclass(frozen=True)
class CodePriorConfig:
    """What `tfvae train-prior` fits to the codes of a trained VQ-VAE.

    `name` is "categorical", "pixelcnn" or "transformer", `options` are its constructor arguments.
    The learning rate falls to zero by a cosine. `distribute` is as in the section "training".
    """

    name: str = "transformer"
    options: dict = dataclasses.field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    distribute: str = ""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What `log_likelihood` is called with; `num_examples` 0 means the whole test split."""

    num_samples: int = 5000
    num_examples: int = 0


DEFAULTS = {"model": ModelConfig(), "training": TrainingConfig()}
