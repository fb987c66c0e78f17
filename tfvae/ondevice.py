"""Decoding on a device: LiteRT and NumPy, never TensorFlow.

A `.tflite` file written by `tfvae.export.litert` describes itself, so a `Decoder` needs no other
file.
"""

import json
import math
import time
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, MissingDependency

METADATA_NAME = b"tfvae"
FILE_IDENTIFIER = b"TFL3"
FORMAT_VERSION = 1  # of the description; more keys do not change it
_MAX_BATCH = 256


class Decoder:
    """A decoder on LiteRT. Not thread-safe: make one for each thread.

    A file holds a model with latents, which `decode` takes, or one with codes, which
    `decode_codes` takes.

    Args:
        content: the bytes of a `.tflite` file that `tfvae.export.litert` wrote.
        num_threads: threads of the interpreter.
        name: what to call the content in error messages.

    Attributes:
        description: what the file says of itself.
        image_shape: shape of one image.
        latent_shape: shape of the latents of one image; None in a file with codes.
        code_shape: shape of the codes of one image; None in a file with latents.
        codebook_size: K; codes are from 0 to K − 1. None in a file with latents.
        num_classes: how many labels `sample` chooses from; 0 if it takes none.

    Raises:
        InvalidFile: the content is not such a file, or is damaged.
    """

    def __init__(self, content: bytes, num_threads: int = 1, name: str = "the model"):
        self._name = name
        self.description = read_description(content, name)
        self.image_shape = tuple(self.description["image_shape"])
        self.latent_shape = _shape(self.description.get("latent_shape"))
        self.code_shape = _shape(self.description.get("code_shape"))
        self.codebook_size = self.description.get("codebook_size")
        self.num_classes = self.description.get("num_classes", 0)
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
            InvalidArgument: a file with codes.
            InvalidData: latents of another shape, not numbers, or not finite.
        """
        if self.latent_shape is None:
            raise InvalidArgument(
                f"{self._name} decodes codes of shape {self.code_shape}, not latents. Use "
                "`decode_codes`."
            )
        z = _checked(z, self.latent_shape, "latents")
        return self._in_batches("decode", "image", latents=z)

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return images `[N, *image_shape]`, the mean of p(x|codes), for codes `[N, *code_shape]`.

        Raises:
            InvalidArgument: a file with latents.
            InvalidData: codes of another shape, not integers, or not from 0 to K − 1.
        """
        if self.code_shape is None:
            raise InvalidArgument(
                f"{self._name} decodes latents of shape {self.latent_shape}, not codes. Use "
                "`decode`."
            )
        codes = _checked_codes(codes, self.code_shape, self.codebook_size)
        return self._in_batches("decode_codes", "image", codes=codes)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Return what an image is coded by, for images `[N, *image_shape]`.

        That is the mean of q(z|x), `[N, *latent_shape]` float32, or the codes of x,
        `[N, *code_shape]` int32.

        Raises:
            InvalidData: images of another shape, not numbers, or not finite.
        """
        x = _checked(x, self.image_shape, "images")
        return self._in_batches("encode", "mean" if self.code_shape is None else "codes", image=x)

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0, condition=None) -> np.ndarray:
        """Return n images `[n, *image_shape]`, those that the model draws from the same seed.

        Args:
            n: how many.
            seed: any integer.
            temperature: as in the `sample` of the model.
            condition: labels `[n]` or one label for all, where the prior has classes; else None.

        Raises:
            InvalidArgument: n is below 1, the temperature is negative or not finite, labels are
                missing or not wanted, or the file has no `sample`.
            InvalidData: labels that are not integers, out of range, or not n.
        """
        if n < 1 or not 0 <= temperature < math.inf:
            raise InvalidArgument(
                f"`sample` got n={n} and temperature={temperature}; expected n of at least 1 and a "
                "finite temperature of at least 0."
            )
        draws = {"index": np.arange(n, dtype=np.int32)}
        if self._has_classes(condition):
            draws["condition"] = _checked_labels(condition, self.num_classes, n)
        words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32).view(np.int32)
        same = {"seed": words, "temperature": np.float32(temperature)}
        return self._in_batches("sample", "image", same, **draws)

    def run(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Run one signature as it stands in the file.

        Raises:
            InvalidArgument: the file has no such signature.
            InvalidFile: the interpreter cannot run it.
        """
        if signature not in self._runners:
            reason = self.description.get("left_out", {}).get(signature)
            because = "" if reason is None else f" It was exported without, since {reason}."
            raise InvalidArgument(
                f"There is no signature {signature!r} in {self._name}; it has "
                f"{', '.join(sorted(self._runners))}.{because}"
            )
        try:
            return self._runners[signature](**inputs)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise InvalidFile(
                f"{self._name} is damaged, or does not take these inputs: LiteRT says {reason}"
            ) from None

    def decode_latency(self, batch_size: int = 1, repeats: int = 200) -> float:
        """Return the median time of decoding a batch on this machine, in milliseconds."""
        if self.code_shape is None:
            signature, shape, dtype = "decode", self.latent_shape, np.float32
        else:
            signature, shape, dtype = "decode_codes", self.code_shape, np.int32
        (name,) = self._runners[signature].get_input_details()
        inputs = {name: np.zeros((batch_size, *shape), dtype)}
        seconds = []
        for _ in range(repeats + 10):
            start = time.perf_counter()
            self.run(signature, **inputs)
            seconds.append(time.perf_counter() - start)
        return 1e3 * float(np.median(seconds[10:]))

    def _in_batches(self, signature, output, same=None, **rows):
        """Return one output for `rows`, arrays of one length, a part of them at a time."""
        count = len(next(iter(rows.values())))
        parts = []
        for start in range(0, count, _MAX_BATCH):
            batch = {name: array[start : start + _MAX_BATCH] for name, array in rows.items()}
            parts.append(self.run(signature, **batch, **(same or {}))[output])
        return np.concatenate(parts)

    def _has_classes(self, condition):
        """Whether the prior has classes; labels are needed where it has, and only there."""
        if condition is None and self.num_classes:
            raise InvalidArgument(
                f"The prior in {self._name} has {self.num_classes} classes and got no labels. "
                "Give `condition=` one label, or one for each image."
            )
        if condition is not None and not self.num_classes:
            raise InvalidArgument(
                f"The prior in {self._name} has no classes and got labels. Leave `condition` out."
            )
        return bool(self.num_classes)


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
    has_codes = "code_shape" in description
    needed = {"code_shape", "codebook_size"} if has_codes else {"latent_shape"}
    missing = (needed | {"image_shape", "format"}) - set(description)
    if missing:
        raise InvalidFile(f"The description in {name} lacks {', '.join(sorted(missing))}.")
    if description["format"] > FORMAT_VERSION:
        raise InvalidFile(
            f"{name} has a description of format {description['format']}; this version of tfvae "
            f"reads format {FORMAT_VERSION}. Update tfvae."
        )
    return description


