"""The device side: LiteRT and NumPy, never TensorFlow.

A `.tflite` file that `tfvae.export.litert` wrote describes itself, so a `Decoder` needs no other
file. `inspect` and `benchmark` take any `.tflite`.
"""

from tfvae.ondevice.benchmark import benchmark
from tfvae.ondevice.decoder import Decoder
from tfvae.ondevice.flatfile import read_description
from tfvae.ondevice.inspection import inspect, operators

__all__ = ["Decoder", "benchmark", "inspect", "operators", "read_description"]
