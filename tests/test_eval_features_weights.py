"""Files of weights: found, fetched on request, and read without executing anything."""

import os
import warnings
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file

from eval.features import weights
from eval.features.torchvision_compat import torch_fidelity
from eval.features.weights import WeightsFile
from gan.errors import RequestError, SalonError

FILE = WeightsFile(name="network.pth", url="https://example.org/network.pth")


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def test_a_missing_file_is_named_with_its_place(cache):
    with pytest.raises(RequestError) as caught:
        weights.find("net", FILE, None)
    message = str(caught.value)
    assert all(part in message for part in ("network.pth", FILE.url, str(cache), "`weights`")) and "\n" not in message
    assert not cache.exists()


def test_the_users_file_comes_first(cache, tmp_path):
    cache.mkdir(parents=True)
    (cache / "network.pth").write_bytes(b"cached")
    mine = tmp_path / "mine.pth"
    with pytest.raises(RequestError, match=f"`weights` of net must be an existing file; got {mine} instead"):
        weights.find("net", FILE, mine)
    mine.write_bytes(b"mine")
    assert weights.find("net", FILE, mine) == mine
    assert weights.find("net", FILE, None) == cache / "network.pth"


def test_what_is_fetched_is_the_published_file(cache, tmp_path):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    digest = sha256(b"weights").hexdigest()
    file = WeightsFile(name="a.pth", url=source.as_uri(), sha256=digest[:8])
    path = weights.find("net", file, None, fetch=True)
    assert path == cache / "a.pth" and path.read_bytes() == b"weights"
    source.write_bytes(b"other")
    with pytest.raises(SalonError, match="must have a SHA-256 that begins with"):
        weights.find("net", WeightsFile(name="b.pth", url=source.as_uri(), sha256=digest[:8]), None, fetch=True)
    with pytest.raises(SalonError, match="could not be fetched"):
        weights.find("net", WeightsFile(name="b.pth", url=(tmp_path / "no").as_uri()), None, fetch=True)
    assert [path.name for path in cache.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_tensors_are_read(name, tmp_path):
    state = {"w": torch.arange(6.0).reshape(2, 3)}
    if name == "a.pth":
        torch.save(state, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    found = weights.read(tmp_path / name, FILE, "")
    assert list(found) == ["w"] and torch.equal(found["w"], state["w"])


def test_programs_in_files_do_not_run(tmp_path):
    path, folder = tmp_path / "evil.pth", tmp_path / "made"
    torch.save({"w": Evil(folder)}, path)
    with pytest.raises(RequestError, match="must hold tensors and nothing else"):
        weights.read(path, FILE, "")
    assert not folder.exists()
    with pytest.raises((AttributeError, TypeError, RuntimeError)):  # where torch-fidelity runs them
        torch_fidelity().FeatureExtractorInceptionV3("net", ["2048"], feature_extractor_weights_path=path)
    assert folder.exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"hello", b"PK\x03\x04 half a ZIP"])
def test_damaged_files_are_refused(content, tmp_path):
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RequestError, match=r"must hold tensors and nothing else; it is refused: [A-Za-z]"):
            weights.read(tmp_path / name, FILE, "")


def test_other_values_are_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(RequestError, match="must hold one dict of named tensors; got list instead"):
        weights.read(tmp_path / "list.pth", FILE, "")


def test_a_torchscript_archive_must_be_the_published_one(tmp_path):
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)), str(path))
    digest = sha256(path.read_bytes()).hexdigest()
    published = WeightsFile(name="script.pt", url="", sha256=digest)
    assert weights.read(path, published, digest)["weight"].shape == (3, 2)
    for known in ("", digest[:8], "0" * 64):
        with pytest.raises(RequestError, match="is a program") as caught:
            weights.read(path, WeightsFile(name="script.pt", url="", sha256=known), digest)
        assert "it is refused" not in str(caught.value)  # said once, not inside of another message
