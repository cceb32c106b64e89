"""salon eval: what is printed and written, what is refused, and how it ends."""

import json
import zipfile

import pytest
from conftest import run_salon, write_dataset

from eval import cli
from eval.data.snapshot_source import SnapshotSource
from eval.features.extractor import BACKENDS, EXTRACTORS, PRECISIONS
from eval.features.preprocess import PRESETS
from eval.metric_registry import result_ids
from eval.suite import default_extractor, parse_weights
from gan.data import manifest
from gan.data.collection import STRATA
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

LITE = ("--extractor", "efficientnet-lite0", "--device", "cpu")


def refused(outcome, *fragments):
    assert outcome.code == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line]
    assert lines[-1].startswith("Error: ") and "Traceback" not in outcome.err and outcome.out == ""
    for fragment in fragments:
        assert str(fragment) in lines[-1]


@pytest.fixture
def request_of(tiny_run, tiny_dataset, tmp_path):
    """The words of a small evaluation of tiny_run."""
    words = ("eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--out", tmp_path / "out")
    return (*words, "--num-images", 8, "--metrics", "kid", *LITE)


def test_what_is_printed_is_in_the_file(request_of, tmp_path):
    text = run_salon(*request_of)
    assert text.code == 0, text.err
    figures = json.loads((tmp_path / "out" / "results.json").read_text())
    (row,) = figures["results"]
    assert row["key"] in text.out and f"{row['value']:.4g}" in text.out and "report.html" in text.out
    printed = run_salon(*request_of, "--cuda-graphs", "--json")
    assert printed.err.startswith("CUDA graphs: no, they need a CUDA GPU\n") and "CUDA graphs" not in text.err
    printed = printed.json
    assert printed["results"] == figures["results"] and printed["images_made"] == 0
    assert printed["out"] == str(tmp_path / "out")


