"""One iteration of training: schedule, optimizers, and what makes it stop."""

import numpy as np
import pytest
import torch

from gan.config import make_config
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.training.learner import Learner, NonFiniteError
from gan.training.microbatches import divide

TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8, "batch_size": 4}
CPU = torch.device("cpu")


def learner(num_classes=0, labels=None, batch_gpu=None, **overrides):
    overrides = {**TINY, **overrides}
    config = make_config(
        preset="tiny", shape=ImageShape(16, 16), num_classes=num_classes, dataset="d", overrides=overrides
    )
    return Learner(config, CPU, labels, batch_gpu=batch_gpu)


def batch(seed=0, size=4):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, [size, 3, 16, 16], generator=generator, dtype=torch.uint8)
    return pixels, torch.arange(size) % 2


def test_lazy_regularisation_runs_on_its_intervals():
    subject = learner(pl_interval=2, r1_interval=3)
    keys = [set(subject.step(*batch())) for _ in range(6)]
    assert ["r1/penalty" in k for k in keys] == [True, False, False, True, False, False]
    assert ["path_length/mean" in k for k in keys] == [True, False, True, False, True, False]
    assert subject.cur_nimg == 24 and subject.iteration == 6


def test_adam_is_corrected_for_lazy_regularisation():
    group = learner(r1_interval=16, learning_rate=0.002, beta2=0.99).D_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 16 / 17) and group["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))
    plain = learner(pl_weight=0.0, learning_rate=0.002).G_optimizer.param_groups[0]
    assert plain["lr"] == 0.002 and plain["betas"] == (0, 0.99)


def test_each_step_moves_only_its_own_network():
    subject = learner(pl_weight=0.0, r1_gamma=0.0)
    before = {n: [p.clone() for p in getattr(subject, n).parameters()] for n in ("G", "D")}
    subject._generator_step()
    assert all(torch.equal(a, b) for a, b in zip(before["D"], subject.D.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before["G"], subject.G.parameters(), strict=True))
    before["G"] = [p.clone() for p in subject.G.parameters()]
    subject._discriminator_step(torch.zeros(4, 3, 16, 16), None)
    assert all(torch.equal(a, b) for a, b in zip(before["G"], subject.G.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before["D"], subject.D.parameters(), strict=True))


def test_discriminator_learns_to_tell_apart():
    subject = learner(learning_rate=0.01)
    pixels = torch.full([4, 3, 16, 16], 255, dtype=torch.uint8)
    stats = [subject.step(pixels, torch.zeros(4, dtype=torch.long)) for _ in range(12)]
    assert stats[0]["loss/D"] == pytest.approx(2 * np.log(2), abs=0.3)
    assert stats[-1]["logits/real"] > stats[-1]["logits/generated"]


def test_state_round_trip_continues_to_the_bit():
    straight = learner(style_mixing_prob=0.5)
    for i in range(5):
        straight.step(*batch(i))
    broken = learner(style_mixing_prob=0.5)  # seeds the generator anew
    for i in range(2):
        broken.step(*batch(i))
    state = broken.state_dict()
    resumed = learner(style_mixing_prob=0.5)
    torch.manual_seed(999)
    resumed.load_state_dict(state)
    for i in range(2, 5):
        resumed.step(*batch(i))
    for name in ("G", "D", "G_ema"):
        a, b = getattr(straight, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    assert torch.equal(straight.pl_mean, resumed.pl_mean) and straight.cur_nimg == resumed.cur_nimg


def test_classes_condition_training():
    labels = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    subject = learner(num_classes=2, labels=labels)
    stats = subject.step(*batch())
    assert all(torch.isfinite(v) for v in stats.values())
    c = subject.latents.draw(divide(1000)).c
    assert c.shape == (1000, 2) and c[:, 1].mean().item() == pytest.approx(0.9, abs=0.05)


def test_frozen_blocks_of_d_keep_still():
    subject = learner(freeze_d=1)
    before = {name: p.clone() for name, p in subject.D.named_parameters()}
    for iteration in range(2):
        subject.step(*batch(iteration))
    moved = {name for name, p in subject.D.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if name.startswith("b16.")} == before.keys() - moved
    with pytest.raises(RequestError, match="`freeze_d` must be at most 2, D's blocks above 4x4; got 3 instead"):
        learner(freeze_d=3)


def test_accumulated_gradients_learn_the_same(double):
    options = {"batch_size": 16, "num_classes": 2, "labels": np.arange(10) % 2, "r1_interval": 4, "pl_batch_shrink": 1}
    whole = learner(**options)  # seeds the generator that both draw from
    expected = [whole.step(*batch(iteration, 16)) for iteration in range(5)]
    parts = learner(**options, batch_gpu=4)
    assert [len(part.positions) for part in parts.microbatches + parts.pl_microbatches] == [4] * 8
    for iteration, stats in enumerate(expected):
        found = parts.step(*(images[parts.members] for images in batch(iteration, 16)))
        assert found.keys() == stats.keys()
        for name in found:
            assert found[name].item() == pytest.approx(stats[name].item(), rel=1e-9), (name, iteration)
    torch.testing.assert_close(parts.G.mapping.w_avg, whole.G.mapping.w_avg)
    torch.testing.assert_close(parts.pl_mean, whole.pl_mean)
    parts.load_state_dict(whole.state_dict())  # a run may go on with another --batch-gpu


def test_each_microbatch_is_augmented_from_a_seed_of_its_own_and_processes_stay_in_step(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    drawn, states = set(), set()
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        subject = learner(batch_size=16, batch_gpu=4, augment="fixed", augment_p=0.5)
        monkeypatch.setattr(subject, "augment", lambda img: drawn.add(torch.rand([]).item()) or img)
        for microbatch in subject.microbatches:
            subject._augment(torch.zeros(4, 3, 16, 16), microbatch)
        states.add(torch.get_rng_state().numpy().tobytes())
    assert len(drawn) == 4 and len(states) == 1


def test_bf16_is_for_the_networks_that_learn():
    subject = learner(precision="bf16")
    dtypes = set()
    for block in (subject.D.b16, subject.G.synthesis.b16):
        block.register_forward_pre_hook(lambda _, arguments: dtypes.add(arguments[0].dtype))
    subject.step(*batch())
    assert dtypes == {torch.bfloat16}
    assert subject.G_ema.synthesis.trunk_dtype is None  # it generates as its snapshots will


@pytest.mark.parametrize("network", ["G", "D"])
def test_a_bad_gradient_never_reaches_the_weights(network):
    subject = learner()
    subject.step(*batch())
    name, parameter = next(iter(getattr(subject, network).named_parameters()))
    parameter.data.view(-1)[0] = float("nan")
    before = {n: [p.clone() for p in getattr(subject, n).parameters()] for n in ("G", "D")}
    with pytest.raises(NonFiniteError, match=r"became nan in iteration 1"):
        subject.step(*batch())
    for n, parameters in before.items():
        assert all(
            torch.equal(a.nan_to_num(), b.nan_to_num())
            for a, b in zip(parameters, getattr(subject, n).parameters(), strict=True)
        ), name
