"""A training iteration that asks the device nothing: on tensors without numbers, and, on a CPU, with them."""

import contextlib
import dataclasses
import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon
from test_gan_training_step import LABELS, PaperStep, assert_same_optimizer, batches, make_config

from gan.augment.ada import Augmentation
from gan.augment.corruption import add_noise
from gan.augment.pipeline import AugmentPipe
from gan.runtime import parallel
from gan.training import checkpoint, training_loop
from gan.training.finite import FiniteCheck
from gan.training.learner import Learner, NonFiniteError
from gan.training.run_dir import Run

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 1, "channel_base": 128, "channel_max": 8, "batch_size": 8}
WAYS = [
    {"num_classes": 3, "precision": "bf16", "freeze_d": 1, "augment": "diffaugment"},
    {"augment": "ada", "augment_categories": "bgcfnc", "ada_interval": 1},
    {
        "num_classes": 3,
        "precision": "fp16",
        "batch_gpu": 4,
        "augment": "fixed",
        "augment_p": 0.5,
        "augment_categories": "blit",
    },
]


make_believe = pytest.mark.skipif(
    not hasattr(torch._C, "_ensureCUDADeviceGuardSet"), reason="this torch has no tensors of a GPU that is not there"
)


WAITS = """
import torch
from operations import DEVICE, Operations, fake_cuda

with fake_cuda():
    x, rows = torch.ones(3, device=DEVICE), torch.zeros(2, dtype=torch.long)
    waits = {
        "a value": lambda: x[0].item(),
        "a condition": lambda: bool(x.sum() > 0),
        "a list": lambda: x.tolist(),
        "how many": lambda: (x > 0).nonzero(),
        "a mask": lambda: x[x > 0],
        "an index": lambda: x[rows],
        "an upload": lambda: rows.to(DEVICE),
        "a number's upload": lambda: x.new_tensor([1.0]),
        "a download": lambda: x.cpu(),
    }
    with Operations() as operations:
        for name, function in waits.items():
            try:
                function()
            except Exception:
                continue
            print(name, "was let through")
    counted = Operations()
    with counted:
        y = (x * 2).view(3, 1).expand(3, 2)[0] + 1
        y.add_(1)
        y.copy_(x[:2])
        torch.empty(5, device=DEVICE)
        z = x.bfloat16()
    print(dict(counted.counts))
    print(dict(counted.bytes))
"""
COUNT_WAYS = ["--whole", "--sampling", "--preset", "tiny", "--resolution", "8"]
COUNT_WAYS += [argument for way in WAYS for argument in ("--set", json.dumps({**TINY, **way}))]
LARGE = json.dumps({**TINY, "mapping_layers": 8, "channel_base": 512, "precision": "bf16"})
COUNT_256 = ["--whole", "--bytes", "--bandwidth", "2.0", "--set", LARGE]


