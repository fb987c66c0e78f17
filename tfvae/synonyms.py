"""Names that the literature and other libraries use for parts with another name here.

They are suggested where a name is not known, and never taken for it: a name has one meaning.
"""

_GAUSSIANS = ("gaussian", "gaussiandiag", "diaggaussian", "diagonalgaussian", "diagnormal")
# {kind of part: {name elsewhere, in letters and digits alone: name here, and what else to set}}.
SYNONYMS = {
    "posterior": {
        **dict.fromkeys(
            (*_GAUSSIANS, "normal", "multivariatenormaldiag", "standardnormal"), "diagonal_normal"
        ),
        **dict.fromkeys(("binary", "sigmoid", "bits"), "bernoulli"),
        **dict.fromkeys(("onehot", "softmax", "discrete"), "categorical"),
        **dict.fromkeys(("fullcovariance", "multivariatenormaltril", "mvn", "tril"), "full_normal"),
        **dict.fromkeys(("realnvp", "normalizingflow", "nf"), "flow"),
        "inverseautoregressive": "iaf",
        "gumbelsoftmax": "categorical, with the estimator 'gumbel_softmax'",
        "concrete": "categorical, with the estimator 'gumbel_softmax'",
    },
    "prior": {
        **dict.fromkeys(
            (*_GAUSSIANS, "normal", "isotropicgaussian", "unitgaussian"), "standard_normal"
        ),
        **dict.fromkeys(("binary", "sigmoid", "bits"), "bernoulli"),
        **dict.fromkeys(("onehot", "softmax", "uniform"), "categorical"),
        **dict.fromkeys(("realnvp", "normalizingflow", "nf", "coupling"), "flow"),
        **dict.fromkeys(("vampprior", "pseudoinputs"), "vamp"),
        **dict.fromkeys(("gmm", "mog", "mixtureofgaussians"), "mixture"),
        **dict.fromkeys(("maf", "maskedautoregressive"), "autoregressive"),
    },
    "flow": {
        **dict.fromkeys(("realnvp", "coupling", "affine", "glow"), "affine_coupling"),
        **dict.fromkeys(("nsf", "rqs", "spline", "neuralspline"), "spline_coupling"),
        "maf": "masked_autoregressive",
        "iaf": "inverse_autoregressive",
    },
    "likelihood": {
        **dict.fromkeys((*_GAUSSIANS, "diagonalnormal", "standardnormal"), "normal"),
        **dict.fromkeys(
            ("mse", "l2", "meansquarederror", "squarederror"),
            "normal, whose −log p(x) is the squared error over 2·scale², and a constant",
        ),
        **dict.fromkeys(("bce", "binarycrossentropy", "binary", "sigmoid", "logits"), "bernoulli"),
        **dict.fromkeys(
            ("crossentropy", "categoricalcrossentropy", "sparsecategoricalcrossentropy", "softmax"),
            "categorical",
        ),
        **dict.fromkeys(
            ("dmol", "mol", "logistic", "logisticmixture", "discretizedlogistic"),
            "discretized_logistic_mixture",
        ),
    },
    "objective": {
        **dict.fromkeys(("vae", "vlb", "sgvb", "variational", "negativeelbo", "nll"), "elbo"),
        **dict.fromkeys(
            ("betavae", "betaelbo", "beta"),
            "elbo, with `beta=` in `compile`, `training.beta` in a configuration",
        ),
        "freebits": "elbo, with `free_bits=` in `compile`, `training.free_bits` in a configuration",
        **dict.fromkeys(
            ("mse", "l2", "meansquarederror"),
            "elbo; that the error is a squared one is said by the model's likelihood, 'normal'",
        ),
        **dict.fromkeys(
            ("bce", "binarycrossentropy"),
            "elbo; that pixels are binary is said by the model's likelihood, 'bernoulli'",
        ),
        **dict.fromkeys(("importanceweighted", "iwelbo", "iw"), "iwae"),
        **dict.fromkeys(("alpha", "alphadivergence", "vr", "vralpha"), "renyi"),
        **{name: f"iwae, with the estimator {name!r}" for name in ("vimco", "dreg")},
        "reinforce": "elbo, with the estimator 'score_function'",
    },
    "estimator": {
        **dict.fromkeys(
            ("reinforce", "likelihoodratio", "policygradient", "score", "logderivative"),
            "score_function",
        ),
        **dict.fromkeys(
            ("reparameterization", "reparametrization", "reparam", "rsample", "sgvb", "vae"),
            "pathwise",
        ),
        "stl": "sticking_the_landing",
        **dict.fromkeys(("loo", "leaveoneout", "reinforceloo"), "rloo"),
        **dict.fromkeys(("baseline", "emabaseline"), "moving_average"),
        **dict.fromkeys(("gumbel", "concrete"), "gumbel_softmax"),
        **dict.fromkeys(("ste", "st"), "straight_through"),
        **dict.fromkeys(("arm", "armestimator"), "disarm"),
        **dict.fromkeys(("enumeration", "enumerate", "marginalize"), "exact"),
        "iwae": "pathwise, with the objective 'iwae'",
    },
    "quantizer": {
        **dict.fromkeys(("vqvae", "vector", "vectorquantizer", "nearest"), "vq"),
        **dict.fromkeys(("vqema", "vectorquantizerema", "kmeans"), "ema"),
        **dict.fromkeys(("rvq", "residualvq", "rq"), "residual"),
        **dict.fromkeys(("pq", "productquantizer", "grouped"), "product"),
        "finitescalar": "fsq",
        "lookupfree": "lfq",
        **dict.fromkeys(("gumbelsoftmax", "dvae"), "gumbel"),
    },
    "code prior": {
        **dict.fromkeys(("gpt", "autoregressive", "attention"), "transformer"),
        **dict.fromkeys(("gatedpixelcnn", "pixelsnail"), "pixelcnn"),
        **dict.fromkeys(("independent", "histogram"), "categorical"),
    },
    "model.family": {
        "betavae": "vae, with `training.beta`",
        "iwae": 'vae, with `training.objective = "iwae"`',
        "sbn": 'vae, with `model.posterior = "bernoulli"`',
        "hierarchical": "vae, with `model.upper_latent_sizes`",
    },
    "recipe": {
        "betavae": "vae-mnist, with --set training.beta=4",
        **dict.fromkeys(("vae", "mnist"), "vae-mnist"),
        "iwae": "iwae-mnist",
        "vqvae": "vqvae-mnist",
        "digits": "vae-digits",
        "cifar10": "vqvae-cifar10",
    },
    "setting": {
        "traininglr": "training.learning_rate",
        **dict.fromkeys(
            ("trainingepsilon", "trainingweightdecay", "trainingclipnorm", "trainingmomentum"),
            "training.optimizer_options, such as {epsilon = 1e-7}",
        ),
        **dict.fromkeys(("modellatentdim", "modellatents", "modelzdim"), "model.latent_size"),
        "modelbeta": "training.beta",
        **dict.fromkeys(("trainingk", "trainingsamples"), "training.num_samples"),
        "modelobjective": "training.objective",
        "modelestimator": "training.estimator",
    },
}
