"""One call is one snapshot's, whatever is exported meanwhile: a client keeps to the version it began with, or stops."""

import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import HANG, run_salon, until
from fake_transport import FakeTransport, about
from PIL import Image

from gan import snapshot
from gan.errors import RequestError, SalonError
from gan.runtime.files import sha256
from gan.sampling import generate
from serving.client.client import Client, VersionGone
from serving.client.retry import Unavailable
from serving.client.transport import connect


def of(snapshot: str, kinds=("generator", "mapping", "synthesis", "generate_and_score")):
    return {kind: replace(about(kind), snapshot=snapshot) for kind in kinds}


def family_of_two() -> FakeTransport:
    """Version 7 of snapshot "new", and version 6 of "old" but for the ensemble."""
    earlier = {kind: {6: metadata} for kind, metadata in of("old").items() if kind != "generate_and_score"}
    return FakeTransport(models=of("new"), version=7, earlier=earlier)


def test_all_models_are_asked_in_the_version_that_the_client_began_with():
    transport = family_of_two()
    with Client(transport=transport) as client:
        assert (client.about("generator").version, client.about("generator").snapshot) == (7, "new")
        list(client.synthesize(client.map_seeds(range(3))))
        list(client.score([1]))
        assert transport.asked_versions == {7}
        newer = of("newest")
        transport.earlier = {kind: {7: transport.models[kind]} for kind in newer if kind != "generate_and_score"}
        transport.models, transport.version = newer, 8
        assert client.about("synthesis").snapshot == "new"
        list(client.synthesize(client.map_seeds(range(3))))
        assert transport.asked_versions == {7}
        with pytest.raises(VersionGone, match="does not serve generate_and_score in version 7, with which this began"):
            list(client.score([1]))
        transport.version, transport.earlier = 9, {}
        with pytest.raises(VersionGone, match=r"generator in version 7, .*: another was exported meanwhile; run it"):
            list(client.generate([1]))


def test_a_version_that_is_unloading_is_gone_at_once():
    transport = family_of_two()
    with Client(transport=transport, retries=50) as client:
        client.about("generator")
        transport.version, transport.earlier, calls = 9, {}, []

        def infer(*arguments):
            calls.append(arguments)
            raise Unavailable("version 7 is not at ready state")  # as Triton says of what it once served

        transport.infer = infer
        with pytest.raises(VersionGone):
            list(client.generate([1]))
        assert len(calls) == 1


def test_a_fault_of_the_request_stays_one():
    transport = family_of_two()
    with Client(transport=transport) as client:
        client.about("generator")
        transport.infer = lambda *arguments: (_ for _ in ()).throw(RequestError("at fault"))
        with pytest.raises(RequestError, match="at fault"):
            list(client.generate([1]))


def test_an_earlier_version_is_asked_for_by_its_number():
    transport = family_of_two()
    with Client(transport=transport, model_version=6) as client:
        assert client.about("mapping").snapshot == "old"
        list(client.generate([1]))
        assert transport.asked_versions == {6}
        with pytest.raises(VersionGone, match="generate_and_score in version 6"):
            client.score([1])
    wrong = pytest.raises(RequestError, match=r"`model_version` must be one of 6, 7, .*; got 5")
    with Client(transport=transport, model_version=5) as client, wrong:
        client.about("generator")


def test_while_new_versions_are_loaded_the_newest_that_all_have_is_taken():
    transport = family_of_two()
    for kind in ("mapping", "generate_and_score"):  # these are still to come
        transport.earlier[kind] = {5: transport.models[kind], 6: replace(transport.models[kind], snapshot="old")}
    index = transport.index

    def without_new(timeout):
        late = [{"name": kind, "version": "7"} for kind in ("mapping", "generate_and_score")]
        return [entry for entry in index(timeout) if {**entry, "state": 0} not in [{**row, "state": 0} for row in late]]

    transport.index = without_new
    with Client(transport=transport) as client:
        assert {client.about(kind).version for kind in ("generator", "mapping", "generate_and_score")} == {6}
        assert {metadata.snapshot for metadata in client.models()} == {"old"}