def count(path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    with open(path, "w") as sys.stdout, contextlib.redirect_stderr(sys.stdout):
        import operations

        exec(WAITS, {})
        for arguments in (COUNT_WAYS, COUNT_256):
            operations.main(arguments, standalone_mode=False)


# All in one process, which is not this one: a build of torch without CUDA is changed for good.
@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """What is printed by WAITS, of each of WAYS, and for 256 pixels: lines."""
    path = tmp_path_factory.mktemp("counted") / "printed"
    process = parallel.start([__name__], count, path)
    process.join()
    text = path.read_text()
    assert process.exitcode == 0, text[-3000:]
    return text.splitlines()


@make_believe
def test_no_phase_and_no_batch_that_is_sampled_waits_for_the_device(counted):
    lines = [json.loads(line) for line in counted[2:-1]]  # all four phases run
    assert [line["config"] for line in lines] == [{**TINY, **way} for way in WAYS]
    assert all(line[kind] > 0 for line in lines for kind in ("whole", "images", "logits"))


@make_believe
def test_all_phases_at_256_pixels_have_at_most_1700_operations(counted):
    # That is 900 an iteration, since the lazy phases come seldom. The number hangs on layers, not on their channels.
    report = json.loads(counted[-1])
    assert 1000 < report["whole"] <= 1700
    assert report["milliseconds"]["whole"] == pytest.approx(report["gigabytes"]["whole"] / 2, abs=1e-3)


@make_believe
def test_what_waits_is_refused(counted):
    names = ["mul.Tensor", "add.Tensor", "add_.Tensor", "copy_.default", "empty.memory_format", "_to_copy.default"]
    counts, moved = counted[:2]
    assert counts == str({f"aten.{name}": 1 for name in names})
    sizes = [12 + 12, 4 + 8, 8 + 8, 8 + 8, 0, 12 + 6]  # an expanded tensor lies in memory once
    assert moved == str({f"aten.{name}": size for name, size in zip(names, sizes, strict=True)})


def asynchronous(config, batch_gpu=None):
    labels = LABELS if config.network.num_classes else None
    return Learner(config, CPU, labels, batch_gpu=batch_gpu, synchronous=False)


# With a probability of 1 both draw the same numbers.
@pytest.mark.parametrize(
    ("values", "batch_gpu"),
    [
        ({}, None),
        ({"num_classes": 3, "ema_rampup": None, "batch_size": 8}, None),
        ({"num_classes": 3, "batch_size": 8, "freeze_d": 1}, 4),
        ({"r1_gamma": 0.0, "pl_weight": 0.0, "beta1": 0.0}, None),
    ],
)
def test_an_iteration_that_waits_for_nothing_is_that_of_the_papers(double, values, batch_gpu):
    config = make_config(style_mixing_prob=1.0, **values)
    learner, stats = asynchronous(config, batch_gpu), []
    for batch in batches(config):
        stats.append(learner.step(*(images[learner.members] for images in batch)))
    reference = PaperStep(config)
    for actual, batch in zip(stats, batches(config), strict=True):
        expected = reference.step(*batch)
        torch.testing.assert_close({name: actual[name] for name in expected}, expected, rtol=1e-8, atol=1e-12)
    for name in ("G", "D", "G_ema"):
        actual, expected = getattr(learner, name).state_dict(), getattr(reference, name).state_dict()
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(learner.pl_mean, reference.pl_mean)
    for name in ("G_optimizer", "D_optimizer"):
        assert_same_optimizer(getattr(learner, name).state_dict(), getattr(reference, name).state_dict())


def test_styles_are_mixed_from_a_layer_on_as_often_as_asked():
    learner = asynchronous(make_config(style_mixing_prob=0.5))
    cutoffs = np.array([int(learner.latents.draw(learner.microbatches).mixed[0]) for _ in range(600)])
    layers = learner.config.network.num_ws
    assert np.mean(cutoffs == layers) == pytest.approx(0.5, abs=0.07)
    assert set(cutoffs) == set(range(1, layers + 1))
    latents = learner.latents.draw(learner.microbatches)
    ws, _ = learner.latents.map(latents)
    first, second = (learner.G.mapping(z) for z in (latents.z, latents.mixed[1]))
    cutoff = int(latents.mixed[0])
    torch.testing.assert_close(ws, torch.cat([first[:, :cutoff], second[:, cutoff:]], dim=1))


@pytest.mark.parametrize(("network", "statistic"), [("G", "loss/G"), ("D", "loss/G"), ("w", "gradient")])
def test_the_first_bad_value_stops_the_optimizers_and_is_named_later(network, statistic):
    learner = asynchronous(make_config())
    pixels = list(batches(learner.config))
    learner.step(*pixels[0])
    learner.require_finite()
    if network == "w":  # a gradient alone, in D's step
        learner.D.b4.out.bias.requires_grad_(True).register_hook(lambda g: g if g is None else g * float("inf"))
    else:
        next(iter(getattr(learner, network).parameters())).data.view(-1)[0] = float("nan")
    bad = learner.iteration
    before = {name: [p.clone() for p in getattr(learner, name).parameters()] for name in ("G", "D")}
    steps = learner.D_optimizer.state_dict()["state"][0]["step"].clone()
    for batch in pixels[2:5]:
        learner.step(*batch)
    assert torch.equal(learner.D_optimizer.state_dict()["state"][0]["step"], steps)
    for name, parameters in before.items():
        same = [
            torch.equal(a.nan_to_num(), b.nan_to_num())
            for a, b in zip(parameters, getattr(learner, name).parameters(), strict=True)
        ]
        assert all(same) or (network == "w" and name == "G")  # G's step came before
    with pytest.raises(NonFiniteError, match=rf"^{statistic} became (nan|inf) in iteration {bad}$"):
        learner.require_finite()


def test_what_follows_the_first_bad_value_is_not_mistaken_for_it():
    check, bad = FiniteCheck(CPU), torch.tensor(float("nan"))
    for iteration, (g, d) in enumerate([(1.0, 2.0), (1.0, float("-inf")), (float("nan"), 2.0)]):
        check.watch({"loss/G": torch.tensor(g)})
        check.watch({"loss/D": torch.tensor(d), "gradient": bad if iteration == 1 else torch.tensor(0.5)})
        check.end_iteration()
    with pytest.raises(NonFiniteError, match=r"^loss/D became -inf in iteration 1$"):
        check.require(3)


def test_what_was_found_is_forgotten_with_the_iterations_since():
    check = FiniteCheck(CPU)

    def watch(*values):
        for value in values:
            check.watch({"loss/G": torch.tensor(value, requires_grad=True)})
            check.end_iteration()

    watch(1.0, float("inf"), 1.0, 1.0)
    check.reset()
    watch(1.0, float("nan"), 1.0)
    with pytest.raises(NonFiniteError, match=r"^loss/G became nan in iteration 5$"):
        check.require(7)


def test_a_state_that_is_loaded_forgets_what_was_bad():
    learner = asynchronous(make_config())
    state = learner.state_dict()
    learner.finite.watch({"loss/G": torch.tensor(float("inf"))})
    with pytest.raises(NonFiniteError, match="loss/G became inf in iteration 0"):
        learner.require_finite()
    learner.load_state_dict(state)
    learner.require_finite()


def test_the_loop_finds_out_when_a_tick_ends_and_saves_nothing_bad(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "Learner", functools.partial(Learner, synchronous=False))
    arguments = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING]
    assert run_salon(*arguments).code == 0
    (folder,) = tmp_path.iterdir()
    (last,) = checkpoint.list_newest_first(Run(folder).checkpoints)
    rows = Run(folder).read_stats()
    state = checkpoint.load(last)
    state["learner"]["D"]["b4.out.bias"].fill_(float("nan"))
    checkpoint.save(last, state)
    outcome = run_salon(*arguments, "--total-kimg", "0.064")
    assert outcome.code == 1 and "became nan in iteration 4 (0.0 kimg)" in outcome.err
    assert f"the last good checkpoint is {last}" in outcome.err
    assert checkpoint.list_newest_first(Run(folder).checkpoints) == [last] and Run(folder).read_stats() == rows


