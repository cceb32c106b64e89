"""Microbatches: what each process takes of a batch, and in what passes."""

import dataclasses

import pytest
import torch
from conftest import TINY_TRAINING, run_salon

from gan.config import make_config
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.networks.discriminator import minibatch_stddev
from gan.training.microbatches import divide, of_batch, of_path_lengths


def as_rank(monkeypatch, rank: int, size: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))


@pytest.mark.parametrize(("size", "largest"), [(1, None), (2, None), (4, 4), (2, 8), (1, 12)])
def test_microbatches_cover_the_batch_and_keep_groups_together(monkeypatch, size, largest):
    features = torch.randn(32, 2, 4, 4)
    together = minibatch_stddev(features, 4)
    seen, weight = [], 0.0
    for rank in range(size):
        as_rank(monkeypatch, rank, size)
        microbatches = divide(32, group=4, largest=largest)
        assert [microbatch.local.start for microbatch in microbatches] == [
            sum(len(s.positions) for s in microbatches[:i]) for i in range(len(microbatches))
        ]
        for microbatch in microbatches:
            assert largest is None or len(microbatch.positions) <= largest
            torch.testing.assert_close(
                minibatch_stddev(features[microbatch.positions], 4), together[microbatch.positions]
            )
            seen += microbatch.positions.tolist()
            weight += microbatch.weight
    assert sorted(seen) == list(range(32)) and weight == pytest.approx(1)
    assert size > 1 or largest or seen == list(range(32))


@pytest.fixture
def config():
    """A batch of 16 in groups of 4, and path lengths of 8."""
    return make_config(
        preset="tiny", shape=ImageShape(16, 16), num_classes=0, dataset="d", overrides={"batch_size": 16}
    )


def with_group(config, size):
    return dataclasses.replace(config, network=dataclasses.replace(config.network, mbstd_group_size=size))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_process_takes_whole_groups(monkeypatch, config, processes):
    for rank in range(processes):
        as_rank(monkeypatch, rank, processes)
        (whole,) = of_batch(config, None)
        assert len(whole.positions) == 16 // processes and whole.weight == 1 / processes
        assert [len(part.positions) for part in of_batch(config, 4)] == [4] * (4 // processes)


def test_a_batch_of_fewer_images_than_a_group_is_one_group(config):
    assert [len(part.positions) for part in of_batch(dataclasses.replace(config, batch_size=2), None)] == [2]


def test_one_image_a_pass_where_none_is_compared_with_another(config):
    assert [part.positions.tolist() for part in of_batch(with_group(config, 1), 1)] == [[i] for i in range(16)]


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch, config, tiny_dataset, tmp_path):
    as_rank(monkeypatch, 0, 3)
    with pytest.raises(RequestError, match=r"`batch_size` must be a multiple of 12 \(3 processes.*got 16 instead"):
        of_batch(config, None)
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(RequestError, match=r"`batch_size` must be a multiple of 8 .*got 12 instead"):
        of_batch(dataclasses.replace(config, batch_size=12), None)
    as_rank(monkeypatch, 0, 1)
    for wrong in (6, 0, -4, 1):
        with pytest.raises(
            RequestError, match=f"`batch_gpu` must be a multiple of mbstd_group_size, 4; got {wrong} in"
        ):
            of_batch(config, wrong)
    train = ["train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, "--batch-gpu", "3"]
    assert run_salon(*train).code == 2 and not (tmp_path / "runs").exists()


def test_path_lengths_need_an_image_in_each_process(monkeypatch, config):
    shrunk = dataclasses.replace(config, pl_batch_shrink=8)
    as_rank(monkeypatch, 0, 2)
    assert len(of_batch(shrunk, None)) == 1  # two images
    as_rank(monkeypatch, 0, 4)
    with pytest.raises(RequestError, match="`pl_batch_shrink` must leave an image to each of 4 processes; got 8"):
        of_batch(shrunk, None)
    assert len(of_batch(dataclasses.replace(shrunk, pl_weight=0.0), None)) == 1
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(RequestError, match="an image to each of 2 processes; got 16"):
        of_batch(dataclasses.replace(config, pl_batch_shrink=16), None)
    as_rank(monkeypatch, 0, 1)
    more = dataclasses.replace(config, pl_batch_shrink=32)
    assert len(of_batch(more, None)) == 1
    assert [part.positions.tolist() for part in of_path_lengths(more, None)] == [[0]]


@pytest.mark.parametrize(
    ("shrink", "batch_gpu", "sizes"), [(2, None, [8]), (2, 8, [4, 4]), (2, 4, [2] * 4), (8, 4, [1, 1]), (1, 8, [8, 8])]
)
def test_path_lengths_are_of_fewer_images_in_passes_as_much_smaller(config, shrink, batch_gpu, sizes):
    parts = of_path_lengths(dataclasses.replace(config, pl_batch_shrink=shrink), batch_gpu)
    assert [len(part.positions) for part in parts] == sizes
    assert [part.weight for part in parts] == [size / sum(sizes) for size in sizes]