def test_a_bound_that_is_not_met_ends_with_3_and_the_results(request_of, tmp_path):
    met = run_salon(*request_of, "--require", "kd>-1000")
    assert met.code == 0, met.err
    (tmp_path / "out" / "results.json").unlink()
    outcome = run_salon(*request_of, "--require", "kd>-1000", "--require", "kd<-1000", "--json")
    assert outcome.code == 3
    assert "kd<-1000 is required; kd@efficientnet-lite0/imagenet/fp32/n=8 is" in outcome.err
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["requirements"]
    assert [(row["requirement"], row["met"]) for row in rows] == [("kd>-1000", True), ("kd<-1000", False)]
    assert outcome.json["requirements"] == rows
    assert "not met" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ("--metrics", "fud"),
            "must be some of fid,fid_infinity,fid_population,kid,mind,pr,dc,authenticity,is,ppl,ls; got fud",
        ),
        (("--extractor", "vgg61"), "--extractor must be one of"),
        (("--extractor", "vgg16"), "vgg16 needs its weights: put vgg16-397923af.pth"),
        (("--weights", "vgg61=x"), "--weights must be NAME=PATH"),
        (("--weights", "vgg16=x"), "--weights vgg16 is of no network that this evaluation uses"),
        (("--preprocess", "clear"), "'clear' is not one of 'tf1', 'clean'"),
        (("--precision", "fp8"), "'fp8' is not one of 'fp32', 'tf32', 'bf16'"),
        (("--backend", "tpu"), "'tpu' is not one of 'torch', 'onnxruntime'"),
        (("--require", "fid<20"), "--require must name one of kd; got fid instead: that needs Inception's weights"),
        (("--require", "kd=20"), "--require must be METRIC<NUMBER"),
        (("--strata", "style"), "--strata style needs a manifest with a style for some image"),
        (("--metrics", "ppl"), "--metrics ppl needs the weights lpips-vgg"),
        (("--metrics", "ls"), "--metrics ls needs --strata"),
        (("--images", "x"), "needs either --snapshot or --images"),
        (("--truncation-psi", "1e308"), "1e+308 is not in the range -2<=x<=2"),
        (("--seed", "4294967290"), "seeds at most 4294967295"),
        (("--manifest", "absent"), "absent must be a manifest, a folder with a manifest.json; it does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_a_line(words, said, request_of, tmp_path):
    refused(run_salon(*request_of, *words), said)
    assert not (tmp_path / "out" / "results.json").exists()


def test_the_word_for_the_images_must_fit_them(tiny_run, tiny_dataset, tmp_path):
    rest = ("--data", tiny_dataset, "--out", tmp_path / "out", *LITE)
    refused(run_salon("eval", "run", "--images", tiny_run, *rest), "must be given with --snapshot")
    refused(run_salon("eval", "run", "--snapshot", tiny_dataset, *rest), "Images are given with --images")
    refused(run_salon("eval", "run", "--images", tmp_path / "absent", *rest), "does not exist")
    refused(run_salon("eval", "compare", tmp_path, tmp_path), "must be results of eval run, a run, or a snapshot")
    refused(run_salon("eval", "compare", tmp_path / "absent", tmp_path), "it does not exist")
    refused(
        run_salon("eval", "compare", tiny_run.parent, tiny_run),
        f"is a folder of runs; name one of them, such as {tiny_run}",
    )
    (tmp_path / "text.txt").write_text("text")
    outcome = run_salon("eval", "run", "--snapshot", tmp_path / "text.txt", *rest)
    refused(outcome, "--snapshot must be a snapshot, a run or a folder of runs; ", "text.txt is none")
    outcome = run_salon("eval", "run", "--imagse", "x", *rest)
    assert outcome.code == 2 and "No such option" in outcome.err
    outcome = run_salon("eval", "run", "--images", tiny_dataset, "--truncation-psi", 0.5, *rest)
    refused(outcome, "--truncation-psi needs --snapshot")
    outcome = run_salon("eval", "run", "--images", tiny_dataset, "--cuda-graphs", *rest)
    refused(outcome, "--cuda-graphs needs --snapshot")


def test_the_choices_are_those_that_there_are():
    options = {option.name: option.type for option in cli.run.params}
    assert tuple(options["backend"].choices) == BACKENDS and tuple(options["precision"].choices) == PRECISIONS
    assert tuple(options["preprocess"].choices) == tuple(PRESETS)
    assert tuple(options["strata"].choices) == ("none", *STRATA)


def test_strata_and_a_manifest(tiny_dataset, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    rows = [
        {"name": name, "verdict": "drop" if index < 2 else "keep", "style": "calm" if index % 2 else "wild"}
        for index, name in enumerate(dataset.names)
    ]
    digest = manifest.write(tmp_path / "manifest", rows, dataset=dataset.fingerprint(), parent=None)
    images = write_dataset(tmp_path / "images.zip", [(16, 16)] * 8)
    words = ("eval", "run", "--images", images, "--data", tiny_dataset, "--manifest", tmp_path / "manifest", *LITE)
    outcome = run_salon(*words, "--out", tmp_path / "out", "--metrics", "pr", "--strata", "style", "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json
    assert (figures["reference"]["images"], figures["reference"]["manifest"]) == (10, digest)
    assert [(row["name"], row["n_real"], row["n_gen"]) for row in figures["strata"]] == [("calm", 5, 8), ("wild", 5, 8)]
    text = run_salon(*words, "--out", tmp_path / "out", "--metrics", "pr", "--strata", "style")
    assert "calm" in text.out and "shrunken" in text.out
    outcome = run_salon(*words, "--out", tmp_path / "x", "--metrics", "pr", "--strata", "genre")
    refused(outcome, "--strata genre needs a manifest with a genre", f"{tmp_path / 'manifest'} has no genre")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<td class="heat"') == 4
    other = manifest.write(tmp_path / "other", rows, dataset="0" * 64, parent=None)
    assert other
    refused(
        run_salon(*words[:6], "--manifest", tmp_path / "other", *LITE, "--out", tmp_path / "out"), "it is of another"
    )


def test_classes_are_painted_as_often_as_the_data_has_them(conditional_snapshot, tmp_path):
    data = write_dataset(tmp_path / "data.zip", [(16, 16)] * 12, [0] * 3 + [1] * 9, ["day", "night"])
    words = ("eval", "run", "--snapshot", conditional_snapshot, "--data", data, "--out", tmp_path / "out", *LITE)
    outcome = run_salon(*words, "--num-images", 24, "--metrics", "kid", "--strata", "label", "--json")
    assert outcome.code == 0, outcome.err
    expected = SnapshotSource(conditional_snapshot, 24, class_shares=[1, 3])
    assert outcome.json["generator"]["z_bank"] == expected.z_bank
    labels = [expected.label(index) for index in range(24)]
    rows = {row["name"]: row for row in outcome.json["strata"]}
    assert {name: row["n_gen"] for name, row in rows.items()} == {n: labels.count(n) for n in ("day", "night")}
    assert all(row["labelled"] for row in rows.values())


def test_statistics_in_advance(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    words = ("eval", "reference", tiny_dataset, *LITE)
    first = run_salon(*words, "--json").json
    (row,) = first["references"]
    assert (row["extractor"], row["images"], row["dim"]) == ("efficientnet-lite0/imagenet/fp32", 12, 1280)
    made = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.np?")}
    assert len(made) >= 5
    assert run_salon(*words).code == 0
    assert {file: file.stat().st_mtime_ns for file in made} == made


def test_a_damaged_image_of_the_dataset_is_named_with_a_remedy(tiny_dataset, tmp_path):
    with zipfile.ZipFile(tmp_path / "torn.zip", "w") as torn, zipfile.ZipFile(tiny_dataset) as whole:
        for name in whole.namelist():
            torn.writestr(name, whole.read(name) if "img00000005" not in name else whole.read(name)[:60])
    outcome = run_salon("eval", "reference", tmp_path / "torn.zip", *LITE)
    refused(outcome, "holds an image that cannot be read", "img00000005.png", "Prepare it again with salon prepare")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "text.png").write_text("text")
    words = ("eval", "run", "--images", tmp_path / "pictures", "--data", tiny_dataset, "--out", tmp_path / "out", *LITE)
    outcome = run_salon(*words, "--metrics", "is")
    refused(outcome, "holds no images; 1 file is left out: not an image 1 (text.png)")


def test_only_inceptions_results_are_called_fid(tiny_run, tiny_dataset, tmp_path, monkeypatch, inception_weights):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))
    words = (
        "eval",
        "run",
        "--snapshot",
        tiny_run,
        "--data",
        tiny_dataset,
        "--num-images",
        8,
        "--metrics",
        "kid,is",
    )
    words = (*words, "--out", tmp_path / "out", "--device", "cpu", "--json")
    without = run_salon(*words)
    assert without.code == 0, without.err
    assert "the weights of inception-v3-compat are not here" in without.err and "FD and KD" in without.err
    assert [row["id"] for row in without.json["results"]] == ["kd", "cs"]
    wrong = run_salon(*words, "--overwrite", "--num-images", 10**10)
    assert wrong.code == 2 and wrong.err.startswith("Error: --num-images must be")  # and no note above it
    both = run_salon(
        *(*words, "--overwrite", *LITE[:2], "--extractor", "inception-v3-compat"),
        *("--weights", f"inception-v3-compat={inception_weights}"),
    )
    assert both.code == 0, both.err
    assert [row["id"] for row in both.json["results"]] == ["kd", "cs", "kid", "is"]
    assert both.json["results"][2]["key"] == "kid@inception-v3-compat/tf1/fp32/n=8"
    assert both.json["results"][:2] == without.json["results"]
    assert result_ids("fid", inception=True) == ["fid", "fid_corrected"]
    assert result_ids("fid", inception=False) == ["fd", "fd_corrected"]


def test_inception_is_the_default_where_its_weights_are(tmp_path, monkeypatch, inception_weights):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    assert default_extractor({}) == "efficientnet-lite0"
    assert default_extractor({"inception-v3-compat": inception_weights}) == "inception-v3-compat"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / EXTRACTORS["inception-v3-compat"].file.name).symlink_to(inception_weights)
    assert default_extractor({}) == "inception-v3-compat"


