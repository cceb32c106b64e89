"""What curation's requests refuse, in the words of the library: the parameter, not the option that sets it."""

from pathlib import Path

import pytest

from curation.decide.request import PruneRequest, ReviewRequest
from curation.prepare.request import PrepareRequest
from curation.retrain.request import RetrainRequest
from curation.score.request import CheckRequest, ScoreRequest
from gan.errors import RequestError

HERE, NOWHERE = Path(__file__), Path("/nowhere/x.manifest")
IMAGES = {"sources": (Path("/nowhere/images"),), "out": Path("/nowhere/d.zip"), "resolution": 64}
FEATURES = {"dataset": Path("/nowhere/d.zip"), "out": NOWHERE}
REVIEW = {"manifest": NOWHERE, "data": Path("/nowhere/d.zip")}


@pytest.mark.parametrize(
    ("request_class", "values", "message"),
    [
        (
            PrepareRequest,
            {**IMAGES, "sources": ()},
            "`sources` must be a folder, a ZIP, a tar or a Parquet file of images; got none",
        ),
        (PrepareRequest, {**IMAGES, "out": None}, "`out` must name the dataset to write, .*; or add `dry_run`"),
        (PrepareRequest, {**IMAGES, "resolution": 48}, "`resolution` must be a power of two .*; got 48 instead"),
        (PrepareRequest, {**IMAGES, "genre": ("portrait",)}, "`genre` needs the WikiArt lists: add `wikiart_csv`"),
        (PrepareRequest, {**IMAGES, "labels": "style"}, "`labels` style needs the WikiArt lists"),
        (CheckRequest, {**FEATURES, "out": HERE}, "`out` would replace"),
        (ScoreRequest, {**FEATURES, "out": HERE}, "`out` would replace"),
        (ScoreRequest, {**FEATURES, "methods": ("knn", "d-cross")}, "`methods` must not be d-cross, which is gone"),
        (ScoreRequest, {**FEATURES, "methods": ("d-low",)}, "`methods` d-low needs `run`"),
        (
            ScoreRequest,
            {**FEATURES, "features": "colour"},
            "`features` must be one of content, style, both; got",
        ),
        (ScoreRequest, {**FEATURES, "features": "style", "extractor": "vgg16"}, "`features` style are those of eff"),
        (
            ScoreRequest,
            {**FEATURES, "features": "both", "state": HERE},
            "`features` both cannot be kept in one `state`",
        ),
        (ScoreRequest, {**FEATURES, "run": HERE}, "`run` needs `methods` d-low"),
        (ScoreRequest, {**FEATURES, "known": HERE, "state": Path("/nowhere")}, "`known` needs an existing `state`"),
        (PruneRequest, {"manifest": NOWHERE, "dry_run": True, "floor": 0.5}, "`floor` needs `strata`"),
        (PruneRequest, {"manifest": NOWHERE, "dry_run": True, "cap": 5}, "`cap` needs `strata`"),
        (PruneRequest, {"manifest": NOWHERE}, "`out` must name the manifest to write"),
        (PruneRequest, {"manifest": NOWHERE, "out": HERE}, "`out` would replace"),
        (ReviewRequest, REVIEW, "`out` must name the page to write, .*; or `overrule` a new manifest"),
        (ReviewRequest, {**REVIEW, "out": Path("x.pdf")}, r"`out` must end in \.html; got x\.pdf instead"),
        (ReviewRequest, {**REVIEW, "overrule": NOWHERE}, "`overrule` needs `reviewer`"),
        (ReviewRequest, {**REVIEW, "overrule": HERE, "reviewer": "Ada"}, "`overrule` would replace"),
        (
            RetrainRequest,
            {"run": HERE, "manifest": NOWHERE, "kimg": 1, "out": NOWHERE},
            "`data` must name the dataset of `manifest` .*; /nowhere/x.zip does not exist",
        ),
    ],
)
def test_a_request_names_the_parameter(request_class, values, message):
    with pytest.raises(RequestError, match=message):
        request_class(**values)


def test_a_dry_run_may_name_what_exists():
    assert PruneRequest(manifest=NOWHERE, out=HERE, dry_run=True).dry_run
    assert PrepareRequest(**{**IMAGES, "out": HERE}, dry_run=True).archive is None


def test_the_lists_alone_are_described_without_sources():
    lists = {"wikiart_csv": Path("/nowhere"), "style": ("Impressionism",)}
    assert PrepareRequest(**lists, dry_run=True).lists_only
    assert not PrepareRequest(**IMAGES, **lists).lists_only
    with pytest.raises(RequestError, match="`sources` must be"):
        PrepareRequest(**lists)


def test_a_stratum_may_lose_twice_what_all_lose():
    quotas = [PruneRequest(manifest=NOWHERE, dry_run=True, keep=keep, strata="genre").quota() for keep in (0.95, 0.4)]
    assert quotas == [0.9, 0.0]
    assert PruneRequest(manifest=NOWHERE, dry_run=True, keep=0.95).quota() == 0.0
    assert PruneRequest(manifest=NOWHERE, dry_run=True, strata="genre", floor=0.7).quota() == 0.7
