"""How augmentation adapts and where it acts: the controller, the learner, DiffAugment, the command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon
from torch.autograd import gradgradcheck

from gan.augment import ada, diffaugment
from gan.augment.ada import AdaController, Augmentation, LeakWarning
from gan.config import make_config, parse_override
from gan.data import images
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.training import checkpoint
from gan.training.learner import Learner
from gan.training.run_dir import Run

TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8, "batch_size": 4}
CPU = torch.device("cpu")


def config(**overrides):
    return make_config(
        preset="tiny", shape=ImageShape(16, 16), num_classes=0, dataset="d", overrides={**TINY, **overrides}
    )


def learner(**overrides):
    return Learner(config(**overrides), CPU)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, [4, 3, 16, 16], generator=generator, dtype=torch.uint8), torch.zeros(4).long()


def signs(share_positive, n=100):
    """n logits, this share of them positive."""
    return torch.where(torch.arange(n)[:, None] < share_positive * n, 0.3, -7.0)


# The controller


def test_controller_moves_towards_the_target_by_the_images_seen_and_only_after_an_interval():
    controller = AdaController(p=0.5, target=0.6, interval=2, kimg=1)
    moves = []
    for iteration, share in enumerate([1.0, 0.8, 0.8, 0.7, 0.8, 0.8], start=1):
        controller.observe(signs(share, 10))
        controller.update(iteration)
        moves.append(controller.p)
    # 20 of 1000 images: up for r_t = 0.8, down for 0.5, and not at all for 0.6 exactly
    assert moves == pytest.approx([0.5, 0.52, 0.52, 0.5, 0.5, 0.5])


def test_controller_keeps_no_graph_of_d():
    controller = AdaController(p=0.5, target=0.6, interval=2, kimg=1)
    controller.observe(torch.ones(4, 1, requires_grad=True))
    controller.update(1)
    assert not controller.state_dict()["signs"].requires_grad


@pytest.mark.parametrize(("share", "start", "end"), [(1.0, 0.9, 1.0), (0.0, 0.1, 0.0)])
def test_p_stays_within_0_and_1(share, start, end):
    controller = AdaController(p=start, target=0.6, interval=1, kimg=0.35)
    seen = []
    for iteration in range(1, 9):
        controller.observe(signs(share))
        controller.update(iteration)
        seen.append(controller.p)
    assert min(seen) >= 0 and max(seen) <= 1 and seen[-1] == end


def test_controller_finds_the_p_that_holds_the_target():
    torch.manual_seed(0)
    controller = AdaController(p=0.0, target=0.6, interval=4, kimg=20)
    path = []
    for iteration in range(1, 2001):
        overfitting = 0.9 - 0.5 * controller.p  # r_t of a simulated D, which augmentation brings down
        controller.observe((torch.rand(32, 1) < (1 + overfitting) / 2).float() - 0.5)
        controller.update(iteration)
        path.append(controller.p)
    assert np.mean(path[-500:]) == pytest.approx(0.6, abs=0.05)
    assert max(path[: 20_000 // 32 // 4]) < 0.4  # kimg bounds the speed


def test_a_controller_without_logits_does_nothing():
    controller = AdaController(p=0.5, target=0.6, interval=1, kimg=1)
    controller.update(1)
    controller.observe(torch.zeros(0, 1))
    controller.update(2)
    assert controller.p == 0.5


def test_leaks_are_warned_of_once(monkeypatch):
    said = []
    monkeypatch.setattr(ada, "say", said.append)
    leaks = LeakWarning()
    for p in [0.9] * 19 + [0.8] + [0.9] * 19:
        leaks.tick(p)
    assert said == []
    leaks.tick(0.81)  # the 20th in a row
    assert len(said) == 1 and "leak" in said[0]
    for p in [0.9, 0.1] + [0.9] * 50:
        leaks.tick(p)
    assert len(said) == 1


# In the learner


def test_with_none_nothing_happens_and_nothing_is_drawn():
    subject, state, img = Augmentation(config()), torch.get_rng_state(), torch.zeros(4, 3, 16, 16)
    assert subject(img) is img and subject.observe(torch.ones(4, 1)) == {} and subject.state_dict() == {}
    assert torch.equal(torch.get_rng_state(), state)


def test_r_t_is_the_mean_sign_and_p_is_0_where_there_is_none():
    logits = torch.tensor([[3.0], [-0.5], [0.25], [7.0]])
    for kind, p in (("fixed", 0.25), ("ada", 0.25), ("diffaugment", 0.0)):
        subject = Augmentation(config(augment=kind, augment_p=p))
        assert subject.observe(logits)["augment/rt"] == 0.5 and subject.p == p
    assert Augmentation(config()).p == 0


@pytest.mark.parametrize("kind", ["ada", "fixed", "diffaugment"])
def test_all_images_that_d_sees_are_augmented(kind, monkeypatch):
    subject = learner(augment=kind, augment_p=0.5 if kind != "diffaugment" else 0.0)
    seen = []
    subject.D.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    monkeypatch.setattr(subject.augment, "pipe", lambda img, p: img * 0 + p)
    monkeypatch.setattr(ada, "diff_augment", lambda img: img * 0 + 0.25)
    subject.step(*batch())
    assert len(seen) == 4  # G, D on generated, D on real, R1
    assert all((img == (0.25 if kind == "diffaugment" else 0.5)).all() for img in seen)


def test_r1_differentiates_through_the_augmentation(monkeypatch):
    subject = learner(augment="fixed", augment_p=0.5, learning_rate=0)
    pixels, classes = batch()
    doubled = (images.to_float(pixels) * 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(subject.D(doubled, None).sum(), doubled)
    monkeypatch.setattr(subject.augment, "pipe", lambda img, p: img * 2)
    penalty = subject.step(pixels, classes)["r1/penalty"]
    assert penalty.item() == pytest.approx(4 * gradient.square().sum([1, 2, 3]).mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["fixed", "diffaugment"])
def test_kinds_that_do_not_adapt(kind):
    subject = learner(augment=kind, **({"augment_p": 0.3} if kind == "fixed" else {}))
    stats = [subject.step(*batch(i)) for i in range(4)]
    assert all(-1 <= s["augment/rt"] <= 1 for s in stats) and subject.augment.state_dict() == {}
    assert [s.get("augment/p") for s in stats] == [0.3 if kind == "fixed" else None] * 4


def test_resume_with_ada_is_exact_even_within_an_interval():
    options = {"augment": "ada", "ada_target": -1.0, "ada_kimg": 0.1, "augment_p": 0.4, "ada_interval": 4}
    straight = learner(**options)
    stats = [straight.step(*batch(i)) for i in range(10)]
    ps = [s["augment/p"].item() for s in stats]
    assert ps[:4] == pytest.approx([0.4] * 4) and ps[4] == ps[7] == pytest.approx(0.56) and ps[8] > ps[7]
    broken = learner(**options)
    for i in range(6):
        broken.step(*batch(i))
    state = broken.state_dict()
    resumed = learner(**options)
    torch.manual_seed(999)
    resumed.load_state_dict(state)
    for i in range(6, 10):
        resumed.step(*batch(i))
    assert resumed.augment.p == straight.augment.p
    for name in ("G", "D", "G_ema"):
        a, b = getattr(straight, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_states_of_runs_that_augmented_otherwise_load():
    plain, adapting = learner().state_dict(), learner(augment="ada", augment_p=0.4).state_dict()
    subject = learner(augment="ada", augment_p=0.1)
    subject.load_state_dict(plain)
    assert subject.augment.p == 0.1
    subject.load_state_dict({k: v for k, v in plain.items() if k != "augment"})  # of a version without it
    assert subject.augment.p == 0.1
    subject.load_state_dict(adapting)
    assert subject.augment.p == 0.4
    fixed = learner(augment="fixed", augment_p=0.2)
    fixed.load_state_dict(adapting)
    assert fixed.augment.p == 0.2
    learner().load_state_dict(adapting)


# DiffAugment


def test_diffaugment_shifts_by_up_to_an_eighth_with_zeros():
    size, reach = 16, 2
    img = torch.rand(1, 3, size, size) + 0.1
    padded = np.pad(img[0].numpy(), ((0, 0), (reach, reach), (reach, reach)))
    shifts = {padded[:, y : y + size, x : x + size].tobytes() for y in range(5) for x in range(5)}
    torch.manual_seed(0)
    found = {image.numpy().tobytes() for image in diffaugment.translate(img.expand(500, -1, -1, -1))}
    assert found == shifts


def test_diffaugment_cuts_out_a_square():
    torch.manual_seed(0)
    for size in (16, 10):  # of even and of odd side
        hole = diffaugment.cut_out(torch.ones(500, 1, size, size))[:, 0] == 0
        assert hole.any(1).sum(1).max() == hole.any(2).sum(1).max() == size // 2
        assert torch.equal(hole, hole.any(1)[:, None, :] & hole.any(2)[:, :, None])
        assert hole.any(1).sum(1).min() == hole.any(2).sum(1).min() == size // 2 - size // 4  # its centre is inside
        assert hole[:, size // 2, size // 2].double().mean().item() == pytest.approx(0.25, abs=0.07)


def test_diffaugment_recolours_within_its_bounds(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.tensor([0.8, 0.25, 0.7]).view(3, 1, 1, 1, 1))
    img = torch.randn(1, 3, 4, 4)
    brighter = img.numpy() + 0.3
    grey = brighter.mean(1, keepdims=True)
    duller = grey + 0.5 * (brighter - grey)
    expected = duller.mean() + 1.2 * (duller - duller.mean())
    assert diffaugment.recolour(img).numpy() == pytest.approx(expected, abs=1e-6)


def test_diffaugment_changes_every_image_and_has_both_gradients():
    img = torch.rand(3, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert (diffaugment.diff_augment(img) != img).flatten(1).any(1).all()
    assert diffaugment.diff_augment(img[:0]).shape == (0, 3, 8, 8)

    def cubed(img):
        torch.manual_seed(0)
        return diffaugment.diff_augment(img) ** 3

    assert gradgradcheck(cubed, img, fast_mode=True)


# Config and command


def test_names_are_parsed_as_they_are():
    assert parse_override("augment=none") == ("augment", "none")
    assert parse_override("augment_categories=bgcf") == ("augment_categories", "bgcf")
    assert config().augment == "none" and config(augment="ada").augment_p == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augment": "all"}, "`augment` must be one of none, ada, fixed, diffaugment; got all"),
        ({"augment_categories": "x"}, "`augment_categories` must be one of blit"),
        ({"augment": "ada", "augment_p": 1.5}, r"`augment_p` must be in \[0, 1\]"),
        ({"augment_p": 0.5}, "`augment_p` needs `augment` ada or fixed; got `augment` none"),
        ({"augment": "fixed"}, "`augment` fixed needs `augment_p` above 0"),
        ({"ada_target": float("nan")}, r"`ada_target` must be in \[-1, 1\]"),
        ({"ada_interval": 0}, "`ada_interval` must be at least 1"),
        ({"ada_kimg": 0.0}, "`ada_kimg` must be above 0"),
    ],
)
def test_impossible_values_are_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        config(**overrides)


def only_checkpoint(runs: Path):
    (run,) = (path for path in runs.iterdir() if path.is_dir())
    return Run(run), checkpoint.load_newest(run / "checkpoints")[1]["learner"]


def test_the_command_trains_and_resumes_with_ada(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, *TINY_TRAINING, "--augment", "ada", "--augment-p", "0.5"]
    train += ["--ada-target", "-1", "--set", "ada_kimg=0.1", "--set", "ada_interval=3", "--image-snapshot-ticks", "0"]
    for out, kimg in (("straight", 0.064), ("broken", 0.032), ("broken", 0.064)):
        outcome = run_salon(*train, "--out", tmp_path / out, "--total-kimg", kimg)
        assert outcome.code == 0, outcome.err
    assert "Resuming from" in outcome.err and "augment p " in outcome.err
    run, straight = only_checkpoint(tmp_path / "straight")
    _, resumed = only_checkpoint(tmp_path / "broken")
    assert straight["augment"]["p"] == resumed["augment"]["p"] == pytest.approx(0.98)
    assert torch.equal(straight["augment"]["signs"], resumed["augment"]["signs"])
    for name in ("G", "D", "G_ema"):
        assert all(torch.equal(straight[name][key], resumed[name][key]) for key in straight[name])
    assert all({"augment/p", "augment/rt"} <= row.keys() for row in run.read_stats())


def test_the_loop_warns_of_leaks(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(LeakWarning, "TICKS", 2)  # as many as the run has
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--augment", "fixed"]
    assert "may leak" in run_salon(*train, "--augment-p", "0.9").err
    assert "may leak" not in run_salon(*train, "--augment-p", "0.8").err


def test_the_command_refuses_what_cannot_be(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, *TINY_TRAINING, "--out", tmp_path]
    for options, message in (
        (["--augment", "fixed"], "--augment fixed needs --augment-p above 0"),
        (["--augment-p", "0.5"], "--augment-p needs --augment ada or fixed"),
        (["--augment", "fixed", "--augment-p", "0.5", "--ada-target", "0.5"], "--ada-target needs --augment ada"),
        (["--augment", "some"], "--augment"),
    ):
        outcome = run_salon(*train, *options)
        assert outcome.code == 2 and message in outcome.err
    assert not list(tmp_path.iterdir())
