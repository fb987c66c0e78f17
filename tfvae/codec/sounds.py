"""Sound as codes: its windows for a model of series, and the rate and length of a `.wav`."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae.codec.compressed import Compressed
from tfvae.codec.file_format import wrong_codes
from tfvae.codec.lossy import compress, decode, read
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.models import CodeModel
from tfvae.outputs import in_units
from tfvae.sound import Sound, joined, windows


def compress_sound(
    model: CodeModel,
    sound: Sound,
    path: str | Path | None = None,
    condition: np.ndarray | tf.Tensor | int | None = None,
    **options,
) -> Compressed:
    """Encode a sound window by window, and write its codes; `decompress_sound` decodes them.

    The sound, with values in [−1, 1], is cut into series of the model's length, the last one filled
    up with zeros. The file keeps the rate and the length.

    Args:
        model: a `CodeModel` of series `[T, C]`, trained on windows of sound of this rate.
        sound: of C channels; see `tfvae.sound.read`.
        path: where to write the file, a name ending in .npz; None to write none.
        condition: y, one for all windows or one for each, where the model or its prior takes one.
        options: `batch_size` and `progress`, as in `compress`.

    Raises:
        InvalidArgument: as in `compress`, or the model is not one of series.
        InvalidData: a sound of another number of channels, or none.
        InvalidFile: the file cannot be written.
    """
    shape = getattr(model, "x_shape", ())
    if len(shape) != 2:
        raise InvalidArgument(
            f"Sound is encoded as series, [T, C], and this model takes examples of shape {shape}. "
            "Train one on windows of sound, as tfvae.sound.windows makes them."
        )
    channels = shape[-1]
    if sound.frames.ndim != 2 or sound.frames.shape[1] != channels or not len(sound.frames):
        raise InvalidData(
            f"The sound has frames of shape {sound.frames.shape}; the model takes [n, {channels}], "
            f"sound of {channels} channel{'s' if channels > 1 else ''}."
        )
    form = sound.rate, len(sound.frames), sound.width
    return compress(model, windows_for(model, sound), path, condition, sound=form, **options)


def windows_for(model: CodeModel, sound: Sound) -> np.ndarray:
    """Return the windows of a sound as a model of series takes them, `[N, T, C]`."""
    series = windows(sound.frames, model.x_shape[0])
    units = model.standardization
    return series if units is None else units.standardized(series)


def decompress_sound(model: CodeModel, file: str | Path | bytes, progress: bool = False) -> Sound:
    """Return the sound in a file that `compress_sound` wrote; see `decompress`.

    Raises:
        InvalidFile: as `decompress`, or the file holds no sound.
        InvalidArgument: not a model of codes.
    """
    codes, y, form = read(model, file, progress)
    name = "The file" if isinstance(file, (bytes, bytearray, memoryview)) else Path(file)
    if form is None:
        raise InvalidFile(
            f"{name} holds no sound, but examples without a rate; expected a file that was encoded "
            "from a .wav. Decode it to an .npy file."
        )
    rate, count, width = form
    series = in_units(decode(model, codes, y), model)
    if len(series) != -(-count // model.x_shape[0]):
        raise wrong_codes(name)
    return Sound(joined(series, count), rate, width)