def _shape(sizes):
    return None if sizes is None else tuple(sizes)


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


def _checked_codes(codes, shape, codebook_size):
    codes = np.asarray(codes)
    if codes.dtype.kind not in "ui" or codes.shape[1:] != shape or len(codes) == 0:
        raise InvalidData(
            f"The codes are an array of {codes.dtype} of shape {codes.shape}; this decoder "
            f"expects integers of shape {('N', *shape)}.".replace("'", "")
        )
    _check_range(codes, codebook_size, "codes")
    return codes.astype(np.int32)


def _checked_labels(labels, num_classes, count):
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui" or labels.shape not in ((), (count,)):
        raise InvalidData(
            f"The labels are an array of {labels.dtype} of shape {labels.shape}; expected one "
            f"integer, or {count}, one for each image."
        )
    _check_range(labels, num_classes, "labels")
    return np.broadcast_to(labels, (count,)).astype(np.int32)


def _check_range(values, size, what):
    # LiteRT reads no table outside its bounds, but its message would not name the range.
    if values.min() < 0 or values.max() >= size:
        raise InvalidData(
            f"The {what} are from {values.min()} to {values.max()}; expected 0 to {size - 1}. They "
            "belong to another model."
        )


def _litert():
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Decoding needs the package {error.name!r}: pip install 'tfvae[decode]'."
        ) from error
    return interpreter
