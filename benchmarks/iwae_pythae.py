"""The IWAE beside pythae's: time of an importance-sampled log p(x), and test NLL at equal time.

    pip install -e '.[benchmark]'
    python benchmarks/iwae_pythae.py evaluation
    python benchmarks/iwae_pythae.py training --data-dir DATA --seconds 600

Both have the network 784-200-200-50, tanh, Bernoulli likelihood, float32. Each program is a process
of its own. "evaluation" copies one set of random weights into both, times pythae's `get_nll` and
`tfvae.log_likelihood`, and prints both values, which must agree. "training" trains each for the
same time on binarized MNIST with k = 50, batches of 20 and a learning rate of 1e-3 (pythae's model
in a plain loop with fused Adam, which is faster than its trainer; tfvae by `fit`, with the other
settings of the recipe iwae-mnist), and measures both with `tfvae.log_likelihood`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

K, BATCH_SIZE, NUM_SAMPLES = 50, 20, 5000


def pythae_model():
    import torch
    from pythae.models import IWAE, IWAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from torch import nn

    def mlp(n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, n_out)
        )

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = mlp(784, 100)

        def forward(self, x):
            mean, log_covariance = self.net(x.reshape(len(x), 784)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_covariance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = mlp(50, 784)

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z)).reshape(-1, 1, 28, 28))

    torch.manual_seed(0)
    config = IWAEConfig(
        input_dim=(1, 28, 28), latent_dim=50, reconstruction_loss="bce", number_samples=K
    )
    return IWAE(config, Encoder(), Decoder())


def save_pythae(model, path):
    layers = [
        m for net in (model.encoder.net, model.decoder.net) for m in net if hasattr(m, "weight")
    ]
    arrays = [a for m in layers for a in (m.weight.detach().numpy().T, m.bias.detach().numpy())]
    np.savez(path, *arrays)


def tfvae_model(path=None):
    """Return the same network; with a path, pythae's weights and its parameterization of q."""
    import tfvae

    model = tfvae.VAE(
        tfvae.networks.dense_encoder((28, 28, 1), 100),
        tfvae.networks.dense_decoder(50, (28, 28, 1)),
        posterior=tfvae.posteriors.DiagonalNormal("exp_half" if path else "softplus"),
    )
    if path:
        arrays = list(np.load(path).values())
        model.encoder.set_weights(arrays[:6])
        model.decoder.set_weights(arrays[6:])
    return model


def images(count):
    return (np.random.default_rng(0).random((count, 28, 28, 1)) < 0.13).astype(np.float32)


def evaluate_pythae(options):
    import torch

    model = pythae_model()
    save_pythae(model, options.weights)
    x = torch.tensor(images(options.num_examples)).reshape(-1, 1, 28, 28)
    with torch.no_grad():
        model.get_nll(x[:1], NUM_SAMPLES)
        start = time.perf_counter()
        nll = model.get_nll(x, NUM_SAMPLES)
    # What `get_nll` returns is the log-likelihood, with its sign.
    return {"ms": 1e3 * (time.perf_counter() - start) / len(x), "nll": -float(nll)}


def evaluate_tfvae(options):
    import tfvae

    model = tfvae_model(options.weights)
    # Ten times the images, since a batch of them is what is fast.
    x = images(10 * options.num_examples)
    tfvae.log_likelihood(model, x[:20], num_samples=NUM_SAMPLES, progress=False)
    start = time.perf_counter()
    result = tfvae.log_likelihood(model, x, num_samples=NUM_SAMPLES, progress=False)
    milliseconds = 1e3 * (time.perf_counter() - start) / len(x)
    return {"ms": milliseconds, "nll": -float(result.per_example[: options.num_examples].mean())}


def load_data(options):
    import tfvae

    return tfvae.data.load("binarized_mnist", options.data_dir)


def train_pythae(options):
    import torch
    from pythae.data.datasets import DatasetOutput

    x = torch.tensor(load_data(options).train.numpy()).reshape(-1, 1, 28, 28)
    model = pythae_model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    start, steps = time.perf_counter(), 0
    while True:
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            model(DatasetOutput(data=x[index])).loss.backward()
            optimizer.step()
            steps += 1
            if time.perf_counter() - start > options.seconds:
                save_pythae(model, options.weights)
                return {"steps": steps}


class TimeIsUp(Exception):
    """Ends `fit`; Keras would take a StopIteration for the end of the data."""


def train_tfvae(options):
    import keras

    from tfvae import recipes
    from tfvae.runs import build_model

    splits = load_data(options)
    config = recipes.load("iwae-mnist").override(
        {"training.schedule": "constant", "data.data_dir": options.data_dir}
    )
    model = build_model(config, splits)
    start = time.perf_counter()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if time.perf_counter() - start > options.seconds:
                raise TimeIsUp

    try:
        model.fit(splits.train.batches(BATCH_SIZE), epochs=10**9, verbose=0, callbacks=[Stop()])
    except TimeIsUp:
        model.save(options.weights)
    return {"steps": int(model.step)}


def measure(options):
    import keras

    import tfvae

    model = (
        tfvae_model(options.weights)
        if options.weights.endswith(".npz")
        else keras.saving.load_model(options.weights)
    )
    x = load_data(options).test.numpy()[: options.num_examples]
    result = tfvae.log_likelihood(model, x, num_samples=NUM_SAMPLES, progress=False)
    return {"nll": -result.mean, "standard_error": result.standard_error}


PROGRAMS = {
    f.__name__: f for f in (evaluate_pythae, evaluate_tfvae, train_pythae, train_tfvae, measure)
}


def run(program, options, weights):
    command = [sys.executable, __file__, options.what, "--program", program, "--weights", weights]
    for name in ("data_dir", "seconds", "num_examples"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def evaluation(options, folder):
    weights = str(folder / "weights.npz")
    rounds = [
        (run("evaluate_pythae", options, weights), run("evaluate_tfvae", options, weights))
        for _ in range(options.rounds)
    ]
    for number, (theirs, ours) in enumerate(rounds, 1):
        print(
            f"round {number}: pythae {theirs['ms']:.1f} ms per image, NLL {theirs['nll']:.3f}; "
            f"tfvae {ours['ms']:.1f} ms, NLL {ours['nll']:.3f}; "
            f"ratio {theirs['ms'] / ours['ms']:.2f}"
        )
    ratio = statistics.median(theirs["ms"] / ours["ms"] for theirs, ours in rounds)
    print(f"median ratio {ratio:.2f}, {NUM_SAMPLES} samples per image")


def training(options, folder):
    for name, file in (("pythae", "weights.npz"), ("tfvae", "model.keras")):
        weights = str(folder / file)
        steps = run(f"train_{name}", options, weights)["steps"]
        result = run("measure", options, weights)
        print(
            f"{name}: {steps} steps in {options.seconds:g} s, test NLL {result['nll']:.2f} ± "
            f"{result['standard_error']:.2f} nats ({options.num_examples} images)",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("evaluation", "training"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--num-examples", type=int, help="default 40, or 2000 after training")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.num_examples = (
        options.num_examples or {"evaluation": 40, "training": 2000}[options.what]
    )
    if options.program:
        print(json.dumps(PROGRAMS[options.program](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        {"evaluation": evaluation, "training": training}[options.what](options, Path(folder))


if __name__ == "__main__":
    main()
