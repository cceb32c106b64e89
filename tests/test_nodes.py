"""Two machines under torchrun, rehearsed as two launchers on this one: the numbers of one process."""

from pathlib import Path

import pytest
from conftest import TINY_TRAINING, Outcome, SalonProcess, as_torchrun, empty_cache, free_port, run_salon

from gan.training.run_dir import Run


def launched(folder: Path, *request: object) -> list[Outcome]:
    """`salon REQUEST` by two launchers of a process each -> how both ended."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", address]
    nodes = [
        SalonProcess(folder, *request, "--json", name=f"node-{node}", torchrun=[*options, "--node-rank", str(node)])
        for node in range(2)
    ]
    try:
        return [node.wait() for node in nodes]
    finally:
        for node in nodes:
            if node.poll() is None:
                node.process.terminate()  # torchrun ends its process, too
                node.wait()


def on_two_nodes(folder: Path, caches: tuple[Path, Path], *request: object) -> list[Outcome]:
    """The same, as the launchers would start it, with the machines' caches; few images are shared out, too."""
    return [process.wait() for process in as_torchrun(folder, *request, "--json", caches=caches, shard=4)]


def figures(told):
    """What the one main process printed; both nodes must have ended well."""
    assert [node.code for node in told] == [0, 0], told
    (main,) = (node for node in told if node.out)
    return main.json


@pytest.mark.slow
def test_training(tiny_dataset, tiny_run, tmp_path):
    found = figures(launched(tmp_path, "train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING))
    run, one = Run(Path(found["run"])), Run(tiny_run)
    assert found["finished"] and run.path.name == one.path.name
    for mine, its in zip(run.read_stats(), one.read_stats(), strict=True):
        assert mine["nimg"] == its["nimg"]
        for name in ("loss/G", "loss/D"):
            assert mine[name] == pytest.approx(its[name], rel=1e-4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset of 24 images with its manifest."""
    folder = tmp_path_factory.mktemp("prepared")
    assert run_salon("synthetic", folder / "paintings", "--count", 24, "--size", 32).code == 0
    data = folder / "set.zip"
    assert run_salon("prepare", folder / "paintings", "--out", data, "--resolution", 16).code == 0
    return data


def requests(data, run):
    return {
        "eval": ["eval", "run", "--snapshot", run, "--data", data, "--num-images", 12, "--metrics", "kid,pr"],
        "score": ["curate", "score", data],
    }


@pytest.mark.slow
def test_evaluation(prepared, tiny_run, tmp_path, small_shards):
    request = [*requests(prepared, tiny_run)["eval"], "--extractor", "efficientnet-lite0", "--device", "cpu", "--out"]
    one = run_salon(*request, tmp_path / "one", "--json").json
    caches = (empty_cache(tmp_path / "cache"),) * 2
    two = figures(on_two_nodes(tmp_path, caches, *request, tmp_path / "two"))
    assert one["images_made"] == 12 and two["images_made"] == 8  # by the main process: two shards of 4, of three
    values = [{row["key"]: (row["value"], row["low"], row["high"]) for row in f["results"]} for f in (one, two)]
    assert values[0] and list(values[0]) == list(values[1])
    for key, value in values[0].items():
        assert value == pytest.approx(values[1][key], rel=1e-6, abs=1e-9), key


@pytest.mark.slow
def test_scores(prepared, tiny_run, tmp_path, small_shards):
    request = [*requests(prepared, tiny_run)["score"], "--device", "cpu", "--out"]
    one = run_salon(*request, tmp_path / "one", "--json").json
    caches = (empty_cache(tmp_path / "cache"),) * 2
    two = figures(on_two_nodes(tmp_path, caches, *request, tmp_path / "two"))
    assert one["scored"] == 24 and two["hash"] == one["hash"]
    assert len(list((tmp_path / "cache" / "features").rglob("*.npy"))) == 6


def test_a_cache_that_is_not_shared(prepared, tiny_run, tmp_path):
    request = [*requests(prepared, tiny_run)["score"], "--extractor", "efficientnet-lite0", "--device", "cpu"]
    caches = (empty_cache(tmp_path / "a"), empty_cache(tmp_path / "b"))
    told = on_two_nodes(tmp_path, caches, *request, "--out", tmp_path / "two")
    assert all(node.code != 0 for node in told) and not (tmp_path / "two").exists()
    assert "that all machines share" in told[0].err and "fault of Salon" not in told[0].err + told[1].err
