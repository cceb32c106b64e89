import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import full_disk
from filelock import FileLock, Timeout

from gan.errors import RequestError, SalonError
from serving.contract import ModelMetadata
from serving.export.model_config import Settings
from serving.export.model_repository import COUNTER, Model, ModelRepository

ROOT = Path(__file__).parents[1]


def make_model(folder: Path, text: str = "graph", name: str = "generator", kind: str = "mapping", **about) -> Model:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_text(text)
    about = ModelMetadata(kind=kind, generator=name, z_dim=8, w_dim=8, num_ws=6, resolution=16, **about)
    return Model(about, Settings(), folder)


def test_a_number_is_never_given_twice(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    model = make_model(tmp_path / "files")
    assert [repository.publish([model]) for _ in range(2)] == [1, 2]
    shutil.rmtree(repository.path / "mapping" / "2")
    assert repository.publish([model]) == 3
    (repository.path / COUNTER).unlink()
    assert repository.publish([make_model(tmp_path / "other", name="people")]) == 4
    assert sorted(p.name for p in (repository.path / "mapping").iterdir()) == ["1", "3", "config.pbtxt"]
    assert repository.models().keys() == {"mapping", "people_mapping"}


def test_a_full_disk_leaves_the_good_version(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    repository.publish([make_model(tmp_path / "files")])
    # Graphs are there before, and are linked; a description of 40,000 bytes is not.
    for name in ("generator", "people"):
        large = make_model(tmp_path / "large", "larger", name=name, card={"note": "x" * 40_000})
        with pytest.raises(SalonError, match=r"could not be written.*untouched"), full_disk(30_000):
            repository.publish([large])
    assert not [p for p in tmp_path.rglob("*") if "partial" in p.name]
    assert [p.read_text() for p in repository.path.rglob("model.onnx")] == ["graph"]
    assert json.loads((repository.path / COUNTER).read_text()) == {"last": 3}
    assert repository.models().keys() == {"mapping"} and not (repository.path / "people_mapping").exists()


def test_a_strangers_model_is_left_alone(tmp_path):
    theirs = tmp_path / "models" / "mapping"
    theirs.mkdir(parents=True)
    (theirs / "config.pbtxt").write_text('name: "mapping"')
    repository = ModelRepository(tmp_path / "models")
    assert repository.models() == {}
    with pytest.raises(RequestError, match=r"no model of Salon's"):
        repository.refuse_others(["mapping"])
    repository.refuse_others(["generator"])


def test_a_file_is_no_repository(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(RequestError, match=r"must be a folder"):
        ModelRepository(tmp_path / "models")


def test_a_damaged_counter_is_refused(tmp_path):
    (tmp_path / COUNTER).write_text("[1]")
    with pytest.raises(RequestError, match=r'must be \{"last": NUMBER\}'):
        ModelRepository(tmp_path).publish([])


def test_one_process_publishes_at_a_time_and_a_killed_one_is_not_waited_for(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    code = "import sys; from pathlib import Path; from serving.export.model_repository import ModelRepository\n"
    code += "with ModelRepository(Path(sys.argv[1]))._lock():\n    print('held', flush=True)\n    input()"
    command = [sys.executable, "-c", code, str(repository.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Timeout):
            FileLock(repository.path / ".lock").acquire(blocking=False)
        other.kill()
        other.wait()
    assert repository.publish([make_model(tmp_path / "files")]) == 1
