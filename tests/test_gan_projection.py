"""Searching for a picture's latents and tuning a generator around them, by a distance that costs nothing."""

import math

import numpy as np
import pytest
import torch

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.projection import latent_space, noise_maps
from gan.projection.problem import Problem
from gan.projection.request import SearchRequest, TuningRequest
from gan.projection.search import RAMP_DOWN, noise_scale, rate, search
from gan.projection.tuning import tune, with_noises
from gan.sampling.generate import map_seeds


def blurred(target):
    """A distance that sees 2x2 pixels at a time."""
    low = torch.nn.functional.avg_pool2d
    return lambda img: (low(img, 2) - low(target, 2)).square().mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def generators():
    """make(**fields) -> an untrained generator, of 8x8 images or other fields of its config, and its LatentSpace."""
    made = {}

    def make(**fields):
        key = str(fields)
        if key not in made:
            torch.manual_seed(1)
            sizes = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
            G = Generator(NetworkConfig(**{"resolution": 8, **sizes, **fields})).eval().requires_grad_(False)
            for layer in G.synthesis.layers:
                layer.noise_strength.fill_(0.1)
            made[key] = G, latent_space.measure(G, 1 if G.config.num_classes else None)
        return made[key]

    return make


def problem_of(made, seed=3):
    """The picture that a generator makes of a seed."""
    G, space = made
    index = 1 if G.config.num_classes else None
    target = G.synthesis(map_seeds(G, [seed], None if index is None else [index]).clone(), "const")
    return Problem(G, target, blurred, index, space)


def loss_of(problem, found):
    with torch.no_grad():
        return float(problem.loss(problem.G.synthesis(found.ws, "const", found.noises)))


def test_the_latent_space_is_that_of_the_class(generators):
    G, space = generators(num_classes=2)
    z = torch.randn([20_000, 8], generator=torch.Generator().manual_seed(7))
    w = G.mapping(z, torch.nn.functional.one_hot(torch.ones(20_000, dtype=torch.int64), 2).float())[:, 0].double()
    assert float((w.mean(0) - space.w_avg).norm()) < 0.05 * space.w_std
    assert space.w_std == pytest.approx(float((w - w.mean(0)).square().sum(1).mean().sqrt()), rel=0.02)
    other = latent_space.measure(G, 0)
    assert not torch.allclose(other.w_avg, space.w_avg, atol=1e-3)
    first, second = (latent_space.start(G, space, 5, number, 1) for number in (0, 1))
    assert torch.equal(first[0], space.w_avg)
    seed = map_seeds(G, [6], [1])[0, 0]
    torch.testing.assert_close(second[0], space.w_avg + 0.7 * (seed - space.w_avg))


@pytest.mark.parametrize(
    "fields", [{}, {"num_classes": 2}, {"image_channels": 1}, {"image_channels": 4}, {"base": (6, 4)}], ids=str
)
def test_an_image_of_the_generators_own_is_found(generators, fields):
    problem = problem_of(generators(**fields))
    found = search(problem, SearchRequest(steps=150))
    average = problem.space.w_avg.expand(1, problem.G.config.num_ws, -1)
    assert found.loss == pytest.approx(loss_of(problem, found), rel=1e-5)
    assert found.loss < 0.05 * float(problem.loss(problem.G.synthesis(average, "const")))
    assert bool((found.ws == found.ws[:, :1]).all()) and found.steps == 150 and found.noises is None


def test_more_steps_and_more_latents_come_nearer(generators):
    problem = problem_of(generators())
    losses = [search(problem, SearchRequest(steps=steps)).loss for steps in (5, 20, 60)]
    assert losses[0] > losses[1] > losses[2]
    problem.target = problem.target.flip(3)  # which the generator never made
    problem = Problem(problem.G, problem.target, blurred, space=problem.space)
    w, wplus = (search(problem, SearchRequest(steps=80, space=space)) for space in ("w", "w+"))
    assert wplus.loss < 0.9 * w.loss and not bool((wplus.ws == wplus.ws[:, :1]).all())


def test_the_same_seed_finds_the_same_and_the_best_start_is_kept(generators):
    problem = problem_of(generators())
    before = {name: tensor.clone() for name, tensor in problem.G.state_dict().items()}
    request = SearchRequest(steps=12, starts=3, seed=5)
    found, again = (search(problem, request) for _ in range(2))
    assert torch.equal(found.ws, again.ws) and found.loss == again.loss
    assert not torch.equal(found.ws, search(problem, SearchRequest(steps=12, starts=3, seed=50)).ws)
    # The first starts are the same whatever their number, so that one more never makes it worse.
    better = 0
    for seed in (5, 6, 7):
        losses = [search(problem, SearchRequest(steps=8, starts=starts, seed=seed)).loss for starts in (1, 2, 3)]
        assert losses == sorted(losses, reverse=True)
        better += losses[2] < losses[0]
    assert better
    assert all(torch.equal(tensor, before[name]) for name, tensor in problem.G.state_dict().items())


def test_a_stopped_search_gives_the_best_so_far(generators):
    problem, told = problem_of(generators()), []
    request = SearchRequest(steps=50, starts=2)
    watch = lambda step, ws: told.append((step, ws.clone()))  # noqa: E731
    found = search(problem, request, stopped=lambda: len(told) >= 20, watch=watch)
    assert [step for step, _ in told] == list(range(1, 21)) and found.steps == 20 and found.start == 0
    assert torch.equal(found.ws, told[-1][1]) and found.loss == pytest.approx(loss_of(problem, found), rel=1e-5)
    assert len(search(problem, SearchRequest(steps=130)).path) == 120
    never = search(problem, request, stopped=lambda: True)
    assert never.steps == 1


