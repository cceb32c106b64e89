"""Wrong downloads are told by what they are, wherever a file of networks or weights is read."""

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon

from eval.features import weights
from eval.metrics import lpips
from gan import snapshot
from gan.errors import RequestError
from gan.foreign import convert
from gan.runtime.file_kinds import foreign_kind
from gan.training import checkpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 9\n"
FILES = {
    "a web page": b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>",
    "a pointer of Git LFS": POINTER,
    "compressed with gzip: unpack it first": gzip.compress(b"weights"),
    "empty": b"",
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(40),
}
FILE = weights.WeightsFile(name="w.pt", url="https://example.org/w.pt", sha256="")


def read_weights(path: Path) -> None:
    weights.read(path, FILE, "")


@pytest.mark.parametrize(
    "read", [convert.read, checkpoint.load, snapshot.load, read_weights, lambda path: lpips._read(path, "LPIPS")]
)
@pytest.mark.parametrize("kind", FILES)
def test_wrong_downloads_are_told_by_what_they_are(tmp_path, read, kind):
    path = tmp_path / "network.pkl"
    path.write_bytes(FILES[kind])
    with pytest.raises(RequestError) as caught:
        read(path)
    assert f"it is {kind}" in str(caught.value).replace("got: ", "") and str(path) in str(caught.value)


def test_archives_and_what_is_nothing_obvious(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(__file__, "a.py")
    (tmp_path / "text").write_text("no weights")
    assert foreign_kind(tmp_path / "a.tar") == "a tar archive: unpack it first"
    assert foreign_kind(tmp_path / "text") is None and foreign_kind(tmp_path / "absent") is None


class Program:
    """What another implementation pickles beside its tensors."""


def test_nobody_is_advised_to_load_unsafely(tmp_path, tiny_dataset, tiny_run):
    theirs = tmp_path / "000123.pt"
    torch.save({"g_ema": {}, "args": Program()}, theirs)
    for option in ("--resume", "--transfer"):
        outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, option, theirs)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        assert "weights_only" not in outcome.err and "become a snapshot with `salon import`" in outcome.err
    for read in (read_weights, lambda path: lpips._read(path, "LPIPS")):
        with pytest.raises(RequestError, match="it holds other things than tensors") as caught:
            read(theirs)
        assert "weights_only" not in str(caught.value)
    np.savez_compressed(tmp_path / "samples.npz", arr_0=np.array([Program()], object))
    (tmp_path / "statistics.npz").write_text("no statistics")
    for data, images in ((tiny_dataset, "samples.npz"), (tmp_path / "statistics.npz", tiny_dataset)):
        words = ("--images", tmp_path / images, "--data", data, "--extractor", "efficientnet-lite0", "--metrics", "fid")
        outcome = run_salon("eval", "run", *words, "--out", tmp_path / "evaluation")
        assert outcome.code == 2 and "it holds other things than tensors and arrays" in outcome.err
        assert "allow_pickle" not in outcome.err
    (tmp_path / "network.pkl").write_bytes(b"\x80\x04N.")
    for path, advice in ((theirs, "which `salon import` reads"), (tmp_path / "network.pkl", "`salon import` reads")):
        outcome = run_salon("generate", path, "--seeds", "0", "--out", tmp_path / "images")
        assert outcome.code == 2 and advice in outcome.err
