"""The states of other callbacks, as a checkpoint keeps them."""

from collections.abc import Iterable

import keras

# What callbacks of Keras know that they could not know anew.
_KNOWLEDGE = {
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
    keras.callbacks.TensorBoard: ("_global_train_batch", "_global_test_batch"),
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
        else:  # a checkpoint is a file, and may set nothing else
            known, state = _knowledge(callback), found["state"]
            vars(callback).update({name: state[name] for name in known if name in state})


def _state(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    known = _knowledge(callback)
    return {name: getattr(callback, name) for name in known if hasattr(callback, name)} or None


def _knowledge(callback):
    """Return the names of the attributes that a callback of Keras could not know anew."""
    kinds = (names for kind, names in _KNOWLEDGE.items() if isinstance(callback, kind))
    return next(kinds, ())
