"""The states of other callbacks, as a checkpoint keeps them."""

from collections.abc import Iterable

import keras

# What callbacks of Keras know that they could not know anew.
_KNOWLEDGE = {
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}


def states_of(callbacks: Iterable[keras.callbacks.Callback]) -> list[dict]:
    """Return the states of the callbacks that have one, each with the name of its class.

    A state is what `get_state()` returns, or what a callback of Keras knows.
    """
    return [
        {"class": type(callback).__name__, "state": state}
        for callback in callbacks
        if (state := _state(callback)) is not None
    ]


def restore_states(callbacks: Iterable[keras.callbacks.Callback], states: list[dict]) -> None:
    """Restore the state of each callback from that of the same class and number."""
    waiting = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        found = next((entry for entry in waiting if entry["class"] == name), None)
        if found is None:
            continue
        waiting.remove(found)
        if hasattr(callback, "set_state"):
            callback.set_state(found["state"])
        else:
            vars(callback).update(found["state"])


def _state(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    for kind, names in _KNOWLEDGE.items():
        if isinstance(callback, kind):
            return {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return None
