"""The weight cache changes no image, and keeps nothing of weights that may change."""

import numpy as np
import torch

from gan.config import NetworkConfig
from gan.networks.generator import Generator
from gan.ops.weight_cache import WeightCache, cached, cast
from gan.sampling import generate

NETWORK = NetworkConfig(resolution=32, z_dim=16, w_dim=16, mapping_layers=1, channel_base=2048, channel_max=64)


def test_images_are_the_same_and_each_weight_is_prepared_once():
    torch.manual_seed(0)
    G, z, cache = Generator(NETWORK), torch.ones(1, 16), WeightCache()
    with torch.inference_mode():
        expected = G(z, noise_mode="const")
        with cache:
            first = G(z, noise_mode="const")
        kept = dict(cache._kept)
        with cache:
            again = G(z, noise_mode="const")
    torch.testing.assert_close(first, expected)
    assert torch.equal(again, first)
    assert kept and kept.keys() == cache._kept.keys()
    assert all(cache._kept[key][1] is kept[key][1] for key in kept)


def test_images_follow_an_optimizer_step():
    torch.manual_seed(0)
    G = Generator(NETWORK)
    before = np.stack(list(generate.generate(G, [0, 1, 2])))
    optimizer = torch.optim.Adam(G.parameters(), 0.1, fused=True)
    G(torch.ones(1, 16)).square().sum().backward()
    optimizer.step()
    after = np.stack(list(generate.generate(G, [0, 1, 2])))
    fresh = Generator(NETWORK)
    fresh.load_state_dict(G.state_dict())
    assert np.array_equal(after, np.stack(list(generate.generate(fresh, [0, 1, 2]))))
    assert not np.array_equal(after, before)


def test_nothing_is_kept_outside_with_gradients_or_of_other_tensors():
    weight, made = torch.nn.Parameter(torch.ones(3)), []

    def make():
        made.append(1)
        return weight * 2

    cached(weight, "twice", make)
    with WeightCache():
        cached(weight, "twice", make)  # a gradient may be asked for
        with torch.no_grad():
            cached(weight.detach(), "twice", make)
            cached(weight.detach(), "twice", make)
            assert len(made) == 4
            assert cached(weight, "twice", make) is cached(weight, "twice", make)
    assert len(made) == 5


def test_a_cache_that_is_left_gives_way_to_the_one_before():
    weight, made = torch.nn.Parameter(torch.ones(3)), []

    def make():
        made.append(1)
        return weight * 2

    outer, inner = WeightCache(), WeightCache()
    with torch.no_grad():
        with outer:
            first = cached(weight, "twice", make)
            with inner:
                second = cached(weight, "twice", make)
                with outer:
                    assert cached(weight, "twice", make) is first
                assert cached(weight, "twice", make) is second is not first
            assert cached(weight, "twice", make) is first
            assert cached(weight, "other", make) is not first
        assert cached(weight, "twice", make) is not first
    assert len(made) == 4


def test_a_weight_is_cast_once_to_each_dtype():
    weight = torch.nn.Parameter(torch.ones(3))
    with torch.no_grad(), WeightCache():
        for dtype in (torch.float16, torch.bfloat16):
            found = cast(weight, dtype)
            assert found.dtype == dtype and cast(weight, dtype) is found
        assert cast(weight, torch.float32) is weight