# Augmentation


@pytest.mark.parametrize("categories", ["bgcf", "cutout"])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_augmenting_without_waiting_is_the_same(categories, p):
    img = torch.rand([20, 3, 16, 16], dtype=torch.float64) * 2 - 1
    torch.manual_seed(4)
    expected = AugmentPipe(categories)(img, p)
    torch.manual_seed(4)
    found = AugmentPipe(categories).on_device(img, torch.tensor(p))
    torch.testing.assert_close(found, expected)
    assert torch.equal((found == img).flatten(1).all(1), (expected == img).flatten(1).all(1))


def test_noise_without_waiting_comes_to_those_chosen():
    torch.manual_seed(0)
    img = torch.zeros([2000, 3, 8, 8])
    found = AugmentPipe("noise").on_device(img, torch.tensor(0.3))
    assert (found != 0).flatten(1).any(1).double().mean().item() == pytest.approx(0.3, abs=0.04)
    assert AugmentPipe("noise").stages[0][1] is add_noise


def test_p_adapts_in_place_where_the_augmentation_reads_it():
    config = make_config(augment="ada", ada_interval=1, ada_kimg=0.1, ada_target=-1.0, augment_p=0.2)
    subject = Augmentation(config, CPU, synchronous=False)
    seen = []
    subject.pipe.on_device = lambda img, p: seen.append(p) or img
    for iteration in range(1, 3):
        subject(torch.zeros(4, 3, 8, 8))
        subject.observe(torch.ones(4, 1))
        subject.update(iteration)
    assert seen[0] is seen[1] and seen[0].item() == subject.p == pytest.approx(0.28)


def test_what_is_drawn_does_not_depend_on_the_number_of_processes(monkeypatch):
    sizes, randn = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda size, **options: sizes.append(list(size)) or randn(size, **options))

    def drawn():
        learner = asynchronous(make_config(batch_size=8))
        torch.manual_seed(1)
        sizes.clear()
        return learner.members, learner.latents.draw(learner.microbatches), list(sizes)

    _, whole, whole_sizes = drawn()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        members, own, own_sizes = drawn()
        assert len(members) == 4
        assert own_sizes == whole_sizes  # a GPU's numbers hang on how many are asked for at a time
        torch.testing.assert_close(own.z, whole.z[members], rtol=0, atol=0)
        torch.testing.assert_close(own.noises, [noise[members] for noise in whole.noises], rtol=0, atol=0)


def test_the_mean_w_moves_once_an_iteration_whatever_the_passes():
    config = make_config(batch_size=8)
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, mbstd_group_size=1))
    moved = []
    for batch_gpu in (None, 2):
        learner = asynchronous(config, batch_gpu)
        learner.step(*(images[learner.members] for images in next(batches(config))))
        moved.append(learner.G.mapping.w_avg)
    assert moved[0].any()
    torch.testing.assert_close(moved[0], moved[1])
