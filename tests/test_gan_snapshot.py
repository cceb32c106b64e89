"""Snapshots: what is saved is what is loaded; anything damaged or foreign is refused."""

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import full_disk
from safetensors import safe_open
from safetensors.torch import save_file

from gan import snapshot
from gan.config import TrainingConfig
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.sampling import generate


@pytest.fixture(scope="module")
def networks(tiny_network):
    torch.manual_seed(0)
    return Generator(tiny_network).eval(), Discriminator(tiny_network).eval()


@pytest.fixture
def write(networks, tiny_config):
    def write(path, cur_nimg=8):
        path.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save(path, *networks, tiny_config, cur_nimg, ["day", "night"])
        return path

    return write


def same_networks(loaded, networks):
    return all(
        torch.equal(tensor, network.state_dict()[name])
        for copy, network in zip((loaded.G_ema, loaded.D), networks, strict=True)
        for name, tensor in copy.state_dict().items()
    )


def test_round_trip(write, networks, tiny_config, tmp_path):
    path = write(snapshot.path_for(tmp_path, 12345), cur_nimg=12345)
    loaded = snapshot.load(path)
    assert path.name == "snapshot-0000012345.safetensors"
    assert (loaded.path, loaded.config, loaded.cur_nimg) == (path, tiny_config, 12345)
    assert loaded.classes == ["day", "night"]
    assert same_networks(loaded, networks)
    for mine, its in zip(generate.generate(networks[0], [0, 1]), generate.generate(loaded.G_ema, [0, 1]), strict=True):
        assert np.array_equal(mine, its)
    assert not any(p.requires_grad for p in loaded.G_ema.parameters()) and not loaded.G_ema.training


def test_the_metadata_is_readable_without_salon(write, tiny_config, tmp_path):
    with safe_open(write(tmp_path / "a.safetensors"), framework="np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"]) == tiny_config.to_dict()
    assert metadata["dataset"] == tiny_config.dataset and metadata["cur_nimg"] == "8"


def test_a_torn_file_is_refused_at_every_length(write, tmp_path):
    path = write(tmp_path / "torn.safetensors")
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 500, *range(1000, len(content), len(content) // 12), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(RequestError, match=r"torn\.safetensors must be a snapshot"):
            snapshot.load(path)


def test_a_flipped_byte_is_refused_or_changes_nothing(write, networks, tiny_config, tmp_path):
    path = write(tmp_path / "damaged.safetensors")
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    # In the header a bit, so that digits and letters become others; in the tensors a byte.
    flips = [(n, 1) for n in range(0, header, 11)] + [(n, 0xFF) for n in range(header, len(content), 997)]
    refused = 0
    for position, mask in flips:
        path.write_bytes(content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :])
        try:
            loaded = snapshot.load(path)
        except RequestError:
            refused += 1
            continue
        assert same_networks(loaded, networks), f"byte {position} changed the networks unnoticed"
        assert (loaded.config, loaded.cur_nimg, loaded.classes) == (tiny_config, 8, ["day", "night"]), position
    assert refused > 0.9 * len(flips)


def test_a_changed_config_is_noticed(write, tmp_path):
    path = write(tmp_path / "changed.safetensors")
    content = path.read_bytes()
    assert content.count(rb"\"seed\": 0") == 1
    path.write_bytes(content.replace(rb"\"seed\": 0", rb"\"seed\": 1"))
    with pytest.raises(RequestError, match="is corrupt"):
        snapshot.load(path)


def test_a_config_of_another_version_is_refused(networks, tiny_config, tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class NewerConfig(TrainingConfig):
        a_field_of_the_future: int = 1

    config = NewerConfig(network=tiny_config.network, dataset=tiny_config.dataset)
    snapshot.save(tmp_path / "newer.safetensors", *networks, config, 8, None)
    with pytest.raises(RequestError, match="must have the config of this version of Salon"):
        snapshot.load(tmp_path / "newer.safetensors")


def test_foreign_files_are_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "plain.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", {"format": "pt"})
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pickle.safetensors")
    for name in ("plain", "other", "pickle", "absent"):
        with pytest.raises(RequestError, match="must be a snapshot"):
            snapshot.load(tmp_path / f"{name}.safetensors")


def test_find(write, tmp_path):
    old_run, new_run = tmp_path / "runs" / "b-older", tmp_path / "runs" / "a-newer"
    old = [write(snapshot.path_for(old_run / "snapshots", n), n) for n in (8, 16)]
    new = [write(snapshot.path_for(new_run / "snapshots", n), n) for n in (8, 16)]
    os.utime(old_run / "snapshots", (1000, 1000))
    (tmp_path / "runs" / "notes.txt").write_text("no run")
    for place in (old[0], new[1]):
        assert snapshot.find(place).path == place
    assert snapshot.find(old_run).path == old[1]
    assert snapshot.find(old_run / "snapshots").path == old[1]
    assert snapshot.find(tmp_path / "runs").path == new[1]
    os.utime(new_run / "snapshots", (1, 1))
    assert snapshot.find(tmp_path / "runs").path == old[1]


def test_find_passes_over_damaged_ones_and_says_so(write, tmp_path, capsys):
    run = tmp_path / "run"
    whole, damaged = (write(snapshot.path_for(run / "snapshots", n), n) for n in (8, 16))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert snapshot.find(run).path == whole
    assert f"Passing over a damaged snapshot: {damaged}" in capsys.readouterr().err
    with pytest.raises(RequestError, match="must be a snapshot"):
        snapshot.find(damaged)
    whole.write_bytes(b"")
    with pytest.raises(RequestError, match="must hold a snapshot"):
        snapshot.find(run)


def test_find_in_nothing(tmp_path):
    with pytest.raises(RequestError, match="must hold a snapshot"):
        snapshot.find(tmp_path)
    with pytest.raises(RequestError, match="does not exist"):
        snapshot.find(tmp_path / "absent")


@pytest.mark.parametrize("largest", [0, 10_000])
def test_a_full_disk_is_a_clear_error_and_keeps_the_old_one(largest, write, tmp_path):
    path = write(tmp_path / "a.safetensors")
    before = path.read_bytes()
    assert len(before) > largest
    with full_disk(largest), pytest.raises(SalonError, match=r"could not be written: .* GB are free") as caught:
        write(path)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
