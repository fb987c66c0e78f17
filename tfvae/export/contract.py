"""The contract between the exporters and a kind of model."""

import copy
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument, TfvaeWarning, unknown_name

SINGLE = "_1"  # the end of the name of a signature for a batch of exactly one
_CALIBRATION_BATCH = 50


class Agreement(NamedTuple):
    """Whether the codes that came out of an export are those of Keras.

    Attributes:
        rows: `[B]` bool, the examples with the same codes, whose images can be compared.
        flips: how many codes differ from those of Keras by ties.
            problem: what is wrong, for an error message; None if the differences are allowed.
    """

    rows: np.ndarray
    flips: int = 0
    problem: str | None = None


class Signatures:
    """The functions of tensors that an export of a model has, by name; one subclass for each kind.

    In a model with a condition, each function that depends on it has one more input, `condition`:
    labels `[B]` int32, or vectors `[B, C]` float32.

    Args:
        model: built, and computing in float32; an export is compared with it.
        exported: the same model in the form that is written, with other layers that compute the
            same; the model itself if None.
        singles: whether each signature but `parameters` has a second version for a batch of exactly
            one, with "_1" at the end of its name. Kernels that need fixed sizes run only in these,
            and so does LiteRT in a browser.
        names: the signatures that are asked for; all if None.

    Attributes:
        functions: {signature: function}, each a `tf.function` that takes tensors by name and
            returns a dictionary of tensors. Outputs named "codes" are integers, the others float32.
        left_out: {signature: reason}, the signatures that were not asked for, that a format cannot
            take or that the model does not have. The reason completes a sentence with "since".

    Raises:
        InvalidArgument: there is no signature of such a name, or none is left.
    """

    def __init__(
        self,
        model,
        exported=None,
        singles: bool = False,
        names: Collection[str] | None = None,
    ):
        self.model = model
        self.functions = {}
        written = copy.copy(self)
        written.model = model if exported is None else exported
        defined = written.define()
        wanted = list(defined) if names is None else _checked_names(names, list(defined))
        for name in wanted:
            function, specs = defined[name]
            specs = [*specs, *([model.condition.spec] if self.depends(name) else [])]
            self.functions[name] = _traced(function, specs)
            if singles and name != "parameters":
                self.functions[name + SINGLE] = _traced(function, map(_of_one, specs))
        unwanted = [name for name in defined if name not in wanted]
        self.left_out = dict.fromkeys(unwanted, "it was not asked for")
        if "sample" in wanted:
            self._check_sample()

    def _check_sample(self):
        """Leave out `sample` if the prior has no draws that a device can repeat."""
        try:
            self.functions["sample"].get_concrete_function()
        except (InvalidArgument, NotImplementedError) as error:
            words = str(error).split(".")[0] or f"{self.model.prior.name} has no `sample`"
            reason = f"the prior cannot be drawn from by seed and number ({words})"
            self.leave_out("sample", reason)
            if not self.functions:
                raise InvalidArgument(
                    f"The export would hold no signature: there is no `sample`, since {reason}."
                ) from None
            warnings.warn(
                f"The export is without `sample`, since {reason}. The prior needs a "
                "`sample(seed, index, temperature)` of its own, made with tfvae.random.normal or "
                "uniform. Everything else is exported.",
                TfvaeWarning,
                stacklevel=2,
            )

    def define(self) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Return {signature: (function, its inputs)}, the condition not among them."""
        raise NotImplementedError

    def in_keras(self, signature: str, inputs: dict) -> dict:
        """Return the outputs of a signature by name, `{output: array}`, computed by `model`."""
        function, _ = self.define()[signature.removesuffix(SINGLE)]
        # Eagerly: the graph is what was exported.
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def depends(self, signature: str) -> bool:
        """Whether a signature has the input `condition`."""
        decodes = ("parameters", "decode", "decode_codes")
        use = "decode" if signature in decodes else signature
        return use in self.model.uses_of_condition

    def with_conditions(self, inputs: dict, y: np.ndarray | None) -> dict:
        """Add conditions to the inputs of the signatures that take them.

        Args:
            inputs: {signature: {input: array}}.
            y: conditions of the first examples of the inputs, `[N, ...]`, repeated for further
                rows. If None, labels in turn, or vectors that differ.
        """
        for name, arrays in inputs.items():
            if self.depends(name):
                rows = next(len(array) for key, array in arrays.items() if key != "seed")
                if y is None:
                    arrays["condition"] = self.model.condition.example(rows).numpy()
                else:
                    arrays["condition"] = np.resize(y, (rows, *np.shape(y)[1:]))
        return inputs

    def shapes(self) -> dict:
        """Return the shapes and sizes that a decoder needs to call the functions, as plain data."""
        raise NotImplementedError

    def example_inputs(self, x: np.ndarray | None, y: np.ndarray | None) -> dict:
        """Return {signature: {input: array}} to compare with, made from x.

        Args:
            x: held-out examples, `[N, *x_shape]`; samples of the model if None.
            y: their conditions, `[N, ...]`; see `with_conditions`.
        """
        raise NotImplementedError

    def calibration_inputs(self, x: np.ndarray | None, y: np.ndarray | None) -> dict:
        """Return {signature: {input: array}} whose values a quantized file will meet.

        Not of `sample`, which is not calibrated.

        Args:
            x: training examples, `[N, *x_shape]`; samples of the model if None.
            y: their conditions, `[N, ...]`; see `with_conditions`.
        """
        raise NotImplementedError

    def decodes(self) -> bool:
        """Whether there is the signature that makes images of latents or codes."""
        return not self.functions.keys().isdisjoint({"decode", "decode_codes"})

    def searches(self) -> tuple[str, ...]:
        """Return the names of the layers that search a table of codes."""
        return ()

    def takes_missing(self) -> bool:
        """Whether values of the examples that `encode` takes may be missing, NaN."""
        likelihood = self.model.likelihood
        return "encode" in self.functions and likelihood.complete() is not likelihood

    def mixes_parameters(self) -> bool:
        """Whether a pixel has parameters of several kinds, which have no range in common."""
        return self.model.likelihood.params_size(1) > 1

    def agreement(
        self, signature: str, inputs: dict, expected: dict, actual: dict, tolerance: float
    ) -> Agreement:
        """Compare the codes among the outputs of Keras and of an export; only asked if there are.

        Args:
            signature: its name.
            inputs: its inputs by name; so are the outputs.
            expected: what Keras gives.
            actual: what the export gives.
            tolerance: see `check_parity`.
        """
        raise NotImplementedError

    def inputs(self, x: np.ndarray | None, y: np.ndarray | None = None) -> dict:
        """Return `example_inputs` for every function, those of one example included."""
        inputs = self.example_inputs(x, y)
        for name in self.functions:
            if name.endswith(SINGLE):
                batch = name.removesuffix(SINGLE)
                inputs[name] = {
                    spec.name: inputs[batch][spec.name][:1]
                    if _has_batch(spec)
                    else inputs[batch][spec.name]
                    for spec in self.functions[batch].input_signature
                }
        return {name: inputs[name] for name in self.functions}

    def calibration(
        self, x: np.ndarray | None, y: np.ndarray | None = None
    ) -> dict[str, list[dict]]:
        """Return `calibration_inputs` in batches; one by one for the functions of one example."""
        arrays = self.calibration_inputs(x, y)
        batches = {}
        for name in self.functions:
            rows = arrays.get(name.removesuffix(SINGLE))
            if rows is not None:
                count = len(next(iter(rows.values())))
                single = name.endswith(SINGLE)
                parts = [slice(n, n + 1) for n in range(count)] if single else in_parts(count)
                batches[name] = [
                    {key: array[part] for key, array in rows.items()} for part in parts
                ]
        return batches

    def leave_out(self, signature: str, reason: str) -> None:
        """Leave out a signature, and its version for one example."""
        self.functions.pop(signature + SINGLE, None)
        del self.functions[signature]
        self.left_out[signature] = reason


def _checked_names(names, known):
    """Return the names without repetition, in the order in which they are known."""
    if isinstance(names, str) or not names:
        raise InvalidArgument(
            f"`signatures` is {names!r}; expected a list of names among {', '.join(known)}, or "
            "None for all of them."
        )
    for name in names:
        if name not in known:
            raise unknown_name("signature", name, known)
    return [name for name in known if name in names]


def _traced(function, specs: Iterable[tf.TensorSpec]):
    return tf.function(function, input_signature=list(specs), autograph=False)


def _has_batch(spec):
    return bool(spec.shape.rank) and spec.shape[0] is None


def _of_one(spec):
    shape = [1, *spec.shape[1:]] if _has_batch(spec) else spec.shape
    return tf.TensorSpec(shape, spec.dtype, spec.name)


def in_parts(count: int) -> list[slice]:
    """Return the rows of examples that calibration computes at a time."""
    return [slice(n, n + _CALIBRATION_BATCH) for n in range(0, count, _CALIBRATION_BATCH)]


def stream_specs() -> list[tf.TensorSpec]:
    """Return the inputs of every `sample`: the seed, the numbers of the draws, the temperature."""
    return [
        tf.TensorSpec((2,), tf.int32, "seed"),
        tf.TensorSpec((None,), tf.int32, "index"),
        tf.TensorSpec((), tf.float32, "temperature"),
    ]


def held_out(x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the number of held-out examples that a comparison uses, float32, and their y."""
    return np.asarray(x[:64], np.float32), None if y is None else y[:64]


def checked_condition(
    model,
    x: np.ndarray | None,
    condition: np.ndarray | int | None,
    names: tuple[str, str] = ("x", "condition"),
) -> np.ndarray | None:
    """Return y of each example that an export is given, `[N, ...]`; None where none is.

    Args:
        model: built.
        x: examples, `[N, *x_shape]`, or None.
        condition: theirs, or one for all, or None.
        names: of both arguments, for messages.

    Raises:
        InvalidArgument: a condition of a model that has none, or without examples.
        InvalidData: examples that the model does not take, or conditions that do not fit.
    """
    if x is not None:
        model.check_data(x, names[0])
        return None if condition is None else model.condition_of_each(condition, len(x))
    if condition is not None:
        raise InvalidArgument(
            f"`{names[1]}` is of the examples `{names[0]}`, and there are none. Give both."
        )
    return None
