"""Cards of generators and datasets: what the hub and other programs read of them, and that nothing is made up."""

import hashlib
import json
import re
import shlex
import shutil

import pytest
import yaml
from conftest import run_salon, write_dataset
from test_cli import refused

from gan import snapshot
from gan.config import TrainingConfig, make_config, parse_override
from gan.data import manifest, recipe
from gan.data.dataset import ImageDataset
from gan.image_shape import ImageShape
from serving.hub.croissant import CONFORMS_TO
from serving.hub.front_matter import front_matter
from serving.hub.training_command import in_lines, overrides, training_command


def made(*arguments):
    outcome = run_salon("card", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def read(folder):
    """The front matter and the text of a card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.fixture(scope="module")
def evaluation(tiny_run, tiny_dataset, tmp_path_factory):
    """An evaluation of tiny_run. Not to be changed."""
    out = tmp_path_factory.mktemp("evaluation") / "evaluation"
    command = ("eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--num-images", "8", "--metrics", "kid")
    outcome = run_salon(*command, "--out", out, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return out


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    """A dataset of 6 images of which a manifest tells styles, and drops two."""
    folder = tmp_path_factory.mktemp("styled")
    path = write_dataset(folder / "styled.zip", [(16, 16)] * 6, [0, 1] * 3, ["a|b", "c"])
    dataset = ImageDataset(path)
    kept = ["keep", "keep", "drop", "keep", "drop", "keep"]
    rows = [
        {"name": name, "source": f"/home/me/{name}", "style": "Rococo" if index % 2 else None}
        | {"verdict": verdict, "reason": None if verdict == "keep" else "duplicate: of another"}
        for index, (name, verdict) in enumerate(zip(dataset.names, kept, strict=True))
    ]
    parameters = {"sources": ["/home/me/pictures"], "resolution": 16, "fit": "stretch"}
    manifest.write(folder / "styled.manifest", rows, dataset=dataset.fingerprint(), parent=None, parameters=parameters)
    return path


# Generators


def test_the_card_of_a_generator_says_what_was_measured_and_what_was_not(tiny_run, tiny_dataset, evaluation, tmp_path):
    out = tmp_path / "card"
    made(tiny_run, "--evaluation", evaluation, "--data", tiny_dataset, "--license", "mit", "--out", out)
    front, text = read(out)
    assert front["license"] == "mit" and front["library_name"] == "salon"
    assert front["pipeline_tag"] == "unconditional-image-generation"
    results = json.loads((evaluation / "results.json").read_text())
    (shown,) = results["results"]
    (metric,) = front["model-index"][0]["results"][0]["metrics"]
    assert metric["type"] == "kd" and metric["value"] == pytest.approx(shown["value"], abs=1e-5)
    assert metric["args"] == {"key": shown["key"], "low": shown["low"], "high": shown["high"]}
    about = json.loads((out / "card.json").read_text())
    source = snapshot.find(tiny_run)
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert about["sha256"] == digest and digest in text and source.config.dataset in text
    assert TrainingConfig.from_dict(about["config"]) == source.config
    assert about["dataset"] == {"sha256": source.config.dataset, "images": 12, "kept": 12, "manifest": None}
    assert about["evaluation"]["results"][0]["low"] == shown["low"] and shown["key"] in text
    assert "perceptual path length" in about["not_measured"] and "a kernel distance" not in about["not_measured"]
    assert f"Not measured: {'; '.join(about['not_measured'])}" in text
    assert "images to learn from | 12 |" in text and "none: all images" in text


def test_what_is_not_known_is_said_to_be_unknown(tiny_run, tmp_path):
    outcome = made(tiny_run, "--out", tmp_path / "card")
    front, text = read(tmp_path / "card")
    assert front["license"] == "unknown" and "**unknown**" in text and "--license" in outcome.err
    assert not {"datasets", "metrics", "model-index"} & set(front)
    assert "No evaluation was given" in text and "the dataset was not at hand" in text
    about = json.loads((tmp_path / "card" / "card.json").read_text())
    assert about["evaluation"] is None and len(about["not_measured"]) == 6


def test_samples_are_marked_and_made_again(tiny_run, tmp_path):
    made(tiny_run, "--seeds", "3-5", "--truncation-psi", "0.5", "--out", tmp_path / "card")
    picture = tmp_path / "card" / "samples.png"
    said = recipe.read(picture)
    assert said.marked and list(said.recipe.seeds) == [3, 4, 5] and said.recipe.grid == "2x2"
    assert "Seeds 3-5, truncation psi 0.5" in read(tmp_path / "card")[1]
    assert run_salon("verify", picture, "--snapshot", tiny_run).code == 0


def test_a_conditional_generator_shows_its_classes(conditional_snapshot, tmp_path):
    made(conditional_snapshot, "--seeds", "0", "--out", tmp_path / "both")
    assert [recipe.read(tmp_path / "both" / f"samples-{n}.png").recipe.class_name for n in (0, 1)] == ["day", "night"]
    text = read(tmp_path / "both")[1]
    assert "A class-conditional" in text and "--class day" in text and "2: day, night" in text
    made(conditional_snapshot, "--seeds", "0", "--class", "night", "--out", tmp_path / "one")
    assert recipe.read(tmp_path / "one" / "samples.png").recipe.class_name == "night"


def test_a_card_has_no_local_path(tiny_run, tiny_dataset, evaluation, styled, tmp_path):
    out = ("--out", tmp_path / "model")
    made(tiny_run, "--evaluation", evaluation, "--data", tiny_dataset, *out)
    made(styled, "--out", tmp_path / "data")
    for file in (file for folder in ("model", "data") for file in (tmp_path / folder).iterdir()):
        content = file.read_bytes()
        for path in (tiny_run.parent, tiny_dataset.parent, evaluation, styled.parent, "/home/me"):
            assert str(path).encode() not in content, file


def test_what_is_of_another_generator_is_refused(
    tiny_run, tiny_dataset, styled, conditional_snapshot, evaluation, tmp_path
):
    out = ("--out", tmp_path / "card")
    refused(
        run_salon("card", conditional_snapshot, "--evaluation", evaluation, *out), "--evaluation", "card's snapshot"
    )
    refused(run_salon("card", tiny_run, "--data", styled, *out), "--data", "another dataset")
    refused(run_salon("card", tiny_run, "--evaluation", tmp_path, *out), "results.json")
    refused(run_salon("card", tiny_run, "--manifest", tmp_path, *out), "--manifest", "--data")
    refused(run_salon("card", tiny_dataset, "--evaluation", evaluation, *out), "--evaluation", "is a dataset")
    refused(run_salon("card", tiny_run, "--seeds", "0-999", *out), "--seeds")
    refused(run_salon("card", tiny_run, "--license", " ", *out), "--license")
    refused(run_salon("card", tiny_run, "--repo", "x", *out), "--repo", "OWNER/NAME")
    assert list(tmp_path.iterdir()) == []
    made(tiny_run, "--seeds", "0", *out)
    refused(run_salon("card", tiny_run, "--seeds", "0", *out), "--out", "--overwrite")
    made(tiny_run, "--seeds", "0", *out, "--overwrite")


def test_the_manifest_of_a_training_says_how_many_were_kept_and_why(styled, tmp_path, tiny_config):
    from dataclasses import replace

    from gan.networks.generator import Generator

    chosen = styled.with_suffix(".manifest")
    hash = manifest.read_header(chosen)["hash"]
    config = replace(tiny_config, dataset=ImageDataset(styled).fingerprint(), manifest=hash)
    path = tmp_path / "snapshot-0000000008.safetensors"
    snapshot.save(path, Generator(config.network), None, config, 8, None)
    made(path, "--seeds", "0", "--data", styled, "--manifest", chosen, "--out", tmp_path / "card")
    text = read(tmp_path / "card")[1]
    assert "images to learn from | 4 |" in text and "| drop | 2 |" in text and "| not kept: duplicate | 2 |" in text
    assert "--manifest DIR" in text and hash in text
    made(path, "--seeds", "0", "--data", styled, "--out", tmp_path / "without")
    assert "How many images the manifest keeps, and why, is not said" in read(tmp_path / "without")[1]
    other = replace(config, manifest=None)
    snapshot.save(path, Generator(other.network), None, other, 8, None)
    refused(
        run_salon("card", path, "--data", styled, "--manifest", chosen, "--out", tmp_path / "no"),
        "learned by no manifest",
    )


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("tiny", {}),
        ("tiny", {"batch_size": 8, "z_dim": 8, "augment": "ada", "ada_target": 0.5, "mirror": True}),
        ("auto", {"r1_gamma": 3.5, "precision": "fp16", "ema_rampup": None, "seed": 7}),
        ("paper256", {"batch_size": 32, "style_mixing_prob": 0.0, "D_mapping_layers": 0}),
    ],
)
def test_the_training_command_comes_to_the_same_config(preset, fields):
    shape = ImageShape(48, 32, 1)
    config = make_config(preset=preset, shape=shape, num_classes=3, dataset="0" * 64, overrides=fields)
    words = shlex.split(training_command(config, 12.5, "my paintings.zip"))
    lines = in_lines(shlex.join(words))
    assert shlex.split(lines.replace("\\\n", "")) == words and max(map(len, lines.splitlines())) < 110
    assert words[:6] == ["salon", "train", "--data", "my paintings.zip", "--out", "runs"]
    assert words[words.index("--total-kimg") + 1] == "12.5" and "--conditional" in words
    given = dict(parse_override(words[n + 1]) for n, word in enumerate(words) if word == "--set")
    given |= {name: words[words.index(f"--{name}") + 1] for name in ("precision", "augment")}
    again = make_config(preset=preset, shape=shape, num_classes=3, dataset="0" * 64, overrides=given)
    assert again == config and set(overrides(config)) <= set(fields)
    assert run_salon(*words[1:], "--help").code == 0


# Datasets


def test_the_card_of_a_dataset_says_what_is_in_it_and_what_was_dropped(styled, tmp_path):
    out = tmp_path / "card"
    made(styled, "--out", out, "--repo", "me/styled", "--license", "cc0-1.0", "--creator", "A <b>painter</b>")
    front, text = read(out)
    assert front == {
        "license": "cc0-1.0",
        "pretty_name": "styled",
        "task_categories": ["unconditional-image-generation"],
        "tags": ["salon", "croissant", "image"],
        "size_categories": ["n<1K"],
    }
    assert r"| a\|b | 3 |" in text and "| Rococo | 3 |" in text and "| not kept: duplicate | 2 |" in text
    assert "salon pull datasets/me/styled --out styled" in text and r"A \<b\>painter" in text
    assert hashlib.sha256(styled.read_bytes()).hexdigest() in text
    rows = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    dataset = ImageDataset(styled)
    assert [row["file_name"] for row in rows] == list(dataset.names)
    assert rows[1] == {"file_name": dataset.names[1], "label": "c", "style": "Rococo", "verdict": "keep"}
    assert rows[2]["style"] is None and rows[2]["verdict"] == "drop"


def test_croissant_metadata_has_what_the_specification_requires(styled, tmp_path):
    made(styled, "--out", tmp_path / "card", "--repo", "me/styled", "--license", "cc0-1.0")
    described = json.loads((tmp_path / "card" / "croissant.json").read_text())
    required = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
    assert all(described[name] for name in required)
    assert described["@type"] == "sc:Dataset" and described["conformsTo"] == CONFORMS_TO
    assert described["url"] == "https://huggingface.co/datasets/me/styled"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", described["datePublished"])
    shutil.copy(styled, tmp_path / "card")
    archive, table, images = described["distribution"]
    for file in (archive, table):
        assert file["@type"] == "cr:FileObject" and file["encodingFormat"]
        content = (tmp_path / "card" / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
    assert images["@type"] == "cr:FileSet" and images["containedIn"] == {"@id": archive["@id"]}
    assert images["includes"] == ["*.png"] and images["encodingFormat"] == ["image/png"]
    (records,) = described["recordSet"]
    fields = {field["name"]: field for field in records["field"]}
    assert list(fields) == ["file_name", "image", "label", "style", "verdict"]
    assert all(field["@type"] == "cr:Field" and field["dataType"] and field["source"] for field in fields.values())
    assert records["key"] == {"@id": fields["file_name"]["@id"]}
    ids = {part["@id"] for part in described["distribution"]}
    for field in fields.values():
        for source in filter(None, (field["source"], field.get("references"))):
            (of,) = {"fileObject", "fileSet"} & set(source)
            assert source[of]["@id"] in ids and len(source["extract"]) == 1
    columns = {field["source"]["extract"].get("column") for field in fields.values()} - {None}
    assert columns | {"file_name"} == set(json.loads((tmp_path / "card" / "images.jsonl").read_text().splitlines()[1]))


@pytest.mark.filterwarnings("ignore")  # of the libraries that it loads
def test_mlcroissant_reads_the_images_with_their_labels(styled, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    made(styled, "--out", tmp_path / "card", "--repo", "me/styled", "--license", "cc0-1.0")
    shutil.copy(styled, tmp_path / "card")
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "card" / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    rows = list(dataset.records(record_set="images"))
    assert [row["images/label"] for row in rows] == [b"a|b", b"c"] * 3
    assert {row["images/image"].size for row in rows} == {(16, 16)}


def test_other_datasets_than_one_zip_are_refused(styled, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    refused(run_salon("card", folder, "--out", tmp_path / "card"), "SOURCE", "in one ZIP")
    (tmp_path / "list.zips").write_text(f"{styled}\n")
    refused(run_salon("card", tmp_path / "list.zips", "--out", tmp_path / "card"), "SOURCE", "in one ZIP")


def test_front_matter_is_the_yaml_of_its_values():
    values = {
        "license": "no: yes #1",
        "numbers": [1, 2.5, True],
        "deep": [{"a": {"b": ["x", {"c": "é\"'"}]}, "d": "---"}],
    }
    text = front_matter({**values, "left_out": None, "empty": []})
    assert text.startswith("---\n") and text.endswith("\n---")
    assert yaml.safe_load(text.strip("-")) == values
