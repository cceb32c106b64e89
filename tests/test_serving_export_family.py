"""A family is published as one: whatever stops an export at whatever point, all its models are of one snapshot."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import run_salon

from gan.errors import RequestError, SalonError
from serving.contract import CLASSIFIER, ENSEMBLES, ModelMetadata
from serving.export import family, model_config, model_repository, switch
from serving.export.model_config import Settings
from serving.export.model_repository import Model, ModelRepository
from serving.export.rollback import roll_back

KINDS = ("generator", "mapping", "synthesis", "discriminator", "generate_and_score")
STYLES = ["Cubism", "Rococo"]


def make_family(tmp_path: Path, snapshot: str, kinds=KINDS, name="generator", styles=(), **shape) -> list[Model]:
    """Models of a snapshot, each with a file that says which."""
    models = []
    for kind in kinds:
        files = tmp_path / "files" / snapshot / name / kind
        files.mkdir(parents=True, exist_ok=True)
        (files / "model.onnx").write_text(f"{kind} of {snapshot}")
        sizes = {"z_dim": 8, "w_dim": 8, "num_ws": 6, "resolution": 16, **shape}
        own = {"generator": name, "snapshot": snapshot, "cur_nimg": 1000, **sizes} if kind != CLASSIFIER else {}
        given = list(styles) if kind in (CLASSIFIER, "generate_and_classify") else []
        metadata = ModelMetadata(kind=kind, styles=given, card={"of": snapshot} if kind == CLASSIFIER else {}, **own)
        models.append(Model(metadata, Settings(), None if kind in ENSEMBLES else files))
    return models


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the counter and the lock."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in files.items() if name not in ("versions.json", ".lock")}


def description(repository: Path, model: str) -> model_config.Description:
    return model_config.read(repository / model / "config.pbtxt")


@pytest.fixture(autouse=True)
def not_durable(monkeypatch):
    """Nothing is waited for until it is on a disk."""
    monkeypatch.setattr("gan.runtime.files.fsync", lambda path: None)
    monkeypatch.setattr("serving.export.switch.fsync", lambda path: None)


@pytest.fixture
def models(tmp_path):
    """A repository with one version."""
    path = tmp_path / "models"
    assert ModelRepository(path).publish(make_family(tmp_path, "a" * 64)) == 1
    return path


class Killed(BaseException):
    """What a test stops an export with."""


def test_a_failure_at_any_point_leaves_the_old_version_as_it_was(tmp_path, monkeypatch):
    models, few = tmp_path / "models", ("generator", "discriminator", "generate_and_score")
    ModelRepository(models).publish(make_family(tmp_path, "a" * 64, few))
    before, moved, move = contents(models), [], switch._move
    for last in range(100):
        fault = (KeyboardInterrupt(), OSError(28, "No space left on device"))[last % 2]
        moved.clear()

        def fail(source, target, last=last, fault=fault):
            if len(moved) == last:
                raise fault
            moved.append(target)
            move(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(switch, "_move", fail)
            try:
                ModelRepository(models).publish(make_family(tmp_path, "b" * 64, (*few, "seed_to_png")))
                break
            except (SalonError, KeyboardInterrupt):
                assert contents(models) == before
                family.check(models)
    # Versions of models that were there, the record, and then what makes them served.
    names = [target.relative_to(models).as_posix() for target in moved]
    configs = [f"{kind}/config.pbtxt" for kind in few]
    assert names[:4] == [*(f"{kind}/{last + 2}" for kind in few), f"generator.{last + 2}.json"]
    assert sorted(names[4:]) == sorted([*configs, "seed_to_png"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files", "models"]


def die_before_step(number: int) -> None:
    """Let this process end, as by kill -9, before it renames or removes something for the `number`-th time."""
    left = [number]

    def deadly(step):
        def run(*arguments, **options):
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return step(*arguments, **options)

        return run

    for name in ("rename", "replace", "unlink"):
        setattr(Path, name, deadly(getattr(Path, name)))


def test_an_export_that_is_killed_at_any_point_leaves_one_version_or_is_undone_by_the_next(tmp_path):
    models, few, states = tmp_path / "models", ("generator", "mapping"), []
    ModelRepository(models).publish(make_family(tmp_path, "a" * 64, few))
    before, new = contents(models), make_family(tmp_path, "b" * 64, (*few, "seed_to_png"))
    for number in range(1000):
        path = tmp_path / str(number) / "models"
        shutil.copytree(models, path)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                die_before_step(number)
                ModelRepository(path).publish(new)
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9)
        try:
            family.check(path)
        except RequestError as error:
            assert "an export that is under way or stopped half-way; if it stopped, export again" in str(error)
            states.append("half")
        else:
            states.append(description(path, "generator").metadata.snapshot[0])
        if states.count("half") == 5 and states[-1] == "half":
            ModelRepository(path).publish(new)  # which begins with it, too
            family.check(path)
            assert not [p for p in path.parent.rglob("*") if "partial" in p.name]
            assert {p.name for p in path.glob("*/*") if p.is_dir()} == {"1", "3"}
            continue
        ModelRepository(path).recover()
        family.check(path)
        assert states[-1] != "half" or not [p for p in path.rglob("*") if "partial" in p.name]
        snapshot = "b" if states[-1] == "b" else "a"
        assert {about.snapshot[0] for about in ModelRepository(path).models().values()} == {snapshot}
        if snapshot == "a":
            assert {name: text for name, text in contents(path).items() if "partial" not in name} == before
        if code == 0:
            break
    half = states.count("half")
    assert states == ["a"] * states.index("half") + ["half"] * half + ["b"] * (len(states) - states.index("b"))
    assert half >= 3 * len(few)


def test_a_killed_recovery_is_gone_on_with(tmp_path, models, monkeypatch):
    before = contents(models)
    journal = models / family.JOURNAL
    with monkeypatch.context() as patch:
        patch.setattr(switch, "undo", lambda repository: None)  # as if it were killed before it
        patch.setattr(switch, "_end", lambda repository: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            ModelRepository(models).publish(make_family(tmp_path, "b" * 64))
    assert journal.exists() and contents(models).keys() > before.keys()
    with monkeypatch.context() as patch:
        patch.setattr(switch, "_end", lambda repository: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            ModelRepository(models).recover()
    assert journal.exists()
    ModelRepository(models).recover()
    assert contents(models) == before


def test_files_from_another_file_system_are_copied(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", refuse)
        patch.setattr(Path, "rename", refuse)
        for snapshot in ("a" * 64, "b" * 64):
            ModelRepository(tmp_path / "models").publish(make_family(tmp_path, snapshot))
    family.check(tmp_path / "models")
    assert (tmp_path / "models" / "mapping" / "2" / "model.onnx").read_text() == f"mapping of {'b' * 64}"


def test_a_family_of_several_snapshots_is_refused_also_of_before_there_were_records(tmp_path, models):
    repository = ModelRepository(models)
    repository.publish(make_family(tmp_path, "b" * 64))
    for record in models.glob("*.json"):
        record.unlink()
    old = tmp_path / "old"
    shutil.copytree(models, old)
    for model in KINDS:  # as they were described then
        config = old / model / "config.pbtxt"
        text = config.read_text()
        start = text.index("version_policy")
        config.write_text(text[:start] + text[text.index("\n}\n", start) + 3 :])
    family.check(old)
    rows = family.list_versions(old)
    assert [(row["version"], row["snapshot"], row["date"], row["state"]) for row in rows] == [
        *((1, None, None, "stored"), (2, "b" * 64, None, "served"))
    ]
    with pytest.raises(RequestError, match=r"must be one of \(none has a record\)"):
        roll_back(old, 1)
    newer = shutil.copytree(old, tmp_path / "newer")
    ModelRepository(newer).publish(make_family(tmp_path, "c" * 64))
    assert {n: about.snapshot[0] for n, about in description(newer, "mapping").versions.items()} == {2: "b", 3: "c"}
    family.check(newer)
    shutil.rmtree(old / "synthesis" / "2")  # an export that stopped before it
    with pytest.raises(RequestError, match=r"generator is of several snapshots: .*, but synthesis is version 1 of b"):
        family.check(old)
    family.check(models)
    text = (models / "mapping" / "config.pbtxt").read_text()
    (models / "mapping" / "config.pbtxt").write_text(text.replace("b" * 64, "c" * 64))
    with pytest.raises(RequestError, match=r"but mapping is version 2 of cccccccc; .*: export again, or"):
        family.check(models)
    shutil.rmtree(models / "mapping")  # which is the user's right
    family.check(models)


def test_a_file_that_is_not_what_was_exported_is_refused(tmp_path, models):
    ModelRepository(models).publish(make_family(tmp_path, "b" * 64))
    ModelRepository(models).publish(make_family(tmp_path, "d" * 64, name="people"))
    family.check(models)
    (models / "generator" / "config.pbtxt").write_text((models / "generator" / "config.pbtxt").read_text() + "\n")
    family.check(models)  # which operators may change
    for version in ("1", "2"):
        file = models / "generator" / version / "model.onnx"
        good = file.read_text()
        file.unlink()
        with pytest.raises(RequestError, match=rf"generator/{version}/model.onnx is missing"):
            family.check(models)
        file.write_text(good.replace("of", "0f"))
        with pytest.raises(
            RequestError, match=rf"generator/{version}/model.onnx is not what was exported: its SHA-256"
        ):
            family.check(models)
        file.write_text(good)
    family.check(models)
    shutil.rmtree(models / "mapping" / "1")  # to have room: it is only served for those that began with it
    family.check(models)


def test_the_version_before_is_served_too_where_it_fits(tmp_path, models):
    repository = ModelRepository(models)
    assert list(description(models, "mapping").versions) == [1]
    repository.publish(make_family(tmp_path, "b" * 64))
    repository.publish(make_family(tmp_path, "c" * 64))
    for kind in KINDS:
        found = description(models, kind)
        assert {n: about.snapshot[0] for n, about in found.versions.items()} == (
            {3: "c"} if kind in ENSEMBLES else {2: "b", 3: "c"}
        )
        assert all(about.version == n for n, about in found.versions.items())
    assert description(models, "generate_and_score").parts == {"generator": 3, "discriminator": 3}
    repository.publish(make_family(tmp_path, "d" * 64, resolution=32))
    assert list(description(models, "mapping").versions) == [4]
    for version, shape in enumerate(({"width": 24, "height": 16}, {"channels": 1}), 5):  # others alone
        repository.publish(make_family(tmp_path, str(version) * 64, **shape))
        assert list(description(models, "mapping").versions) == [version]


def test_an_ensemble_keeps_its_classifier(tmp_path):
    path = tmp_path / "models"
    repository = ModelRepository(path)
    kinds = ("generator", CLASSIFIER, "generate_and_classify")
    repository.publish(make_family(tmp_path, "a" * 64, kinds, styles=STYLES))
    for number in range(3):
        repository.publish(make_family(tmp_path, str(number) * 64, kinds, name="people", styles=STYLES))
    assert description(path, "generate_and_classify").parts == {"generator": 1, CLASSIFIER: 1}
    assert description(path, "people_generate_and_classify").parts == {"people": 4, CLASSIFIER: 4}
    assert list(description(path, CLASSIFIER).versions) == [1, 3, 4]
    repository.publish(make_family(tmp_path, "e" * 64, ("generator", "generate_and_classify"), styles=STYLES))
    assert description(path, "generate_and_classify").parts == {"generator": 5, CLASSIFIER: 4}
    family.check(path)


def test_versions_are_listed_and_one_is_published_again(tmp_path, models):
    repository = ModelRepository(models)
    for snapshot in ("b" * 64, "c" * 64):
        repository.publish(make_family(tmp_path, snapshot))
    outcome = run_salon("export", "--list", "--out", models, "--json")
    rows = outcome.json["versions"]
    assert [(row["version"], row["snapshot"][0], row["state"]) for row in rows] == [
        *((1, "a", "stored"), (2, "b", "kept"), (3, "c", "served"))
    ]
    assert all(row["name"] == "generator" and row["models"] == sorted(KINDS) for row in rows)
    assert all(row["cur_nimg"] == 1000 and row["date"].endswith("+00:00") for row in rows)
    before = contents(models)
    outcome = run_salon("export", "--rollback", 1, "--out", models, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["version"] == 4 and outcome.json["models"] == list(KINDS)
    changed = {f"{kind}/config.pbtxt" for kind in KINDS}
    assert {name for name, content in contents(models).items() if before.get(name) != content} == {
        *changed,
        "generator.4.json",
        *(f"{kind}/4/model.onnx" for kind in KINDS if kind not in ENSEMBLES),
    }
    one, four = (models / "mapping" / version / "model.onnx" for version in "14")
    assert four.samefile(one)  # nothing is copied
    assert description(models, "generator").metadata.snapshot == "a" * 64
    assert list(description(models, "generator").versions) == [3, 4]
    assert description(models, "generate_and_score").parts == {"generator": 4, "discriminator": 4}
    family.check(models)
    text = run_salon("export", "--list", "--out", models).out
    assert "served, version 1 again" in text and "1.0" in text and "aaaaaaaaaaaa" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rollback", 7], r"--rollback must be one of 1, 2, the versions of .* that have a record; got 7"),
        (["--rollback", 1, "--snapshot", "x"], "one of --snapshot, --list and --rollback must be given, and only one"),
        (["--list", "--rollback", 1], "one of --snapshot, --list and --rollback"),
        ([], "one of --snapshot, --list and --rollback must be given"),
        (["--rollback", 1], "mapping/1/model.onnx is not what was exported"),
        (["--rollback", 2], "--rollback 2 has no discriminator, which is served now"),
    ],
)
def test_a_rollback_that_cannot_be_is_one_line(tmp_path, models, options, message):
    few = make_family(tmp_path, "b" * 64, ("generator", "mapping"))
    ModelRepository(models).publish(few)
    (models / "mapping" / "1" / "model.onnx").write_text("other")
    outcome = run_salon("export", *options, "--out", models)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert re.search(message, outcome.err), outcome.err
    assert not (models / "mapping" / "3").exists()


def test_styles_that_the_classifier_does_not_know_are_not_brought_back(tmp_path):
    path, kinds = tmp_path / "models", ("generator", CLASSIFIER, "generate_and_classify")
    repository = ModelRepository(path)
    repository.publish(make_family(tmp_path, "a" * 64, kinds, styles=STYLES))
    repository.publish(make_family(tmp_path, "b" * 64, ("generator", "generate_and_classify"), styles=STYLES))
    repository.publish(make_family(tmp_path, "c" * 64, kinds, styles=["Op Art", *STYLES]))
    with pytest.raises(RequestError, match=r"gives the styles Cubism, Rococo, which the classifier .* does not know"):
        roll_back(path, 2)
    assert roll_back(path, 1)["models"] == list(kinds)  # it has its own
    assert description(path, "generate_and_classify").parts == {"generator": 4, CLASSIFIER: 4}


def test_records_of_a_format_to_come_are_refused_by_name(models):
    record = models / "generator.1.json"
    record.write_text(record.read_text().replace("salon-family-1", "salon-family-2"))
    with pytest.raises(RequestError, match="salon-family-1; got salon-family-2"):
        family.check(models)
    (models / family.JOURNAL).write_text(json.dumps({}))
    with pytest.raises(RequestError, match="must be the journal of an export"):
        ModelRepository(models).recover()


def test_no_room_beside_the_repository_nor_for_temporary_files(tmp_path, models, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    make = model_repository._temporary_folder

    def refuse_beside(prefix, parent):
        if parent is not None:
            raise PermissionError(13, "Permission denied")
        return make(prefix, temporary)

    monkeypatch.setattr("serving.export.model_repository._temporary_folder", refuse_beside)
    assert ModelRepository(models).publish(make_family(tmp_path, "b" * 64)) == 2
    with (
        pytest.raises(SalonError, match=r"no room for temporary files: No space left on device; .*set TMPDIR to"),
        ModelRepository(models).workplace(),
    ):
        raise OSError(28, "No space left on device")
    shutil.rmtree(temporary)
    with pytest.raises(SalonError, match=r"no room for temporary files: .*set TMPDIR to a folder with room"):
        ModelRepository(models).publish(make_family(tmp_path, "c" * 64))
