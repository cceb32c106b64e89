"""The bookkeeping of phases that run as graphs, with a stand-in that records on a CPU as a GPU would."""

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon

from gan.config import make_config
from gan.device.graphs import WARM_UP, refusal
from gan.image_shape import ImageShape
from gan.training.learner import Learner

CPU = torch.device("cpu")
TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8, "batch_size": 4}


class StandIn:
    """A replay runs the phase that was captured, and fills the scalars of the capture; capturing runs nothing."""

    def __init__(self):
        self.calls = []

    def warm_up(self, phase):
        self.calls.append("warm up")
        return phase()

    def capture(self, phase):
        self.calls.append("capture")
        stats = {}

        def replay():
            self.calls.append("replay")
            for name, value in phase().items():
                stats.setdefault(name, torch.empty_like(value)).copy_(value)

        return replay, stats


def learner(**overrides):
    overrides = {**TINY, "pl_interval": 2, "r1_interval": 3, **overrides}
    config = make_config(preset="tiny", shape=ImageShape(8, 8), num_classes=2, dataset="d", overrides=overrides)
    return Learner(config, CPU, np.arange(6) % 2, synchronous=False)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, [4, 3, 8, 8], generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(0, 2, [4], generator=generator)


def steps(subject, numbers):
    return [{name: value.clone() for name, value in subject.step(*batch(i)).items()} for i in numbers]


def assert_same(a, b):
    for name in ("G", "D", "G_ema"):
        a_weights, b_weights = getattr(a, name).state_dict(), getattr(b, name).state_dict()
        assert all(torch.equal(a_weights[key], b_weights[key]) for key in a_weights), name
    assert torch.equal(a.pl_mean, b.pl_mean) and a.augment.p == b.augment.p


ADAPTING = {"augment": "ada", "augment_p": 0.4, "ada_interval": 2, "ada_kimg": 0.1, "ada_target": -1.0}


@pytest.mark.parametrize("options", [{}, ADAPTING, {"precision": "fp16"}])
def test_graphs_change_nothing(options):
    plain = learner(**options)
    expected = steps(plain, range(16))
    state = torch.get_rng_state()
    graphed, capture = learner(**options), StandIn()  # seeds the generator anew
    assert graphed.use_graphs(capture) is None
    found = steps(graphed, range(16))
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert_same(graphed, plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert capture.calls.count("capture") == 4 and capture.calls.count("warm up") == 4 * WARM_UP
    # G and D in 16 iterations, path lengths in 8, R1 in 6; what is not a warm-up is a replay
    assert capture.calls.count("replay") == 16 + 16 + 8 + 6 - 4 * WARM_UP


def test_a_state_that_is_loaded_is_captured_anew():
    straight = learner()
    steps(straight, range(12))
    broken = learner()
    broken.use_graphs(StandIn())
    steps(broken, range(5))
    state = broken.state_dict()
    resumed, capture = learner(), StandIn()
    resumed.use_graphs(capture)
    steps(resumed, range(9))
    captured = capture.calls.count("capture")
    resumed.load_state_dict(state)
    steps(resumed, range(5, 12))
    assert_same(resumed, straight)
    assert capture.calls.count("capture") > captured >= 2


def test_graphs_read_the_images_of_their_own_iteration_from_the_same_memory():
    subject, seen = learner(pl_weight=0.0), []
    subject.use_graphs(StandIn())
    step = subject._discriminator_step
    subject._discriminator_step = lambda img, c: seen.append((img, img.clone(), c.clone())) or step(img, c)
    steps(subject, range(WARM_UP + 2))
    assert len({img.data_ptr() for img, _, _ in seen}) == 1
    for i, (_, img, c) in enumerate(seen):
        pixels, classes = batch(i)
        torch.testing.assert_close(img, pixels / 127.5 - 1)
        assert torch.equal(c.argmax(dim=1), classes)


def test_where_there_are_no_graphs_it_says_why(monkeypatch):
    assert learner().use_graphs() == refusal(CPU, 1) == "they need a CUDA GPU"
    cuda = torch.device("cuda")
    assert refusal(cuda, 1) is None
    assert refusal(cuda, 2) == "not with `batch_gpu` below the batch"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refusal(cuda, 1) == "not with several processes"


def test_graphs_that_cannot_be_are_told(tiny_dataset, tmp_path):
    outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--cuda-graphs")
    assert outcome.code == 0 and "CUDA graphs: no, they need a CUDA GPU\n" in outcome.err