def test_the_schedules_are_those_of_the_paper():
    assert rate(0.025) == pytest.approx(0.5) and rate(0.5) == 1 and rate(1) == 0
    assert rate(1 - RAMP_DOWN / 2) == pytest.approx(0.5 - 0.5 * math.cos(math.pi / 2))
    assert noise_scale(0) == 0.05 and noise_scale(0.375) == pytest.approx(0.05 / 4)
    assert noise_scale(0.75) == noise_scale(1) == 0


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (16, 16), (64, 64), (32, 48), (20, 16)])
def test_the_regularization_of_noise_is_its_formula(shape):
    noise = np.random.default_rng(0).standard_normal(shape)
    noise[1:] += 0.5 * noise[:-1]  # no noise
    expected, level = 0.0, noise
    while True:
        across = sum(level[y, x] * level[y, x - 1] for y in range(level.shape[0]) for x in range(level.shape[1]))
        down = sum(level[y, x] * level[y - 1, x] for y in range(level.shape[0]) for x in range(level.shape[1]))
        expected += (across / level.size) ** 2 + (down / level.size) ** 2
        if min(level.shape) // 2 < 8:
            break
        a, b, c, d = (level[y::2, x::2] for y in (0, 1) for x in (0, 1))
        level = (a + b + c + d) / 2  # twice the mean
    maps = [torch.from_numpy(noise)[None, None].requires_grad_(True)]
    torch.testing.assert_close(float(noise_maps.regularization(maps).detach()), expected, rtol=1e-10, atol=0)
    if noise.size <= 64:
        assert torch.autograd.gradcheck(lambda one: noise_maps.regularization([one]), maps)


def test_noise_maps_that_are_searched_for_stay_noise(generators):
    problem = problem_of(generators(resolution=16))
    own = [layer.noise_const.clone() for layer in problem.G.synthesis.layers]
    found = search(problem, SearchRequest(steps=60, noise="search"))
    assert [noise.shape[2:] for noise in found.noises] == [noise.shape for noise in own]
    for noise in found.noises:
        assert float(noise.mean()) == pytest.approx(0, abs=1e-5)
        assert float(noise.square().mean()) == pytest.approx(1, abs=1e-4)
    assert float(noise_maps.regularization(found.noises[-1:])) < 0.02
    copied = with_noises(problem.G, found.noises)
    with torch.no_grad():
        images = [problem.G.synthesis(found.ws, "const", found.noises), copied.synthesis(found.ws, "const")]
    torch.testing.assert_close(*images)
    assert all(torch.equal(layer.noise_const, n) for layer, n in zip(problem.G.synthesis.layers, own, strict=True))


def test_tuning_shows_the_picture_and_moves_other_images_little(generators):
    problem = problem_of(generators())
    problem = Problem(problem.G, problem.target.flip(2), blurred, space=problem.space)
    found = search(problem, SearchRequest(steps=60))
    ws, before = found.ws, {name: tensor.clone() for name, tensor in problem.G.state_dict().items()}
    seeds = list(range(20, 36))

    def tuned(locality, steps=45):
        result = tune(problem, ws, TuningRequest(tune=steps, tune_learning_rate=3e-3, locality=locality))
        with torch.no_grad():
            others = map_seeds(problem.G, seeds).clone()
            moved = (result.G.synthesis(others, "const") - problem.G.synthesis(others, "const")).square().mean()
            return result, float(problem.loss(result.G.synthesis(ws, "const"))), float(moved)

    free, held, firm = tuned(0), tuned(1), tuned(10)
    assert max(free[1], held[1]) < 0.4 * found.loss
    assert firm[2] < held[2] < free[2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in problem.G.state_dict().items())
    assert torch.equal(held[0].G.mapping.fc0.weight, problem.G.mapping.fc0.weight)
    again = tuned(1)[0]
    pairs = zip(held[0].G.state_dict().values(), again.G.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(parameter.requires_grad for parameter in again.G.parameters())
    assert held[0].steps == 45 and len(held[0].path) == 30 and held[0].path[0].shape == (8, 8, 3)
    stopped = tune(problem, ws, TuningRequest(tune=9), stopped=lambda: True)
    assert stopped.steps == 1


@pytest.mark.parametrize(
    ("kind", "fields", "parameter"),
    [
        (SearchRequest, {"space": "z"}, "`space`"),
        (SearchRequest, {"noise": "none"}, "`noise`"),
        (SearchRequest, {"steps": 0}, "`steps`"),
        (SearchRequest, {"starts": 0}, "`starts`"),
        (SearchRequest, {"seed": 2**32}, "`seed`"),
        (SearchRequest, {"learning_rate": math.nan}, "`learning_rate`"),
        (TuningRequest, {"tune": -1}, "`tune`"),
        (TuningRequest, {"tune_learning_rate": 0}, "`tune_learning_rate`"),
        (TuningRequest, {"locality": math.inf}, "`locality`"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(kind, fields, parameter):
    with pytest.raises(RequestError, match=parameter):
        kind(**fields)


def test_a_picture_of_another_shape_is_refused(generators):
    G, space = generators()
    with pytest.raises(RequestError, match=r"`target` .* \[1, 3, 8, 8\]; got \[1, 1, 8, 8\]"):
        Problem(G, torch.zeros([1, 1, 8, 8]), blurred, space=space)
