"""Sound: the frames of a `.wav` file, and windows of them for a model of series."""

import dataclasses
import wave
from pathlib import Path

import numpy as np

from tfvae._plain.files import atomic
from tfvae.errors import InvalidArgument, InvalidData

ENDING = ".wav"
_WIDTHS = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Sound:
    """A stretch of sound.

    Attributes:
        frames: `[n, C]` float32 in [−1, 1], one value for each of C channels.
        rate: frames in a second.
        width: bytes of a value in a `.wav`, from 1 to 4; CDs have 2.
    """

    frames: np.ndarray
    rate: int
    width: int = 2

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return len(self.frames) / self.rate


def read(path: str | Path) -> Sound:
    """Read a `.wav` file of whole numbers (PCM), of any rate and number of channels.

    Raises:
        InvalidData: there is no such file, it is no `.wav` or one of floats, or it has no frames.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, *_ = file.getparams()
            content = file.readframes(file.getnframes())
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from None
    except (wave.Error, EOFError) as error:
        raise InvalidData(
            f"{path} cannot be read as a .wav file of whole numbers (PCM): "
            f"{str(error) or 'it ends too early'}. Convert it, for instance with "
            "`ffmpeg -i IN -c:a pcm_s16le OUT.wav`."
        ) from None
    if width not in _WIDTHS or not channels or not rate:
        raise InvalidData(f"{path} is damaged: {width} bytes a value, {channels} channels.")
    content = content[: len(content) // (width * channels) * (width * channels)]
    if not content:
        raise InvalidData(f"{path} holds no sound; expected at least one frame.")
    frames = _from_bytes(content, width).reshape(-1, channels)
    return Sound(frames, rate, width)


def write(sound: Sound, path: str | Path) -> None:
    """Write a `.wav` file; values outside of [−1, 1] are clipped.

    Raises:
        InvalidArgument: a name with another ending.
        InvalidFile: the file cannot be written.
    """
    if Path(path).suffix.lower() != ENDING:
        raise InvalidArgument(f"Cannot write sound to {path}; expected a name that ends in .wav.")
    with atomic(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(sound.frames.shape[1])
        file.setsampwidth(sound.width)
        file.setframerate(sound.rate)
        file.writeframes(_to_bytes(sound.frames, sound.width))


def windows(frames: np.ndarray, length: int) -> np.ndarray:
    """Return frames `[n, C]` as series `[N, length, C]`, the last one filled up with zeros."""
    missing = -len(frames) % length
    return np.pad(frames, [(0, missing), (0, 0)]).reshape(-1, length, frames.shape[1])


def joined(series: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` frames of series `[N, T, C]`: what `windows` was given."""
    return series.reshape(-1, series.shape[-1])[:count]


def _from_bytes(content, width):
    """Return the values in [−1, 1) of little-endian integers, unsigned where they have a byte."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 3:  # as the upper bytes of four
        parts = np.frombuffer(content, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 1:] = parts
        content, width = whole.tobytes(), 4
    values = np.frombuffer(content, f"<i{width}")
    return (values / 2.0 ** (8 * width - 1)).astype(np.float32)


def _to_bytes(frames, width):
    """Return values as `_from_bytes` reads them."""
    scale = 2.0 ** (8 * width - 1)
    levels = np.round(np.asarray(frames, np.float64) * scale).clip(-scale, scale - 1)
    if width == 1:
        return (levels + 128).astype(np.uint8).tobytes()
    if width == 3:
        return levels.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return levels.astype(f"<i{width}").tobytes()
