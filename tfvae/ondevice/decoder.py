"""The decoder in a `.tflite` file that tfvae wrote, on LiteRT."""

import math
import os
import threading
from pathlib import Path

import numpy as np

from tfvae._plain import checks, memory
from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.ondevice import flatfile
from tfvae.ondevice.benchmark import timed
from tfvae.ondevice.checks import checked, checked_codes, checked_labels, checked_vectors
from tfvae.ondevice.signature import Signature
from tfvae.schema import Schema
from tfvae.standardization import Standardization

_MAX_BATCH = 256


class Decoder:
    """A decoder on LiteRT.

    Calls from several threads take turns, so that a decoder may be shared; to decode in parallel,
    make one for each thread.

    A file holds a model with latents, which `decode` takes, or one with codes, which
    `decode_codes` takes.

    Args:
        content: the bytes of a `.tflite` file that `tfvae.export.litert` wrote.
        name: what to call the content in error messages.
        num_threads: threads of the interpreter.

    Attributes:
        description: the description in the file.
        image_shape: shape of one example: an image, or a row, series or line of tokens.
        schema: the `tfvae.data.Schema` of the table that examples are rows of, whose `decode`
            gives its columns; None of other data.
        standardization: the `tfvae.data.Standardization` of the vectors or series that
            examples stand for, whose `restored` gives their values; None of other data.
        takes_missing: whether `encode` takes NaN, which stands for a missing value.
        num_tokens: L, where examples are lines of tokens k as levels k / (L − 1); else 0.
        latent_shape: shape of the latents of one image; None in a file with codes.
        code_shape: shape of the codes of one image; None in a file with latents.
        codebook_size: K; codes are from 0 to K − 1. None in a file with latents.
        num_classes: how many labels a condition chooses from; 0 if it is no label.
        condition_size: width of the vectors of a condition; 0 if it is none.

    Raises:
        InvalidArgument: a path in place of the content, or no number of threads.
        InvalidFile: the content is not such a file, or is damaged.
    """

    def __init__(self, content: bytes, name: str = "the model", num_threads: int = 1):
        if isinstance(content, (str, os.PathLike)):
            raise InvalidArgument(
                f"Decoder takes the bytes of a .tflite file and got the path {str(content)!r}. "
                f"For a path, call Decoder.from_file({str(content)!r})."
            )
        checks.whole("num_threads", num_threads)
        self._name = name
        self.description = flatfile.read_description(content, name)
        self.image_shape = tuple(self.description["image_shape"])
        self.schema = _of_description(Schema, "schema", self.description, name)
        self.standardization = _of_description(
            Standardization, "standardization", self.description, name
        )
        units = self.standardization
        if self.schema is not None and self.image_shape != (self.schema.size,):
            raise flatfile.damaged(name)
        if units is not None and self.image_shape[-1:] != units.mean.shape:
            raise flatfile.damaged(name)
        self.takes_missing = self.description.get("takes_missing", False)
        self.num_tokens = self.description.get("num_tokens", 0)
        self.latent_shape = _shape(self.description.get("latent_shape"))
        self.code_shape = _shape(self.description.get("code_shape"))
        self.codebook_size = self.description.get("codebook_size")
        self.num_classes = self.description.get("num_classes", 0)
        self.condition_size = self.description.get("condition_size", 0)
        self._lock = threading.Lock()
        try:
            self._interpreter = flatfile.litert_part("interpreter").Interpreter(
                model_content=content, num_threads=num_threads
            )
            signatures = self._interpreter.get_signature_list()
            self._signatures = {
                s: Signature(self._interpreter.get_signature_runner(s)) for s in signatures
            }
        except (ValueError, RuntimeError) as error:
            raise InvalidFile(f"{name} is damaged: LiteRT says {error}. Export it again.") from None

    @classmethod
    def from_file(cls, path: str | Path, num_threads: int = 1) -> "Decoder":
        """Return the decoder in a file.

        Raises:
            InvalidFile: the file is missing, foreign or damaged.
        """
        return cls(*flatfile.read(path), num_threads=num_threads)

    def decode(self, z: np.ndarray, condition: np.ndarray | int | None = None) -> np.ndarray:
        """Return images `[N, *image_shape]`, the mean of p(x|z), for latents `[N, *latent_shape]`.

        Args:
            z: the latents.
            condition: as in `sample`, where the decoder takes one.

        Raises:
            InvalidArgument: a file with codes; a condition that is missing or not wanted.
            InvalidData: latents of another shape, not numbers, or not finite.
        """
        if self.latent_shape is None:
            raise InvalidArgument(
                f"{self._name} decodes codes of shape {self.code_shape}, not latents. Use "
                "`decode_codes`."
            )
        z = checked(z, self.latent_shape, "latents")
        conditions = self._conditions("decode", condition, len(z))
        return self._in_batches("decode", "image", latents=z, **conditions)

    def decode_codes(
        self, codes: np.ndarray, condition: np.ndarray | int | None = None
    ) -> np.ndarray:
        """Return images `[N, *image_shape]`, the mean of p(x|codes), for codes `[N, *code_shape]`.

        Args:
            codes: the codes.
            condition: as in `sample`, where the decoder takes one.

        Raises:
            InvalidArgument: a file with latents; a condition that is missing or not wanted.
            InvalidData: codes of another shape, not integers, or not from 0 to K − 1.
        """
        if self.code_shape is None:
            raise InvalidArgument(
                f"{self._name} decodes latents of shape {self.latent_shape}, not codes. Use "
                "`decode`."
            )
        codes = checked_codes(codes, self.code_shape, self.codebook_size)
        conditions = self._conditions("decode_codes", condition, len(codes))
        return self._in_batches("decode_codes", "image", codes=codes, **conditions)

    def encode(self, x: np.ndarray, condition: np.ndarray | int | None = None) -> np.ndarray:
        """Return the latents or codes of images `[N, *image_shape]`.

        They are the mean of q(z|x), `[N, *latent_shape]` float32, or the codes of x,
        `[N, *code_shape]` int32.

        Args:
            x: the images; NaN is a missing value, where the file takes them.
            condition: as in `sample`, where the encoder takes one.

        Raises:
            InvalidArgument: a condition that is missing or not wanted.
            InvalidData: images of another shape, not numbers, or not finite.
        """
        what = "images" if self.schema is None else "rows"
        x = checked(x, self.image_shape, what, self.takes_missing)
        output = "mean" if self.code_shape is None else "codes"
        conditions = self._conditions("encode", condition, len(x))
        return self._in_batches("encode", output, image=x, **conditions)

    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        condition: np.ndarray | int | None = None,
    ) -> np.ndarray:
        """Return n images `[n, *image_shape]`, those that the model draws from the same seed.

        Args:
            n: how many.
            seed: any integer.
            temperature: of the latents, whose standard deviation it multiplies, or whose logits it
                divides where they are discrete, as it does those of codes; 0 gives the mode.
            condition: where the file's `sample` has that input, labels `[n]` or vectors `[n, C]`,
                or one for all; else None.

        Raises:
            InvalidArgument: n is no whole number or below 1, the seed is no integer, the
                temperature is negative or not finite, a condition is missing or not wanted, or the
                file has no `sample`.
            InvalidData: conditions of another type or shape, out of range, or not n.
        """
        n = checks.whole("n", n)
        temperature = checks.temperature(temperature)
        size = 3 * 4 * math.prod(self.image_shape)  # as floats, joined, and as a picture
        memory.check_request(n, size, "examples", "Draw at most {most} at once (--sample).")
        draws = {
            "index": np.arange(n, dtype=np.int32),
            **self._conditions("sample", condition, n),
        }
        seed = checks.integer("seed", seed)
        words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32).view(np.int32)
        same = {"seed": words, "temperature": np.float32(temperature)}
        return self._in_batches("sample", "image", same, **draws)

    def run(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Run one signature of the file directly.

        Numbers of another type than the signature takes are converted. If the file has integers in
        place of real numbers, as after `--quantize int8 --io integer`, the inputs and outputs of
        this method are real numbers all the same.

        Raises:
            InvalidArgument: the file has no such signature, or it takes other inputs.
            InvalidFile: the interpreter cannot run it.
        """
        if signature not in self._signatures:
            reason = self.description.get("left_out", {}).get(signature)
            because = "" if reason is None else f" It was exported without, since {reason}."
            raise InvalidArgument(
                f"There is no signature {signature!r} in {self._name}; it has "
                f"{', '.join(sorted(self._signatures))}.{because}"
            )
        called = self._signatures[signature]
        if set(inputs) != set(called.inputs):
            raise InvalidArgument(
                f"{signature!r} in {self._name} takes "
                f"{', '.join(sorted(called.inputs)) or 'nothing'}, and got "
                f"{', '.join(sorted(inputs)) or 'nothing'}. Give each by its name."
            )
        inputs = called.from_real(inputs)
        try:
            with self._lock:
                outputs = called.runner(**inputs)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InvalidFile(
                f"{self._name} is damaged, or does not take these inputs: LiteRT says {reason}"
            ) from None
        return called.to_real(outputs)

    def decode_latency(self, batch_size: int = 1) -> float:
        """Return the median time of decoding a batch on this machine, in milliseconds."""
        if self.code_shape is None:
            signature = "decode"
            inputs = {"latents": np.zeros((batch_size, *self.latent_shape), np.float32)}
        else:
            signature = "decode_codes"
            inputs = {"codes": np.zeros((batch_size, *self.code_shape), np.int32)}
        if self.takes_condition(signature):
            any_one = np.zeros(self.condition_size) if self.condition_size else 0
            inputs |= self._conditions(signature, any_one, batch_size)
        return timed(lambda: self._run_batch(signature, inputs)).median

    def takes_condition(self, signature: str) -> bool:
        """Whether a signature has the input `condition`."""
        return signature in self._signatures and "condition" in self._signatures[signature].inputs

    def given(self, signature: str, condition: np.ndarray | int | None) -> dict:
        """Return the argument `condition` for a signature, if the signature takes one."""
        return {"condition": condition} if self.takes_condition(signature) else {}

    def _in_batches(self, signature, output, same=None, **rows):
        """Return one output for `rows`, arrays of one length, a part of them at a time."""
        count = len(next(iter(rows.values())))
        parts = []
        for start in range(0, count, _MAX_BATCH):
            batch = {name: array[start : start + _MAX_BATCH] for name, array in rows.items()}
            parts.append(self._run_batch(signature, batch, same or {})[output])
        return np.concatenate(parts)

    def _run_batch(self, signature, batch, same=None):
        """Run a signature on a batch; a single row takes the faster graph for one, if there is."""
        single = f"{signature}_1"
        is_one = len(next(iter(batch.values()))) == 1
        name = single if is_one and single in self._signatures else signature
        return self.run(name, **batch, **(same or {}))

    def _conditions(self, signature, condition, count):
        """Return the input `condition` by its name, of a signature that has it; else nothing."""
        if not self.takes_condition(signature):
            if condition is not None:
                raise InvalidArgument(
                    f"{signature!r} in {self._name} has no classes and got labels: it depends on "
                    "no condition. Leave `condition` out."
                )
            return {}
        if condition is None:
            what = f"{self.num_classes} classes and got no labels"
            if self.condition_size:
                what = f"a condition of {self.condition_size} numbers and got none"
            raise InvalidArgument(
                f"{signature!r} in {self._name} has {what}. Give `condition=` one, or one for each "
                "image."
            )
        if self.condition_size:
            return {"condition": checked_vectors(condition, self.condition_size, count)}
        return {"condition": checked_labels(condition, self.num_classes, count)}


def _of_description(kind, key, description, name):
    try:
        return kind.of(description[key]) if key in description else None
    except InvalidArgument as error:
        raise InvalidFile(f"{name} is damaged: {error} Export it again.") from None


def _shape(sizes):
    return None if sizes is None else tuple(sizes)
