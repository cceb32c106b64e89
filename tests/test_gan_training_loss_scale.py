"""Training in float16: near the step of the papers, scales that cancel, steps that overflow, and what is an error."""

import copy
import json

import pytest
import torch
from test_gan_training_step import LABELS, PaperStep, batches, make_config

from gan.training import loss_scale
from gan.training.learner import Learner, NonFiniteError
from gan.training.logger import Means
from gan.training.loss_scale import FLOOR, LossScale, of_phases

CPU = torch.device("cpu")
PHASES = {"G": "G", "path_length": "G", "D": "D", "r1": "D"}  # the network that each moves
EVERY = {"pl_interval": 1, "r1_interval": 1, "precision": "fp16"}

both_ways = pytest.mark.parametrize("synchronous", [True, False])


def make_learner(config, *, synchronous=True, batch_gpu=None):
    labels = LABELS if config.network.num_classes else None
    return Learner(config, CPU, labels, batch_gpu=batch_gpu, synchronous=synchronous)


def train(learner, iterations=4):
    pairs = zip(range(iterations), batches(learner.config), strict=False)
    return [learner.step(*(images[learner.members] for images in batch)) for _, batch in pairs]


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def steps(learner, name):
    """Of the optimizer of G or D."""
    return next(iter(getattr(learner, f"{name}_optimizer").state_dict()["state"].values()))["step"].item()


def cosine(one, other):
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()


@both_ways
@pytest.mark.parametrize(("values", "batch_gpu"), [({}, None), ({"num_classes": 3, "batch_size": 8}, 4)])
def test_iterations_in_float16_are_near_those_of_the_papers(synchronous, values, batch_gpu):
    config = make_config(precision="fp16", style_mixing_prob=1.0, **values)
    learner = make_learner(config, synchronous=synchronous, batch_gpu=batch_gpu)
    learner.loss_scales["path_length"].scale.fill_(8)  # else the first steps overflow, and are skipped
    before = {name: weights(getattr(learner, name)) for name in "GD"}
    stats, reference = train(learner, 6), PaperStep(config)
    for actual, batch in zip(stats, batches(config), strict=True):
        for name, value in reference.step(*batch).items():
            assert actual[name].item() == pytest.approx(value.item(), rel=0.03, abs=1e-3), name
    for name in "GD":
        moved = weights(getattr(learner, name)) - before[name]
        assert cosine(moved, weights(getattr(reference, name)) - before[name]) > 0.98
    assert learner.pl_mean.item() == pytest.approx(reference.pl_mean.item(), rel=0.01)
    assert learner.loss_scales["G"].scale == 2**16 and stats[0]["loss_scale/path_length"] == 8


