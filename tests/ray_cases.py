"""What test_curation_ray.py runs, each in a process of its own.

Ray forks what it starts; in a process with many threads, as of those that run tests, a fork may hang.
"""

import os
import secrets
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from conftest import empty_cache, run_salon

from curation.prepare.engines import block_size
from curation.prepare.image_files import Clip, ImageFile
from curation.prepare.resize import ImageSettings
from eval.features.extractor import Extractor
from gan.data import manifest
from gan.data.synthetic_scenes import painting
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.runtime import cluster as clusters
from gan.runtime.cluster import KeptBlocks, connected

COUNT = 24
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def two_nodes():
    """A Ray cluster of two nodes of one core each, on the loopback interface, and the second of its nodes."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 1024**2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node_ip_address", lambda *_: "127.0.0.1")
        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **own})
        try:
            yield cluster, cluster.add_node(**own)
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder of images, one of them damaged and one without a label, and the dataset that this machine makes."""
    base = tmp_path_factory.mktemp("ray")
    (base / "pictures").mkdir()
    for seed in range(COUNT):
        painting("landscape", "impressionism", seed, 48).save(base / "pictures" / f"{seed:02d}.png")
    (base / "pictures" / "07.png").write_bytes(b"\x89PNG damaged")
    labelled = "".join(f"{seed:02d}.png,landscape\n" for seed in range(COUNT - 1))
    (base / "labels.csv").write_text(f"name,label\n{labelled}")
    prepared(base, "local.zip")
    return base


def prepared(base, name, *options, code=0):
    arguments = "prepare", base / "pictures", "--labels", base / "labels.csv", "--out", base / name
    outcome = run_salon(*arguments, "--resolution", 16, "--shape", "3:2", "--crops", 2, *options)
    assert outcome.code == code, outcome.err
    return outcome


def same(base, name):
    assert (base / name).read_bytes() == (base / "local.zip").read_bytes()
    hashes = [manifest.read(base / f"{Path(each).stem}.manifest").hash for each in (name, "local.zip")]
    assert hashes[0] == hashes[1]


def square_or_die(number, *, deadly):
    if number in deadly:
        os._exit(1)  # as a decoder that a hostile file crashes
    if number < 0:
        raise RequestError(f"`number` must be positive; got {number} instead")
    return number**2


def test_the_work_of_a_node_that_dies_is_done_by_another(two_nodes, base, monkeypatch):
    cluster, node = two_nodes
    monkeypatch.setattr(clusters, "BLOCK", 10)  # images: five files of two crops
    write, killed = KeptBlocks.write, []

    def write_and_kill(self, items, rows):
        write(self, items, rows)
        if not killed:
            cluster.remove_node(node, allow_graceful=False)
            killed.append(node)

    monkeypatch.setattr(KeptBlocks, "write", write_and_kill)
    outcome = prepared(base, "cluster.zip", "--engine", "ray", "--address", cluster.address)
    assert killed and "Ray: 2 workers on 2 machines" in outcome.err
    same(base, "cluster.zip")


def test_a_machine_alone_is_a_cluster_too_and_finished_blocks_outlive_the_run(base, monkeypatch, tmp_path):
    monkeypatch.setattr(clusters, "BLOCK", 10)  # images: five files of two crops
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / "cache")))
    write, written = KeptBlocks.write, []

    def write_some(self, items, rows):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(self, items, rows)
        written.append(items[0].name)

    with monkeypatch.context() as patch:
        patch.setattr(KeptBlocks, "write", write_some)
        prepared(base, "alone.zip", "--engine", "ray", "--workers", 1, code=130)
    assert written == ["00.png", "05.png", "10.png"] and not (base / "alone.zip").exists()
    again = []
    monkeypatch.setattr(KeptBlocks, "write", lambda self, items, rows: again.append(items[0].name))
    outcome = prepared(base, "alone.zip", "--engine", "ray", "--workers", 1)
    assert "Ray: 1 worker on 1 machine" in outcome.err
    assert again == ["15.png", "20.png"]  # the first three were there
    same(base, "alone.zip")
    assert not list((tmp_path / "cache" / "prepared").iterdir())


def test_check_and_score_give_the_manifests_of_this_machine(base, monkeypatch, tmp_path):
    for engine in ("local", "ray"):
        monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / engine)))
        own = "--engine", engine, "--device", "cpu"
        if engine == "ray":  # whose workers are other processes
            monkeypatch.setattr(Extractor, "__call__", None)
        checked, scored = base / f"{engine}.checked", base / f"{engine}.scored"
        for arguments in (
            ("check", base / "local.zip", "--out", checked),
            ("score", base / "local.zip", "--manifest", checked, "--out", scored, "--features", "both"),
        ):
            outcome = run_salon("curate", *arguments, *own)
            assert outcome.code == 0, outcome.err
    assert not list((tmp_path / "ray" / "measures").iterdir())
    for step in ("checked", "scored"):
        assert manifest.read(base / f"local.{step}").hash == manifest.read(base / f"ray.{step}").hash


def test_a_task_gives_so_many_images_at_most():
    settings = {"shape": ImageShape(16, 16), "fit": "crop", "format": "png", "quality": 95, "filter": "box"}
    one = ImageSettings(**settings, background=(0, 0, 0), max_pixels=1)
    crops = ImageSettings(**settings, background=(0, 0, 0), max_pixels=1, crops=9)
    image = ImageFile("in", "a.png", Path("a.png"))
    clip = ImageFile("in", "b.mp4", Path("b.mp4"), clip=Clip(0, 20))
    sizes = [block_size(files, each) for each in (one, crops) for files in ([], [image], [clip, image])]
    assert sizes == [64, 64, 3, 7, 7, 1]


def test_an_item_that_kills_its_worker_is_named_and_the_others_have_their_values(monkeypatch, tmp_path):
    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not find this module
    long = tmp_path / ("folder" * 10)  # too long for the path of a socket
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with connected(workers=2) as cluster:
        scratch = Path(ray._private.worker.global_worker.node.get_temp_dir_path())
        assert scratch.is_dir()
        function = partial(square_or_die, deadly=(3, 11))
        values = cluster.ordered_map(function, range(20), lambda number: -number, block=4)
        assert list(values) == [-n if n in (3, 11) else n**2 for n in range(20)]
        with pytest.raises(RequestError, match=r"^`number` must be positive; got -1 instead$"):
            list(cluster.ordered_map(function, [1, -1], lambda number: -number))
        waiting = ray.remote(num_cpus=100)(square_or_die).remote(1, deadly=())  # until there are so many cores
        ray.cancel(waiting)
        with pytest.raises(RequestError, match="`engine` ray: the cluster lost its work"):  # not the item's fault
            cluster._result(waiting, None, [1], lambda number: -number)
    assert not scratch.exists() and not ray.is_initialized()
