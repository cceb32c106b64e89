"""Runs that start from trained weights: their networks, their moving average, and what transfer takes."""

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY_TRAINING, run_salon, write_dataset

from gan import snapshot
from gan.config import NetworkConfig, TrainingConfig
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.training import defaults, transfer
from gan.training.learner import Learner
from gan.training.request import TrainingRequest, resolve
from gan.training.run_dir import Run, default_name
from gan.training.start import load_source

SIZES = {"resolution": 16, "z_dim": 8, "w_dim": 12, "mapping_layers": 3, "channel_base": 64, "channel_max": 6}
OF_THE_TINY_RUN = {"w_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8}
CPU = torch.device("cpu")


def lively(network):
    """With weights, biases and averages that are not zero."""
    generator = torch.Generator().manual_seed(5)
    for tensor in network.state_dict().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return network.eval().requires_grad_(False)


@pytest.fixture(params=["snapshot", "checkpoint"])
def start(request, tmp_path_factory, tiny_run):
    """A file of networks that no preset has."""
    if request.param == "checkpoint":
        return max((tiny_run / "checkpoints").iterdir())
    path = tmp_path_factory.mktemp("start") / "imported.safetensors"
    config = TrainingConfig(network=NetworkConfig(**SIZES, mbstd_group_size=2), dataset="elsewhere", batch_size=8)
    G, D = lively(Generator(config.network)), lively(Discriminator(config.network))
    snapshot.save(path, G, D, config, 5_000_000, None)
    return path


def request(data, **fields):
    return TrainingRequest(data=data, out=Path("runs"), **fields)


@pytest.mark.parametrize("preset", ["auto", "tiny", "config-f"])
def test_networks_are_those_that_a_run_starts_from_unless_overridden(tiny_dataset, start, preset):
    found = snapshot.load(start).config if start.suffix == ".safetensors" else None
    wanted = found.network if found else NetworkConfig(**{**SIZES, **OF_THE_TINY_RUN})
    for fields in ({"resume": str(start)}, {"transfer": start}):
        config = resolve(request(tiny_dataset, preset=preset, **fields)).config
        assert config.network == wanted and config.preset == preset
        assert (config.ema_rampup, config.ada_kimg) == (None, 100)
        own = ("channel_max=7", "ema_rampup=0.1", "ada_kimg=7")
        config = resolve(request(tiny_dataset, preset=preset, overrides=own, **fields)).config
        assert config.network == replace(wanted, channel_max=7) and (config.ema_rampup, config.ada_kimg) == (0.1, 7)
    conditional = resolve(request(tiny_dataset, conditional=True, transfer=start)).config.network
    assert conditional == replace(wanted, num_classes=2)
    anew = resolve(request(tiny_dataset)).config
    assert (anew.ema_rampup, anew.ada_kimg, anew.network.z_dim) == (0.05, 500, 512)


def test_the_average_of_the_weights_that_a_run_starts_from_is_kept(tiny_dataset, tmp_path):
    # With the ramp, eight iterations would leave nothing of it.
    config = TrainingConfig(network=NetworkConfig(**SIZES), dataset="elsewhere", batch_size=4)
    old = lively(Generator(config.network))
    path = tmp_path / "imported.safetensors"
    snapshot.save(path, old, lively(Discriminator(config.network)), config, 0, None, lively(copy.deepcopy(old)))
    config = resolve(request(tiny_dataset, resume=str(path), overrides=("batch_size=4", "pl_weight=0"))).config
    learner = Learner(config, CPU)
    for name, weights in load_source(path, config).items():
        getattr(learner, name).load_state_dict(weights)
    first = copy.deepcopy(learner.G.state_dict())
    pixels = torch.randint(0, 256, [4, 3, 16, 16], dtype=torch.uint8)
    for _ in range(8):
        learner.step(pixels, torch.zeros(4, dtype=torch.int64))
    share = 1 - 0.5 ** (8 * 4 / (1000 * config.ema_kimg))  # of G in the average by now
    assert share < 0.01
    for name, value in old.named_parameters():
        expected = value.lerp(first[name], share)
        torch.testing.assert_close(dict(learner.G_ema.named_parameters())[name], expected, rtol=0, atol=1e-3)


def test_a_run_of_the_first_version_goes_on_with_its_values(tiny_dataset, tmp_path):
    for preset, first in defaults.FIRST_PRESETS.items():
        command = TrainingRequest(data=tiny_dataset, out=tmp_path, preset=preset, augment="none", precision="fp32")
        own = tuple(f"{name}={value}" for name, value in first.items())
        began = resolve(replace(command, overrides=own)).config
        assert began != resolve(command).config
        with Run(tmp_path / default_name(tiny_dataset, began)).claim(began):
            pass
        assert resolve(command).config == began
        assert resolve(replace(command, resume="never")).config != began


@pytest.mark.parametrize(("there", "here"), [(0, 2), (2, 0), (1, 0), (2, 3), (0, 0)])
def test_transfer_to_other_classes_keeps_the_mapping(there, here):
    old, new = NetworkConfig(**SIZES, num_classes=there), NetworkConfig(**SIZES, num_classes=here)
    before, after = lively(Generator(old)), Generator(new)
    fitted = transfer.fit_classes(before.state_dict(), old, new)
    outcomes = transfer.load_matching(after, fitted)
    embedded = {"mapping.embed.weight", "mapping.embed.bias"}
    assert {name for name, outcome in outcomes.items() if outcome != transfer.LOADED} <= embedded
    z = torch.randn(16, 8)
    with torch.no_grad():
        if there and not here:  # the mean over the classes, before the first activation
            for G in (before, after):
                G.mapping.layers, G.mapping.fc0.act = 1, "linear"
            means = [before.mapping(z, one_hot([k] * 16, there, CPU)) for k in range(there)]
            torch.testing.assert_close(after.mapping(z), torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-6)
        elif not there:
            for k in range(max(here, 1)):
                c = one_hot([k] * 16, here, CPU) if here else None
                torch.testing.assert_close(after.mapping(z, c), before.mapping(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("there", "here"), list(itertools.permutations((1, 3, 4), 2)))
def test_transfer_to_other_channels_generates_and_judges_as_before(there, here):
    old, new = (NetworkConfig(**SIZES, image_channels=channels) for channels in (there, here))
    pairs = [(lively(kind(old)).double(), kind(new).double()) for kind in (Generator, Discriminator)]
    for before, after in pairs:
        fitted = transfer.fit_shape(before.state_dict(), old, new)
        assert set(transfer.load_matching(after, fitted).values()) == {transfer.LOADED}
    (G_before, G_after), (D_before, D_after) = pairs
    z = torch.randn(4, SIZES["z_dim"], dtype=torch.float64)
    with torch.no_grad():
        was, now = (G(z, noise_mode="none") for G in (G_before, G_after))
        torch.testing.assert_close(now, as_channels(was, here))
        torch.testing.assert_close(D_after(now), D_before(as_channels(now, there)))


def as_channels(img, channels):
    """Images with other channels: grey is the mean of RGB, and what had no alpha is opaque."""
    rgb = img.expand(-1, 3, -1, -1) if img.shape[1] == 1 else img[:, :3]
    if channels == 4:
        return torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1)
    return rgb if channels == 3 else rgb.mean(1, keepdim=True)


def test_transfer_to_another_base_stretches_what_has_it():
    old, new = NetworkConfig(**SIZES), NetworkConfig(**SIZES, base=(6, 4))
    G, D = lively(Generator(old)), lively(Discriminator(old))
    wide_G, wide_D = Generator(new), Discriminator(new)
    noise = {name for name in wide_G.state_dict() if name.endswith("noise_const")}
    outcomes = transfer.load_matching(wide_G, transfer.fit_shape(G.state_dict(), old, new))
    assert {name for name, outcome in outcomes.items() if outcome != transfer.LOADED} == noise
    outcomes = transfer.load_matching(wide_D, transfer.fit_shape(D.state_dict(), old, new))
    assert set(outcomes.values()) == {transfer.LOADED}
    const, wide = G.synthesis.b4.const, wide_G.synthesis.b4.const
    torch.testing.assert_close(wide[:, :, [0, 5]], const[:, :, [0, 3]])  # from edge to edge
    torch.testing.assert_close(wide.mean([1, 2]), const.mean([1, 2]), rtol=0.4, atol=0.4)
    # Of features that are the same in every cell the last block says what it said.
    x = torch.randn(3, old.channels(4), 1, 1)
    with torch.no_grad():
        D.b4.fc.weight.copy_(D.b4.fc.weight[:, :1])
        transfer.load_matching(wide_D, transfer.fit_shape(D.state_dict(), old, new))
        cells = x.flatten(1).repeat_interleave(16, dim=1), x.flatten(1).repeat_interleave(24, dim=1)
        torch.testing.assert_close(wide_D.b4.fc(cells[1]), D.b4.fc(cells[0]), rtol=1e-4, atol=1e-5)


def test_a_part_of_a_mapping_network_is_refused(tiny_dataset, tmp_path):
    config = TrainingConfig(network=NetworkConfig(**SIZES), dataset="elsewhere", batch_size=8)
    path = tmp_path / "old.safetensors"
    snapshot.save(path, Generator(config.network), Discriminator(config.network), config, 0, None)
    for field, wanted in (("mapping_layers", 2), ("z_dim", 4), ("w_dim", 6)):
        own = replace(config, network=replace(config.network, **{field: wanted}), transfer=True)
        with pytest.raises(RequestError, match=f"{field} is {SIZES[field]} there, {wanted} here: leave {field} out of"):
            load_source(path, own)
    command = ["train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, "--transfer", path]
    outcome = run_salon(*command)
    assert outcome.code == 2 and "leave w_dim out of --set" in outcome.err and not (tmp_path / "runs").exists()


def test_transfer_of_another_preset_loads_every_layer_that_fits(tmp_path, tiny_run):
    # A larger image of the tiny run's networks, without a word on their architecture.
    data = write_dataset(tmp_path / "larger.zip", [(32, 32)] * 8)
    command = ["train", "--data", data, "--out", tmp_path / "runs", "--total-kimg", "0.008", "--set", "batch_size=8"]
    command += ["--device", "cpu", "--workers", "0", "--transfer", tiny_run, "--resume-kimg", "0", "--set"]
    outcome = run_salon(*command, "learning_rate=0", "--json")
    assert outcome.code == 0, outcome.err
    lines = {line.split()[0]: line.split()[1:] for line in outcome.err.splitlines() if line.startswith(("G.", "D."))}
    assert all(counts[1:] == ["-", "-"] for name, counts in lines.items() if name not in NEW)
    assert f"Networks: as in {tiny_run}" in outcome.err
    old, new = snapshot.find(tiny_run), snapshot.load(Path(outcome.json["snapshot"]))
    z = torch.randn(8, 8)
    with torch.no_grad():
        torch.testing.assert_close(new.G_ema.mapping(z)[:, 0], old.G_ema.mapping(z)[:, 0], rtol=0.05, atol=0.05)


NEW = ("G.synthesis.b32", "D.b32", "D.b16")  # D.b16's fromrgb is left out
