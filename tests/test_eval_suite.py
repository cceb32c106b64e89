"""Which networks see the images where none is named, and what is said of those that are missing."""

import pytest
import torch
from conftest import run_salon

from eval import suite
from eval.features import weights
from eval.features.dinov2 import Dinov2
from eval.features.registry import NETWORKS
from eval.request import METRICS, EvaluationRequest, FeatureRequest
from eval.suite import DINOV2, INCEPTION, OFFLINE
from gan.errors import RequestError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """here(NAME, ...): files of these networks' weights are in the cache."""
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    weights.folder().mkdir()

    def put(*names):
        for name in names:
            (weights.folder() / NETWORKS[name].file.name).touch()

    return put


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), {OFFLINE: METRICS}),
        ((INCEPTION,), {INCEPTION: METRICS}),
        ((DINOV2,), {DINOV2: METRICS}),
        ((INCEPTION, DINOV2), {DINOV2: METRICS, INCEPTION: ("fid",)}),
    ],
)
def test_the_suite_is_what_is_here(here, names, expected):
    here(*names)
    chosen = suite.choose(EvaluationRequest(), {})
    assert list(chosen.items()) == list(expected.items())  # the headline first
    assert suite.choose(EvaluationRequest(), dict.fromkeys(names, "file")) == expected


def test_what_is_named_is_kept(here):
    here(INCEPTION, DINOV2)
    assert suite.choose(EvaluationRequest(metrics=("fid",)), {}) == {INCEPTION: ("fid",)}
    assert suite.choose(EvaluationRequest(extractors=("vgg16",)), {}) == {"vgg16": METRICS}
    both = EvaluationRequest(extractors=(INCEPTION, DINOV2, INCEPTION), metrics=("kid",))
    assert list(suite.choose(both, {}).items()) == [(INCEPTION, ("kid",)), (DINOV2, ("kid",))]


def test_what_may_be_fetched_counts_as_here(here):
    assert set(suite.choose(EvaluationRequest(fetch=True), {})) == {DINOV2, INCEPTION}
    assert suite.networks(FeatureRequest(fetch=True), {}) == [DINOV2, INCEPTION]


def test_weights_of_no_network_are_refused(here):
    with pytest.raises(RequestError, match="`weights` vgg16 is of no network"):
        suite.choose(EvaluationRequest(), {"vgg16": "file"})
    with pytest.raises(RequestError, match="`weights` lpips-vgg is of no network"):
        suite.choose(EvaluationRequest(), {"lpips-vgg": "file"})
    suite.choose(EvaluationRequest(metrics=("ppl",)), {"lpips-vgg": "file"})
    with pytest.raises(RequestError, match="`extractor` must be one of"):
        suite.choose(EvaluationRequest(extractors=("dino",)), {})


def test_what_is_missing_is_said_with_the_remedy(here, capsys):
    suite.tell_missing([DINOV2, INCEPTION], list(suite.SUITE))
    assert capsys.readouterr().err == ""
    suite.tell_missing([INCEPTION], list(suite.SUITE), "metrics_weights")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the weights of {DINOV2} are not here, so {INCEPTION} alone sees" in line and str(weights.folder()) in line
    assert NETWORKS[DINOV2].file.url in line and f"`metrics_weights` {DINOV2}=PATH" in line
    suite.tell_missing([OFFLINE], list(suite.SUITE))
    (line,) = capsys.readouterr().err.splitlines()
    assert "the results are FD and KD" in line and NETWORKS[INCEPTION].file.name in line


def test_both_networks_see_each_image_once(monkeypatch, tmp_path, tiny_dataset, inception_weights):
    small = "dinov2-vit-s-14"  # in place of the large one
    monkeypatch.setattr(suite, "SUITE", {small: METRICS, INCEPTION: ("fid",)})
    torch.manual_seed(0)
    network = Dinov2("s")
    for tensor in network.parameters():
        torch.nn.init.normal_(tensor, std=0.02)
    torch.save(network.state_dict(), tmp_path / "small.pth")
    words = ("eval", "run", "--images", tiny_dataset, "--data", tiny_dataset, "--out", tmp_path / "out", "--json")
    files = ("--weights", f"{small}={tmp_path / 'small.pth'}", "--weights", f"{INCEPTION}={inception_weights}")
    outcome = run_salon(*words, *files, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "Note:" not in outcome.err
    figures = outcome.json
    assert [(result["id"], result["identity"]["extractor"]) for result in figures["results"]] == [
        *((id, small) for id in ("fd", "fd_corrected", "kd", "precision", "recall", "density", "coverage")),
        *((id, INCEPTION) for id in ("fid", "fid_corrected")),
    ]
    assert figures["results"][0]["key"] == f"fd@{small}/dgm/fp32/n=12"
    assert figures["images_made"] == 12
    assert figures["request"]["metrics"] == f"{small}: fid,kid,pr,dc; {INCEPTION}: fid"