@pytest.mark.parametrize(("synchronous", "batch_gpu"), [(True, 4), (False, None)])
def test_scales_cancel_to_the_bit(synchronous, batch_gpu):
    config = make_config(batch_size=8)
    plain = make_learner(config, synchronous=synchronous, batch_gpu=batch_gpu)
    expected = train(plain)
    scaled = make_learner(config, synchronous=synchronous, batch_gpu=batch_gpu)
    scaled.loss_scales = of_phases(CPU)
    found = train(scaled)
    for name in ("G", "D", "G_ema"):
        assert torch.equal(weights(getattr(plain, name)), weights(getattr(scaled, name))), name
    for name in "GD":
        states = [getattr(learner, f"{name}_optimizer").state_dict()["state"] for learner in (plain, scaled)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    assert torch.equal(plain.pl_mean, scaled.pl_mean)
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        assert {f"loss_scale/{name}" for name in PHASES} >= other.keys() - one.keys() > set()


@both_ways
@pytest.mark.parametrize("phase", PHASES)
def test_a_step_that_overflows_is_skipped_and_halves_the_scale(synchronous, phase):
    learner = make_learner(make_config(**EVERY), synchronous=synchronous)
    network = PHASES[phase]
    for scale in learner.loss_scales.values():
        scale.scale.fill_(8)
    train(learner, 1)
    scale = learner.loss_scales[phase]
    scale.scale.fill_(2.0**30)  # float16 ends at 2^16: these gradients are infinite, and so are penalties of them
    before, mean, count = weights(getattr(learner, network)), learner.pl_mean.clone(), steps(learner, network)
    others = {name: other.scale.item() for name, other in learner.loss_scales.items() if name != phase}
    run = {"G": learner._generator_step, "path_length": learner._path_length_step}
    real = torch.rand(4, 3, 8, 8) * 2 - 1
    run |= {
        name: lambda f=f: f(real, None) for name, f in (("D", learner._discriminator_step), ("r1", learner._r1_step))
    }
    skipped, state = 0, torch.get_rng_state()
    while True:
        at = scale.scale.item()
        torch.set_rng_state(state)  # the same step again
        run[phase]()
        learner.require_finite()
        if not scale.found_inf:
            break
        skipped += 1
        assert scale.scale == at / 2
        assert torch.equal(weights(getattr(learner, network)), before) and torch.equal(learner.pl_mean, mean)
        assert steps(learner, network) == count
    assert skipped >= 1 and scale.scale == at
    assert not torch.equal(weights(getattr(learner, network)), before) and steps(learner, network) == count + 1
    assert others == {name: other.scale.item() for name, other in learner.loss_scales.items() if name != phase}
    assert torch.equal(learner.pl_mean, mean) is (phase != "path_length")
    train(learner, 1)
    learner.require_finite()
    assert steps(learner, network) > count + 1 and weights(learner.G).isfinite().all()


def test_after_many_good_steps_in_a_row_the_scale_doubles(monkeypatch):
    monkeypatch.setattr(loss_scale, "INTERVAL", 3)
    scale, seen = LossScale(CPU), []
    for norm in (1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 1.0):
        scale.check({"gradient": torch.tensor(norm)})
        scale.update()
        seen.append(scale.scale.item() / loss_scale.INITIAL)
    assert seen == [1, 1, 0.5, 0.5, 0.5, 1, 1]


@both_ways
def test_a_gradient_that_overflows_at_the_least_scale_is_an_error(synchronous):
    learner = make_learner(make_config(precision="fp16", r1_gamma=0.0, pl_weight=0.0), synchronous=synchronous)
    train(learner, 1)
    learner.loss_scales["D"].scale.fill_(FLOOR * 2)
    learner.D.b4.out.bias.requires_grad_(True).register_hook(lambda gradient: gradient * float("inf"))
    before = weights(learner.D)
    train(learner, 1)
    learner.require_finite()
    assert learner.loss_scales["D"].scale == FLOOR
    with pytest.raises(NonFiniteError, match=r"^gradient became (nan|inf) in iteration 2$"):
        train(learner, 1)
        learner.require_finite()
    assert torch.equal(weights(learner.D), before)


@both_ways
def test_a_loss_that_is_not_finite_is_an_error(synchronous):
    learner = make_learner(make_config(**EVERY), synchronous=synchronous)
    train(learner, 1)
    learner.G.synthesis.b4.const.data[0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"^loss/G became nan in iteration 1$"):
        train(learner, 1)
        learner.require_finite()


@both_ways
def test_the_scales_resume_to_the_bit_and_old_checkpoints_load(synchronous, monkeypatch):
    monkeypatch.setattr(loss_scale, "INTERVAL", 3)  # so that what was counted before matters
    config = make_config(precision="fp16")
    straight = make_learner(config, synchronous=synchronous)
    expected = train(straight)
    halves = make_learner(config, synchronous=synchronous)
    train(halves, 2)
    state = copy.deepcopy(halves.state_dict())
    resumed = make_learner(config, synchronous=synchronous)
    resumed.load_state_dict(state)
    found = [resumed.step(*batch) for batch in list(batches(config))[2:4]]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(found, expected[2:], strict=True) for name in a)
    assert torch.equal(weights(straight.G), weights(resumed.G)) and torch.equal(weights(straight.D), weights(resumed.D))
    assert len({stats["loss_scale/G"].item() for stats in expected}) > 1
    del state["loss_scales"]
    old = make_learner(config, synchronous=synchronous)
    old.load_state_dict(state)
    assert old.loss_scales["G"].scale == loss_scale.INITIAL


def test_the_means_of_a_tick_leave_out_what_overflowed():
    means = Means()
    for value in (1.0, float("inf"), float("nan"), 2.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(float("inf"))})
    assert json.dumps(means.take()) == '{"a": 1.5}'
