"""Losses and moving averages against closed forms."""

import math

import pytest
import torch
from torch import nn

from gan.training import ema, losses


def test_logistic_losses():
    logits = torch.tensor([[-2.0], [0.0], [3.0]])
    expected = [math.log(1 + math.exp(x)) for x in (2, 0, -3)]
    assert losses.generator_loss(logits).flatten().tolist() == pytest.approx(expected)
    real, gen = losses.discriminator_loss(logits, -logits)
    assert real.flatten().tolist() == pytest.approx(expected) and torch.equal(real, gen)


def test_r1_penalty_of_a_quadratic():
    # D(x) = a/2 ||x||^2 + 5 has gradient a x, so the penalty is a^2 ||x||^2 and its derivative by a is 2 a ||x||^2.
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    penalty = losses.r1_penalty(x, a / 2 * x.square().sum([1, 2, 3])[:, None] + 5)
    torch.testing.assert_close(penalty, a.detach() ** 2 * x.detach().square().sum([1, 2, 3]))
    (gradient,) = torch.autograd.grad(penalty.sum(), a)
    torch.testing.assert_close(gradient, 2 * a.detach() * x.detach().square().sum())


def test_path_lengths_of_a_linear_generator():
    # img = J w for each layer's w: the norm of J^T y / sqrt(HW), averaged in square over layers.
    torch.manual_seed(0)
    J = torch.randn(3 * 16, 5, dtype=torch.float64, requires_grad=True)
    ws = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    scales = torch.tensor([1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
    img = ((ws * scales[None, :, None]).sum(dim=1) @ J.t()).reshape(2, 3, 4, 4)
    noise = torch.randn_like(img)
    lengths = losses.path_lengths(img, ws, noise)
    per_layer = (noise.flatten(1) @ J).norm(dim=1) / 4
    torch.testing.assert_close(lengths, per_layer * scales.square().mean().sqrt())
    assert torch.autograd.grad(lengths.sum(), J)[0].abs().sum() > 0


def test_path_length_penalty_follows_the_mean():
    penalty, mean = losses.path_length_penalty(torch.tensor([1.0, 3.0]), torch.tensor(0.0), decay=0.5)
    assert mean.item() == 1 and penalty.tolist() == [0, 4]


def test_path_length_penalty_has_its_gradient_through_the_mean_whole_or_in_parts():
    lengths = torch.tensor([1.0, 3.0, 2.0, 8.0], dtype=torch.float64, requires_grad=True)
    old, decay = torch.tensor(4.0, dtype=torch.float64), 0.5
    by_hand = (lengths - old.lerp(lengths.mean(), decay)).square()
    expected = torch.autograd.grad(by_hand.sum(), lengths)[0]
    for parts in ([lengths], lengths.split(2), lengths.split([1, 3])):
        outcomes = [losses.path_length_penalty(part, old, decay, lengths.detach().mean()) for part in parts]
        assert all(mean.item() == 3.75 and not mean.requires_grad for _, mean in outcomes)
        penalty = torch.cat([penalty for penalty, _ in outcomes])
        torch.testing.assert_close(penalty, by_hand)
        torch.testing.assert_close(torch.autograd.grad(penalty.sum(), lengths, retain_graph=True)[0], expected)
    torch.testing.assert_close(losses.path_length_penalty(lengths, old, decay)[0], by_hand)


def test_ema_half_life_is_half():
    old, new = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    old.weight.data.fill_(0)
    new.weight.data.fill_(1)
    for _ in range(10):
        ema.update(old, new, batch_size=100, half_life=1000)
    assert old.weight.item() == pytest.approx(0.5)
    ema.update(old, new, batch_size=1, half_life=0.5)
    assert old.weight.item() == pytest.approx(0.875)
    ema.update(old, new, batch_size=100, half_life=0)
    assert old.weight.item() == 1


def test_ema_ramps_up_and_copies_buffers():
    assert ema.half_life(10, 0.05, 1000) == 50
    assert ema.half_life(10, 0.05, 10**9) == 10_000
    assert ema.half_life(10, None, 0) == 10_000
    old, new = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    new.running_mean.fill_(7)
    ema.update(old, new, 1, 100)
    assert old.running_mean.item() == 7
