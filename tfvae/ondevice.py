"""Decoding on a device: LiteRT and NumPy, never TensorFlow.

A `.tflite` file written by `tfvae.export.litert` describes itself, so a `Decoder` needs no other
file.
"""

import json
import time
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, MissingDependency

METADATA_NAME = b"tfvae"
FILE_IDENTIFIER = b"TFL3"
_MAX_BATCH = 256


class Decoder:
    """A decoder on LiteRT. Not thread-safe: make one for each thread.

    Args:
        content: the bytes of a `.tflite` file that `tfvae.export.litert` wrote.
        num_threads: threads of the interpreter.
        name: what to call the content in error messages.

    Raises:
        InvalidFile: the content is not such a file, or is damaged.
    """

    def __init__(self, content: bytes, num_threads: int = 1, name: str = "the model"):
        self._name = name
        self.description = read_description(content, name)
        self.latent_shape = tuple(self.description["latent_shape"])
        self.image_shape = tuple(self.description["image_shape"])
        try:
            self._interpreter = _litert().Interpreter(
                model_content=content, num_threads=num_threads
            )
            signatures = self._interpreter.get_signature_list()
            self._runners = {s: self._interpreter.get_signature_runner(s) for s in signatures}
        except (ValueError, RuntimeError) as error:
            raise InvalidFile(f"{name} is damaged: LiteRT says {error}. Export it again.") from None

    @classmethod
    def from_file(cls, path: str | Path, num_threads: int = 1) -> "Decoder":
        """Return the decoder in a file.

        Raises:
            InvalidFile: the file is missing, foreign or damaged.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InvalidFile(f"Cannot read {path}: {error.strerror}.") from None
        return cls(content, num_threads, str(path))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Return images `[N, *image_shape]`, the mean of p(x|z), for latents `[N, *latent_shape]`.

        Raises:
            InvalidData: latents of another shape, not numbers, or not finite.
        """
        z = _checked(z, self.latent_shape, "latents")
        return self._in_batches(lambda part: self.run("decode", latents=part)["image"], z)

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """Return n images `[n, *image_shape]`, those that `VAE.sample` draws from the same seed.

        Raises:
            InvalidArgument: n is below 1 or the temperature is negative.
        """
        if n < 1 or not temperature >= 0:
            raise InvalidArgument(
                f"`sample` got n={n} and temperature={temperature}; expected n of at least 1 and a "
                "temperature of at least 0."
            )
        words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32).view(np.int32)
        scale = np.float32(temperature)

        def draw(index):
            return self.run("sample", seed=words, index=index, temperature=scale)["image"]

        return self._in_batches(draw, np.arange(n, dtype=np.int32))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of q(z|x), `[N, *latent_shape]`, for images `[N, *image_shape]`.

        Raises:
            InvalidData: images of another shape, not numbers, or not finite.
        """
        x = _checked(x, self.image_shape, "images")
        return self._in_batches(lambda part: self.run("encode", image=part)["mean"], x)

    def run(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Run one signature as it stands in the file.

        Raises:
            InvalidArgument: the file has no such signature.
            InvalidFile: the interpreter cannot run it.
        """
        if signature not in self._runners:
            raise InvalidArgument(
                f"There is no signature {signature!r} in the file; it has "
                f"{', '.join(sorted(self._runners))}."
            )
        try:
            return self._runners[signature](**inputs)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise InvalidFile(
                f"{self._name} is damaged, or does not take these inputs: LiteRT says {reason}"
            ) from None

    def decode_latency(self, batch_size: int = 1, repeats: int = 200) -> float:
        """Return the median time of a `decode` call on this machine, in milliseconds."""
        z = np.zeros((batch_size, *self.latent_shape), np.float32)
        seconds = []
        for _ in range(repeats + 10):
            start = time.perf_counter()
            self.run("decode", latents=z)
            seconds.append(time.perf_counter() - start)
        return 1e3 * float(np.median(seconds[10:]))

    @staticmethod
    def _in_batches(function, values):
        parts = [values[i : i + _MAX_BATCH] for i in range(0, len(values), _MAX_BATCH)]
        return np.concatenate([function(part) for part in parts])


def read_description(content: bytes, name: str = "the model") -> dict:
    """Return the description that `tfvae.export.litert` embedded.

    Raises:
        InvalidFile: the content is not a `.tflite`, is truncated, or was not written by tfvae.
    """
    if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
        raise InvalidFile(
            f"{name} is not a .tflite file. Expected a file written by `tfvae export`."
        )
    _litert()
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content)
        for i in range(model.MetadataLength()):
            if model.Metadata(i).Name() == METADATA_NAME:
                data = model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy()
                return _checked_description(json.loads(bytes(data)), name)
    except InvalidFile:
        raise
    except Exception:  # a damaged flatbuffer fails anywhere in the generated reader
        raise InvalidFile(f"{name} is damaged or truncated. Export or copy it again.") from None
    raise InvalidFile(
        f"{name} carries no tfvae description. Expected a file written by `tfvae export`."
    )


def operators(content: bytes) -> list[str]:
    """Return the names of the operators in a `.tflite`, sorted; custom ones by their own name."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    model = schema.Model.GetRootAs(content)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    found = set()
    for code in codes:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = number == schema.BuiltinOperator.CUSTOM
        found.add(code.CustomCode().decode() if custom else names[number])
    return sorted(found)


def _checked_description(description, name):
    missing = {"latent_shape", "image_shape", "format"} - set(description)
    if missing:
        raise InvalidFile(f"The description in {name} lacks {', '.join(sorted(missing))}.")
    return description


def _checked(values, shape, what):
    values = np.asarray(values)
    if values.dtype.kind not in "buif" or values.shape[1:] != shape or len(values) == 0:
        raise InvalidData(
            f"The {what} are an array of {values.dtype} of shape {values.shape}; this decoder "
            f"expects numbers of shape {('N', *shape)}.".replace("'", "")
        )
    values = values.astype(np.float32)
    if not np.all(np.isfinite(values)):
        raise InvalidData(f"The {what} hold values that are infinite or not a number.")
    return values


def _litert():
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Decoding needs the package {error.name!r}: pip install 'tfvae[decode]'."
        ) from error
    return interpreter