def test_weights_are_named():
    assert [str(path) for path in parse_weights(["vgg16=a=b", "lpips-vgg=c"]).values()] == ["a=b", "c"]
    for wrong in ("vgg16", "vgg16=", "=x", "vgg=x"):
        with pytest.raises(RequestError, match="`weights` must be NAME=PATH"):
            parse_weights([wrong])
    with pytest.raises(RequestError, match="must name the file of vgg16 once"):
        parse_weights(["vgg16=a", "vgg16=b"])


def test_a_snapshot_that_is_not_there_is_said_so(tiny_dataset, tmp_path):
    outcome = run_salon("eval", "run", "--snapshot", tmp_path / "x", "--data", tiny_dataset, "--out", tmp_path / "e")
    assert outcome.code == 2 and "--snapshot must be there" in outcome.err and "does not exist" in outcome.err


def test_another_request_replaces_results_only_when_told_to(request_of, tmp_path):
    file = tmp_path / "out" / "results.json"
    assert run_salon(*request_of).code == 0
    before = file.read_bytes()
    for words, said in (
        (("--num-images", 9), "images is 8 there, 9 here"),
        (("--metrics", "pr"), "metrics is kid there, pr here"),
        (("--truncation-psi", 0.5), "generator's truncation_psi is 1.0 there, 0.5 here"),
        (("--strata", "label"), "strata is None there, label here"),
    ):
        outcome = run_salon(*request_of, *words)
        refused(outcome, f"--out would replace {file} of another request: ", said, "choose another, or add --overwrite")
        assert file.read_bytes() == before
    assert run_salon(*request_of, "--require", "kd>-1000").code == 0  # the same images and metrics
    assert run_salon(*request_of, "--num-images", 9, "--overwrite").code == 0
    assert json.loads(file.read_text())["generator"]["images"] == 9


def test_another_comparison_replaces_one_only_when_told_to(request_of, tiny_run, tiny_dataset, tmp_path):
    assert run_salon(*request_of).code == 0
    assert run_salon(*request_of, "--out", tmp_path / "b", "--seed", 9).code == 0
    words = ("eval", "compare", tmp_path / "out", tmp_path / "b", "--out", tmp_path / "compared")
    for _ in range(2):
        assert run_salon(*words).code == 0
    more = (tmp_path / "out", "--device", "cpu")
    refused(run_salon(*words, *more), f"--out would replace {tmp_path / 'compared' / 'comparison.json'}", "--overwrite")
    assert run_salon(*words, *more, "--overwrite").code == 0


def test_out_must_be_a_folder(request_of, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    refused(run_salon(*request_of, "--out", tmp_path / "text.txt"), "--out must be a folder; got the file")
    assert run_salon(*request_of).code == 0
    compare = ("eval", "compare", tmp_path / "out", tmp_path / "out")
    refused(run_salon(*compare, "--out", tmp_path / "text.txt"), "--out must be a folder; got the file")
