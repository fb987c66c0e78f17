"""What `fit` does with its callbacks: their directions, their averages and their order."""

import contextlib
from typing import Any

import keras

from tfvae import inputs
from tfvae.errors import InvalidArgument
from tfvae.optimizers import averaging


def give_directions(callbacks: Any, better: dict[str, str | None]) -> None:
    """Tell callbacks in mode "auto" whether more or less of what they monitor is better.

    Args:
        callbacks: of a `fit`, as it is given them.
        better: of each metric by name, "max", "min", or None where neither is.

    Raises:
        InvalidArgument: a callback monitors a metric of which neither is.
    """
    for callback in keras.tree.flatten(getattr(callbacks, "callbacks", callbacks)):
        monitored = getattr(callback, "monitor", None)
        if not isinstance(monitored, str) or getattr(callback, "mode", None) != "auto":
            continue
        name = monitored.removeprefix("val_")
        if name not in better:
            continue
        if better[name] is None:
            raise InvalidArgument(
                f"{type(callback).__name__} monitors {monitored!r}, but neither a high nor "
                "a low value of it is better. Choose a direction with mode='min' or "
                "mode='max', or monitor 'val_loss'."
            )
        callback.mode = better[name]


def check_averages(callbacks: Any, optimizer: keras.optimizers.Optimizer) -> None:
    """Refuse to restore the best weights where the optimizer's average would replace them.

    Args:
        callbacks: of a `fit`, as it is given them.
        optimizer: of the model.

    Raises:
        InvalidArgument: with what does restore them.
    """
    if averaging(optimizer) is None:
        return
    callbacks = keras.tree.flatten(getattr(callbacks, "callbacks", callbacks))
    restoring = [c for c in callbacks if getattr(c, "restore_best_weights", False)]
    swapping = any(getattr(callback, "swap_on_epoch", False) for callback in callbacks)
    for callback in restoring:
        if not hasattr(callback, "restores_averages"):
            raise InvalidArgument(
                f"{type(callback).__name__} would restore the best weights, and the optimizer "
                "(use_ema=True) would then put its average of the last epoch in their place. "
                "Use tfvae.callbacks.EarlyStopping, which restores the average of the best "
                "epoch, and keras.callbacks.SwapEMAWeights() to validate it."
            )
        if swapping:
            raise InvalidArgument(
                f"SwapEMAWeights(swap_on_epoch=True) leaves the averages in the model where "
                f"{type(callback).__name__} looks for them in the optimizer. Use "
                "keras.callbacks.SwapEMAWeights(), which validates the averages as well."
            )


def arranged(callbacks: Any, model, x: Any, stack: contextlib.ExitStack) -> Any:
    """Return the callbacks and those that the data needs, in the order of Keras's calls.

    A callback with the method `around_fit`, a context manager, is entered here and comes last,
    because it saves the state of the others.
    """
    starts = [inputs.EpochStarts(x)] if hasattr(x, "start_at") else []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:0] = starts
        return callbacks
    callbacks = [*starts, *keras.tree.flatten(callbacks or [])]
    around = [callback for callback in callbacks if hasattr(callback, "around_fit")]
    if around:
        if not any(isinstance(each, keras.callbacks.History) for each in callbacks):
            callbacks.append(keras.callbacks.History())
        callbacks = [*(each for each in callbacks if each not in around), *around]
        for callback in around:
            stack.enter_context(callback.around_fit(model, x, callbacks))
    return callbacks