def test_a_family_of_several_snapshots_is_refused():
    transport = FakeTransport(models=of("new") | of("old", ["synthesis"]))
    with Client(transport=transport) as client:
        for call in (lambda: client.generate([1]), client.models):
            with pytest.raises(
                SalonError, match=r"several snapshots \(generator of new, .*synthesis of old, .*\); export it"
            ):
                call()
    transport = FakeTransport(models=of("new"), version=3)
    index = transport.index
    transport.index = lambda timeout: [
        {**entry, "version": "2"} if entry["name"] == "mapping" else entry for entry in index(timeout)
    ]
    with Client(transport=transport) as client:  # of before versions were described: of one snapshot, it passes
        assert (client.about("generator").version, client.about("mapping").version) == (3, 2)


POLLED = "generator,mapping,synthesis,seed_to_png,discriminator,generate_and_score"


def export(repository: Path, source: Path) -> int:
    outcome = run_salon(
        "export", "--out", repository, "--snapshot", source, "--models", POLLED, "--max-batch", 4, "--json"
    )
    assert outcome.code == 0, outcome.err
    return outcome.json["version"]


class Asking(threading.Thread):
    """Asks for the file of a seed, in whichever version is the newest, again and again until it is told to stop."""

    def __init__(self, url):
        super().__init__()
        self.transport, self.files, self.stopped = connect(url), [], threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.stopped.wait(0.1):  # which leaves the processor to the exports
                seed = np.array([[1]], np.int64)
                self.files.append(self.transport.infer("seed_to_png", {"seed": seed}, ["file"], HANG)["file"][0, 0])
        except Exception as error:
            self.error = error


@pytest.mark.slow
def test_a_query_goes_on_with_its_snapshot_while_the_server_takes_up_others(triton, tiny_run, tmp_path):
    repository, seeds = tmp_path / "models", range(20)
    found = snapshot.find(tiny_run)
    paths = [found.path]
    for number in (1, 2):
        found.G_ema.synthesis.b4.const.add_(1)
        paths.append(tmp_path / f"other{number}.safetensors")
        snapshot.save(paths[-1], found.G_ema, found.D, found.config, found.cur_nimg, found.classes)
    expected = [np.stack(list(generate.generate(snapshot.load(path).G_ema, seeds))) for path in paths]

    def is_of(number, images):
        apart = np.abs(np.stack(list(images)).astype(int) - expected[number])
        return apart.max() <= 1

    assert export(repository, paths[0]) == 1
    server = triton(repository, reload="poll")

    def ready(version, models):
        index = server.models()
        return all({"name": model, "version": str(version), "state": "READY"} in index for model in models)

    asking = Asking(server.grpc_url)
    asking.start()
    with Client(server.grpc_url) as client, Client(server.http_url) as second:
        images = client.generate(seeds)
        begun = [next(images)]
        ws = second.map_seeds(seeds)
        until(lambda: asking.files)
        assert export(repository, paths[1]) == 2
        until(lambda: ready(2, POLLED.split(",")), pause=0.1)
        number = len(asking.files)
        until(lambda: len(asking.files) > number + 2 or asking.error)
        assert is_of(0, [*begun, *images])
        assert is_of(0, second.synthesize(ws))
        assert second.about("generator").version == 1
        with pytest.raises(VersionGone, match="generate_and_score in version 1"):
            list(second.score([1]))
        with Client(server.grpc_url) as third, Client(server.http_url, model_version=1) as fourth:
            assert third.about("generator").snapshot == sha256(paths[1])
            assert is_of(1, third.generate(seeds)) and is_of(0, fourth.generate(seeds))
        assert export(repository, paths[2]) == 3
        until(lambda: ready(3, ["generator", "seed_to_png"]), pause=0.1)
        with pytest.raises(VersionGone, match=r"generator in version 1, .*run it again"):
            list(client.generate(seeds))
    asking.stopped.set()
    asking.join()
    assert asking.error is None
    pictures = {np.asarray(Image.open(io.BytesIO(file))).tobytes() for file in asking.files}
    assert len(pictures) in (2, 3)  # one of each snapshot
    assert not [path for path in repository.rglob("__pycache__") if path.is_dir()]
    server.stop()
