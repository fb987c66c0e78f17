"""The explorer: a local page that runs an exported `.tflite` in the browser.

The server needs what `tfvae.ondevice` needs, never TensorFlow; it hands out files and computes
nothing.
"""

from tfvae.explore.checks import check
from tfvae.explore.runtime import check_runtime
from tfvae.explore.server import Server

__all__ = ["Server", "check", "check_runtime"]
