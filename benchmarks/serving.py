"""What Triton adds to ONNX Runtime: latency of one picture, throughput of many clients, and minutes of load.

python benchmarks/serving.py --preset config-f --resolution 256
python benchmarks/serving.py --soak 300
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch

from gan import snapshot
from gan.config import TrainingConfig
from gan.console import say, table
from gan.discriminator import Discriminator
from gan.generator import Generator
from gan.latents import draw
from serving.client import Client
from serving.export import export
from serving.server import Server, serve
from serving.triton import find


def untrained(folder: Path, preset: str, resolution: int) -> Path:
    """A snapshot with random weights; how long painting takes does not depend on them."""
    config = TrainingConfig.from_preset(preset, resolution=resolution) if False else None
    raise NotImplementedError(config)


if __name__ == "__main__":
    click.echo("later")
