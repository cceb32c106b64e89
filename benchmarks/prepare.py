"""What preparing images of 100 megapixels takes: seconds an image, and memory of all processes together.

    python benchmarks/prepare.py --workers 2

The images are gradients with a little noise, 12,000 x 8,500 pixels, as scans are large; each kind of file is prepared
alone, to 384x256, by `salon prepare` in a process of its own. Memory is the sum of what each process had at most, so
that all of them together had no more than that at any time.
"""

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from gan.runtime.console import table

SIZE = 12_000, 8_500
KINDS = {
    "JPEG": ("RGB", ".jpg", {"quality": 90}),
    "JPEG, progressive": ("RGB", ".jpg", {"quality": 90, "progressive": True}),
    "PNG, RGB": ("RGB", ".png", {"compress_level": 1}),
    "PNG, RGBA": ("RGBA", ".png", {"compress_level": 1}),
    "TIFF, uncompressed": ("RGB", ".tif", {}),
}


def scan(mode: str) -> Image.Image:
    """A large image of two gradients, and noise that is the same in all rows."""
    width, height = SIZE
    across, down = np.linspace(0, 200, width), np.linspace(0, 200, height)
    noise = np.random.default_rng(0).integers(0, 50, width)
    pixels = np.empty([height, width, len(mode)], np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = across + noise, down[:, None], 128
    if mode == "RGBA":
        pixels[..., 3] = 255 - down[:, None]
    return Image.fromarray(pixels)


def tree(pid: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in found} - found
    return found


def watch(pid: int, peaks: dict[int, int], ended: threading.Event) -> None:
    """Note what each process had at most, in bytes, until all have ended."""
    while not ended.wait(0.05):
        for each in tree(pid):
            try:
                status = Path(f"/proc/{each}/status").read_text()
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    peaks[each] = max(peaks.get(each, 0), int(line.split()[1]) * 1024)


def measured(source: Path, out: Path, workers: int, channels: str) -> tuple[float, dict[int, int]]:
    """Seconds that preparing a folder takes, and the most memory of each process."""
    words = ["prepare", source, "--out", out, "--shape", "384x256", "--workers", workers, "--overwrite"]
    started = time.perf_counter()
    command = [sys.executable, "-m", "gan", *map(str, words), "--channels", channels, "--keep-duplicates"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1]) as process:
        peaks: dict[int, int] = {}
        ended = threading.Event()
        thread = threading.Thread(target=watch, args=(process.pid, peaks, ended))
        thread.start()
        code = process.wait()
        ended.set()
        thread.join()
    if code:
        raise SystemExit(code)
    return time.perf_counter() - started, peaks


@click.command()
@click.option("--images", default=6, show_default=True, help="Images of each kind.")
@click.option("--workers", default=2, show_default=True, help="Processes that decode.")
def main(images: int, workers: int) -> None:
    """Measure, and print a table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, (mode, suffix, options)) in enumerate(KINDS.items()):
            source = Path(folder) / str(number)
            source.mkdir()
            buffer = io.BytesIO()
            scan(mode).save(buffer, Image.registered_extensions()[suffix], **options)
            (source / f"0{suffix}").write_bytes(buffer.getvalue())
            for copy in range(1, images):
                os.link(source / f"0{suffix}", source / f"{copy}{suffix}")
            channels = "rgba" if mode == "RGBA" else "rgb"
            seconds, peaks = measured(source, Path(folder) / "d.zip", workers, channels)
            size = f"{buffer.tell() / 1e6:,.0f} MB"
            figures = f"{seconds / images:.2f}", f"{max(peaks.values()) / 1e9:.2f}", f"{sum(peaks.values()) / 1e9:.2f}"
            rows.append((kind, size, *figures))
    print(table(rows, ["file", "size", "s/image", "GB of a worker", "GB in all"]))


if __name__ == "__main__":
    main()
