"""Images from seeds: one seed is one image, and truncation, mixing and loops do what they say."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import run_salon
from test_gan_device_graphs import StandIn

from gan.config import NetworkConfig
from gan.device.graphs import WARM_UP
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.sampling import generate, latents

SEEDS = [5, 0, 77, 3, 2**32 - 1, 12, 8, 41]


def make_generator(config):
    torch.manual_seed(1)
    G = Generator(config).eval()
    G.mapping.w_avg.normal_()
    for block in G.synthesis.blocks:
        for layer in block.layers:
            layer.noise_strength.data.fill_(0.3)  # zero before training, which would hide the noise
    return G


@pytest.fixture(scope="module")
def G(tiny_network):
    return make_generator(tiny_network)


@pytest.fixture(scope="module")
def conditional(tiny_network):
    return make_generator(dataclasses.replace(tiny_network, num_classes=3))


def generated(G, seeds, *positional, **options):
    return np.stack(list(generate.generate(G, seeds, *positional, **options)))


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_one_seed_is_one_image_whatever_the_batch_and_the_order(G, noise_mode):
    alone = generated(G, SEEDS, noise_mode=noise_mode, batch_size=1)
    assert alone.dtype == np.uint8 and alone.shape == (8, 16, 16, 3)
    for batch_size in (3, 8):
        assert np.array_equal(generated(G, SEEDS, noise_mode=noise_mode, batch_size=batch_size), alone)
    backwards = generated(G, SEEDS[::-1], noise_mode=noise_mode, batch_size=5)
    assert np.array_equal(backwards[::-1], alone)
    assert len({image.tobytes() for image in alone}) == len(SEEDS)


def test_one_seed_is_one_image_in_a_larger_network():
    # Convolutions of this size round otherwise in another batch.
    config = NetworkConfig(resolution=64, z_dim=8, w_dim=8, mapping_layers=1, channel_base=2048, channel_max=64)
    G = make_generator(config)
    alone = generated(G, SEEDS, batch_size=1)
    assert np.array_equal(generated(G, SEEDS, batch_size=8), alone)


def test_random_noise_depends_on_the_seed_alone(G):
    torch.manual_seed(1)
    first = generated(G, SEEDS, noise_mode="random")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert np.array_equal(generated(G, SEEDS, noise_mode="random"), first)
    assert torch.equal(torch.get_rng_state(), state)  # training goes on as if no image had been generated
    ws = generate.map_seeds(G, [0])
    one, other = (next(generate.synthesize(G, ws, noise_mode="random", seeds=[seed])) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_noise_modes_differ(G):
    const, random, none = (generated(G, [0], noise_mode=mode) for mode in ("const", "random", "none"))
    assert not np.array_equal(const, random) and not np.array_equal(const, none) and not np.array_equal(random, none)


def test_latents_are_those_of_the_family():
    z = generate.latents([3, 4], 8)
    assert z.dtype == torch.float32 and z.shape == (2, 8)
    assert torch.equal(z[1], torch.from_numpy(np.random.RandomState(4).randn(1, 8)[0].astype(np.float32)))


def test_truncation_to_nothing_is_the_average_image(G):
    images = generated(G, SEEDS, truncation_psi=0)
    average = next(generate.synthesize(G, G.mapping.w_avg.repeat(1, G.config.num_ws, 1)))
    assert all(np.array_equal(image, average) for image in images)


def test_truncation_draws_ws_to_the_average(G):
    full, half = generate.map_seeds(G, SEEDS), generate.map_seeds(G, SEEDS, truncation_psi=0.5)
    torch.testing.assert_close(half, (full + G.mapping.w_avg) / 2)


def test_truncation_cutoff_leaves_the_later_ws(G):
    full = generate.map_seeds(G, SEEDS)
    cut = generate.map_seeds(G, SEEDS, truncation_psi=0, truncation_cutoff=2)
    assert torch.equal(cut[:, :2], G.mapping.w_avg.expand(len(SEEDS), 2, -1))
    assert torch.equal(cut[:, 2:], full[:, 2:])
    assert torch.equal(generate.map_seeds(G, SEEDS, truncation_psi=0, truncation_cutoff=0), full)


def test_mixing_no_layers_is_the_row_and_all_layers_the_column(G):
    rows, columns = generate.map_seeds(G, [1, 2]), generate.map_seeds(G, [3, 4, 5])
    row_images, column_images = (list(generate.synthesize(G, ws)) for ws in (rows, columns))
    every = range(G.config.num_ws)
    none, all_layers, some = (
        np.stack(
            list(generate.synthesize(G, torch.from_numpy(latents.mix(rows.numpy(), columns.numpy(), layers))))
        ).reshape(2, 3, 16, 16, 3)
        for layers in ([], every, [0, 1])
    )
    for row in range(2):
        for column in range(3):
            assert np.array_equal(none[row, column], row_images[row])
            assert np.array_equal(all_layers[row, column], column_images[column])
            assert not np.array_equal(some[row, column], row_images[row])
            assert not np.array_equal(some[row, column], column_images[column])


def test_classes(conditional, G):
    day, night = generated(conditional, [0], [0]), generated(conditional, [0], [2])
    assert not np.array_equal(day, night)
    both = generated(conditional, [0, 0], [2, 0])
    assert np.array_equal(both[0], night[0]) and np.array_equal(both[1], day[0])
    with pytest.raises(RequestError, match="`classes` must be given: this generator has 3 classes, 0 to 2"):
        generated(conditional, [0])
    with pytest.raises(RequestError, match="`classes` must be from 0 to 2; got 3 instead"):
        generated(conditional, [0], [3])
    with pytest.raises(RequestError, match="`classes` must be left out"):
        generated(G, [0], [0])


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 9])
def test_graphs_change_no_image(G, conditional, noise_mode, batch_size):
    for network, classes in ((G, None), (conditional, [0, 2, 1, 1, 0, 2, 0, 2])):
        options = {"noise_mode": noise_mode, "truncation_psi": 0.6, "truncation_cutoff": 3}
        expected = generated(network, SEEDS, classes, **options).astype(int)
        sampler, capture = generate.Sampler(network, batch_size=batch_size, **options), StandIn()
        assert sampler.use_graphs(capture) is None
        state = torch.get_rng_state()
        for order in (slice(None), slice(None, None, -1), slice(2, 7)):  # of each the last batch may be smaller
            found = np.stack(list(sampler(SEEDS[order], classes and classes[order])))
            apart = abs(found - expected[order])
            assert apart.max() <= (0 if batch_size == 1 else 1) and (apart > 0).mean() < 0.01
        assert torch.equal(torch.get_rng_state(), state)
        batches = sum(-(-count // batch_size) for count in (8, 8, 5))
        runs = ["warm up"] * WARM_UP + ["capture"] + ["replay"] * (batches - WARM_UP)
        assert capture.calls == runs


def test_a_graph_reads_the_same_memory_and_has_one_size(G, monkeypatch):
    sampler, seen = generate.Sampler(G, noise_mode="random", batch_size=3), []
    sampler.use_graphs(StandIn())
    synthesis = G.synthesis.forward
    monkeypatch.setattr(
        G.synthesis, "forward", lambda ws, mode, noises: seen.append((ws, *noises)) or synthesis(ws, mode, noises)
    )
    assert len(list(sampler(SEEDS))) == 8 and len(list(sampler(SEEDS[:1]))) == 1
    assert len(seen) == 4 and {len(x) for inputs in seen for x in inputs} == {3}
    for noises in zip(*(inputs[1:] for inputs in seen), strict=True):
        assert len({noise.data_ptr() for noise in noises}) == 1
    assert generate.Sampler(G).use_graphs() == "they need a CUDA GPU"


def test_graphs_that_cannot_be_are_told(tiny_run, tmp_path):
    images = []
    for option in ("--no-cuda-graphs", "--cuda-graphs"):
        out = tmp_path / option
        outcome = run_salon("generate", tiny_run, "--seeds", "0-2", "--out", out, "--device", "cpu", option)
        assert outcome.code == 0
        assert ("CUDA graphs: no, they need a CUDA GPU\n" in outcome.err) == (option == "--cuda-graphs")
        images.append([file.read_bytes() for file in sorted(out.iterdir())])
    assert images[0] == images[1] and len(images[0]) == 3


def test_a_half_used_generator_leaves_gradients_on():
    G = Generator(NetworkConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=4))
    images = generate.generate(G, [0, 1, 2])
    next(images)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
