"""Checkpoints: written whole or not at all, verified, never unpickled."""

import os
import pickle
import zipfile

import pytest
import torch
from conftest import full_disk

from gan.errors import RequestError, SalonError
from gan.training import checkpoint

STATE = {
    "learner": {"weights": torch.arange(40.0).reshape(5, 8), "counter": torch.tensor(7), "empty": torch.zeros(0)},
    "config": {"preset": "tiny", "gamma": None, "betas": (0.0, 0.99)},
    "seconds": 1.5,
}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@pytest.fixture
def saved(tmp_path):
    path = checkpoint.path_for(tmp_path, 1000)
    checkpoint.save(path, STATE)
    return path


def test_round_trip(saved):
    assert saved.name == "checkpoint-0000001000.pt"
    assert equal(checkpoint.load(saved), STATE)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_torn_file_is_refused_at_every_length(saved, tmp_path):
    content = saved.read_bytes()
    torn = tmp_path / "torn.pt"
    for length in [0, 1, 4, *range(100, len(content), 97), len(content) - 22, len(content) - 1]:
        torn.write_bytes(content[:length])
        with pytest.raises(RequestError, match=r"torn\.pt (cannot be read: .|is corrupt)"):
            checkpoint.load(torn)


def test_a_flipped_byte_is_refused_or_changes_nothing(saved, tmp_path):
    content = saved.read_bytes()
    damaged = tmp_path / "damaged.pt"
    refused = 0
    directory = zipfile.ZipFile(saved).start_dir
    positions = [*range(0, directory, 7), *range(directory, len(content))]
    for position in positions:
        damaged.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert equal(checkpoint.load(damaged), STATE), f"byte {position} changed the state unnoticed"
        except RequestError:
            refused += 1
    assert refused > len(positions) / 10  # the rest is alignment, times of day and the like


def test_every_flipped_byte_of_a_tensor_is_refused(saved):
    content = saved.read_bytes()
    weights = STATE["learner"]["weights"].numpy().tobytes()
    start = content.index(weights)
    for position in range(start, start + len(weights), 5):
        saved.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(RequestError, match="checksum"):
            checkpoint.load(saved)


class Exploit:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_foreign_pickle_is_refused_and_not_executed(tmp_path):
    exploit = Exploit(tmp_path / "executed")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"learner": exploit}))
    torch.save({"learner": exploit}, tmp_path / "zip.pt")
    torch.save({"learner": exploit}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "zip.pt", "old.pt"):
        with pytest.raises(RequestError, match="cannot be read"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert (tmp_path / "executed").exists()  # it would have been


def test_other_files_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("other.pt", "list.pt"):
        with pytest.raises(RequestError, match="must be a checkpoint of `salon train`"):
            checkpoint.load(tmp_path / name)
    for name in ("absent.pt", "."):
        with pytest.raises(RequestError, match="cannot be read"):
            checkpoint.load(tmp_path / name)


def write_three(folder):
    for cur_nimg in (8, 16, 1024):
        checkpoint.save(checkpoint.path_for(folder, cur_nimg), {"learner": {"cur_nimg": cur_nimg}})
    return [checkpoint.path_for(folder, cur_nimg) for cur_nimg in (1024, 16, 8)]


def test_list_newest_first_ignores_other_files(tmp_path):
    paths = write_three(tmp_path)
    for name in (".checkpoint-0000002000.pt.1.partial", "checkpoint-best.pt", "checkpoint-0000002000.pt.old"):
        (tmp_path / name).write_text("other")
    assert checkpoint.list_newest_first(tmp_path) == paths
    assert checkpoint.list_newest_first(tmp_path / "absent") == []


def test_load_newest_passes_over_damaged_ones_and_says_so(tmp_path, capsys):
    newest, middle, oldest = write_three(tmp_path)
    assert checkpoint.load_newest(tmp_path) == (newest, {"learner": {"cur_nimg": 1024}})
    assert capsys.readouterr().err == ""
    newest.write_bytes(newest.read_bytes()[:-50])
    middle.write_bytes(b"")
    assert checkpoint.load_newest(tmp_path) == (oldest, {"learner": {"cur_nimg": 8}})
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("Passing over a damaged checkpoint") == 2
    assert newest.name in printed.err and middle.name in printed.err
    assert newest.exists() and middle.exists()


def test_load_newest_without_a_whole_one(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None
    for path in write_three(tmp_path):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RequestError, match=r"none of the 3 checkpoints in .* can be read; start anew"):
        checkpoint.load_newest(tmp_path)


@pytest.mark.parametrize("largest", [0, 100, 2000, 100_000])
def test_a_full_disk_is_a_clear_error_and_keeps_the_old_one(largest, saved):
    before = saved.read_bytes()
    with full_disk(largest), pytest.raises(SalonError, match=r"could not be written: .* GB are free") as caught:
        checkpoint.save(saved, {"learner": torch.zeros(100_000)})
    assert caught.value.exit_code == 1
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
