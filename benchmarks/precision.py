"""What half precision is worth on this processor: a training step of recipes in both precisions.

    python benchmarks/precision.py iwae-mnist flow-mnist --data-dir PREPARED

Every measurement is a process of one thread that trains a recipe through `fit` on its first
batches, once in float32 and once with networks that compute in bfloat16 from float32 weights. The
first epoch compiles; the figure is the processor time of a step in the best of the others, so that
what else the machine does counts for little. Both take turns, and the table has medians and the
ratios of each round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import timing

PRECISIONS = ("float32", "mixed_bfloat16")
EPOCHS = 3


def time_step(recipe, precision, steps, data_dir):
    """Return the seconds of processor time that a training step takes."""
    import keras

    from tfvae import data, recipes, runs

    settings = {"training.precision": precision, "training.steps_per_execution": steps}
    if data_dir:
        settings["data.data_dir"] = data_dir
    config = recipes.load(recipe).override(settings)
    splits = runs.load_data(config)
    model = runs.build_model(config, splits)
    batch_size, seconds = config.training.batch_size, []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.process_time() - self.start)

    examples = data.Examples(splits.train.numpy(0, steps * batch_size))
    model.fit(examples.batches(batch_size), epochs=1 + EPOCHS, verbose=0, callbacks=[Clock()])
    return min(seconds[1:]) / steps


def measure(recipe, precision, options):
    """Return what `time_step` gives in a process of its own."""
    command = [sys.executable, __file__, recipe, "--steps", str(options.steps)]
    command += ["--program", precision]
    command += ["--data-dir", options.data_dir] if options.data_dir else []
    environment = os.environ | timing.ONE_THREAD
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{recipe} in {precision} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--data-dir", help="where TFDS finds prepared data")
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program:
        (recipe,) = options.recipes
        print(json.dumps(time_step(recipe, options.program, options.steps, options.data_dir)))
        return
    print("| recipe | float32 | bfloat16 | ratio |\n|---|---|---|---|")
    for recipe in options.recipes:
        rounds = [[measure(recipe, p, options) for p in PRECISIONS] for _ in range(options.rounds)]
        single, half = (1e3 * statistics.median(times) for times in zip(*rounds, strict=True))
        ratios = [a / b for a, b in rounds]
        print(
            f"| `{recipe}` | {single:.1f} ms | {half:.1f} ms | {timing.median_and_range(ratios)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
