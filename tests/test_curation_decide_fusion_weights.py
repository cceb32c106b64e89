"""Weights of content and style by labelled images, with planted outliers that one of them, or both, tell."""

import numpy as np
import pytest
from conftest import run_salon
from sklearn.metrics import average_precision_score
from test_curation_decide_verdicts import make_rows, prune

from curation.decide import fusion_weights, quotas
from gan.data import manifest
from gan.errors import RequestError

COUNT = 400
OUTLIERS = np.arange(COUNT) % 10 == 3


def scores(tells, seed=0):
    """Normal scores [N], of the outliers lower by 3 where they tell."""
    return np.random.default_rng(seed).standard_normal(COUNT) - 3 * tells * OUTLIERS


def scored(folder, content, style, count=COUNT, **columns):
    names = ("score_density", "score_knn", "score_style_density", "score_style_knn")
    values = dict(zip(names, (scores(content, 1), scores(content, 2), scores(style, 3), scores(style, 4)), strict=True))
    given = {name: value[:count] for name, value in values.items()} | columns
    manifest.write_tables(folder, [make_rows(count, **given)], dataset="abc", parent=None)
    return folder


def table(path, places, header="name,outlier"):
    lines = [f"00000/img{place:08d}.png,{int(OUTLIERS[place])}" for place in places]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


LABELLED = [*np.flatnonzero(OUTLIERS)[:12].tolist(), *np.flatnonzero(~OUTLIERS)[:60].tolist()]


@pytest.mark.parametrize(("content", "style", "least", "most"), [(1, 0, 0, 0.25), (0, 1, 0.75, 1), (1, 1, 0.25, 0.75)])
def test_the_side_that_tells_outliers_has_the_weight(content, style, least, most):
    ranks = [quotas.ranks(scores(tells, seed)) for seed, tells in enumerate((content, style))]
    choice = fusion_weights.choose(*ranks, OUTLIERS)
    assert least <= choice.style <= most and choice.weights == {"content": 1 - choice.style, "style": choice.style}
    assert (choice.images, choice.outliers) == (400, 40)
    fused = {weight: (1 - weight) * ranks[0] + weight * ranks[1] for weight in fusion_weights.STYLE_WEIGHTS}
    precision = {weight: average_precision_score(OUTLIERS, -values) for weight, values in fused.items()}
    assert precision[choice.style] > max(precision.values()) - 0.03
    assert choice.held_out.low < choice.held_out.value < choice.held_out.high
    assert choice.held_out.value == pytest.approx(precision[choice.style], abs=0.05)
    assert choice.equal.value == pytest.approx(precision[0.5], abs=0.05)


def test_the_held_out_figure_promises_nothing_where_nothing_tells():
    labels = OUTLIERS[:40]  # four of them, by chance
    found = [
        fusion_weights.choose(*(quotas.ranks(scores(0, 2 * seed + side)[:40]) for side in (0, 1)), labels)
        for seed in range(25)
    ]
    held_out = np.mean([choice.held_out.value for choice in found])
    # each held-out fold has ten images, of which one is an outlier: at any place alike, 1/k on average
    assert held_out == pytest.approx(np.mean(1 / np.arange(1, 11)), abs=0.06)


def test_weights_stay_equal_unless_others_are_better_by_more_than_chance():
    rank = quotas.ranks(scores(1))
    assert fusion_weights.choose(rank, rank, OUTLIERS).style == 0.5
    few = [
        fusion_weights.choose(*(quotas.ranks(scores(1, 2 * s + side)[:60]) for side in (0, 1)), OUTLIERS[:60])
        for s in range(20)
    ]
    assert np.mean([choice.style == 0.5 for choice in few]) >= 0.9


@pytest.mark.parametrize(("content", "style"), [(1, 0), (0, 1)])
@pytest.mark.parametrize("by", ["table", "manifest"])
def test_prune_fuses_by_the_weights_that_labels_choose(tmp_path, content, style, by):
    path = scored(tmp_path / "m", content, style)
    labels = table(tmp_path / "labels.csv", LABELLED)
    if by == "manifest":
        verdicts = [manifest.DROP if outlier else manifest.KEEP for outlier in OUTLIERS]
        reviewers = ["Ada" if place in LABELLED else "salon prepare" for place in range(COUNT)]
        labels = scored(tmp_path / "judged", content, style, verdict=verdicts, reviewer=reviewers)
    equal, _ = prune(path, "--keep", 0.9, out="equal")
    outcome, rows = prune(path, "--keep", 0.9, "--fuse-by", labels)
    assert outcome.code == 0, outcome.err
    told = outcome.json["parameters"]
    assert told["fuse_by"] == labels.name and (told["weights"]["images"], told["weights"]["outliers"]) == (72, 12)
    assert told["weights"]["style"] in ((0.0, 0.25) if content else (0.75, 1.0))
    gone = [row["verdict"] == manifest.DROP for row in rows.values()]
    before = [row["verdict"] == manifest.DROP for row in manifest.read(tmp_path / "equal").rows.to_pylist()]
    assert sum(gone) == sum(before) == 40 and OUTLIERS[gone].sum() > OUTLIERS[before].sum() + 3
    assert "weights" not in equal.json["parameters"]
    assert manifest.read(tmp_path / "out").header["parameters"]["weights"] == told["weights"]
    printed = run_salon("curate", "prune", path, "--keep", 0.9, "--fuse-by", labels, "--dry-run").out
    assert f"content {1 - told['weights']['style']:g}, style {told['weights']['style']:g}. Held-out" in printed
    assert "Weights by 72 labelled images, 12 of them outliers" in printed


def test_weights_of_what_an_image_lacks_count_for_nothing():
    one, two, nothing = np.array([1.0, 2, 3, 4]), np.array([4.0, np.nan, 2, 1]), np.full(4, np.nan)
    fused = quotas.fuse([one, two, nothing], weights=[0.25, 0.75, 1])
    ranks = quotas.ranks(two)
    assert fused == pytest.approx(
        [0.25 / 8 + 0.75 * ranks[0], 3 / 8, *(0.25 * np.array([5, 7]) / 8 + 0.75 * ranks[2:])]
    )
    assert np.isnan(quotas.fuse([one, two], weights=[0, 1])[1])
    assert quotas.fuse([one, two], weights=[0.5, 0.5]) == pytest.approx(quotas.fuse([one, two]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("name,verdict\nx,1\n", "must be a manifest with verdicts, or a .csv with the columns name and outlier"),
        ("name,outlier\nx,maybe\n", "cannot be read as that"),
        ("name,outlier\nx\n", "cannot be read as that"),
        ("name,outlier\nnone.png,1\n", "names 'none.png', which is none"),
        ("name,outlier\n00000/img00000003.png,1\n", "it labels 1 and 0"),
        (None, "cannot be read as that"),
    ],
)
def test_labels_that_are_refused(tmp_path, labels, message):
    file = tmp_path / "labels.csv"
    if labels is not None:
        file.write_text(labels)
    outcome, _ = prune(scored(tmp_path / "m", 1, 1, count=20), "--fuse-by", file)
    assert outcome.code == 2 and "--fuse-by" in outcome.err and message in outcome.err


def test_weights_need_both_sides_and_a_mean(tmp_path):
    path, labels = scored(tmp_path / "m", 1, 1), table(tmp_path / "labels.csv", LABELLED)
    one, _ = prune(path, "--fuse-by", labels, "--method", "density")
    assert one.code == 2 and "--fuse-by weighs content against style: --method must be of both" in one.err
    least, _ = prune(path, "--fuse-by", labels, "--fuse", "min")
    assert least.code == 2 and "--fuse must be mean; got min instead" in least.err
    with pytest.raises(RequestError, match="at least 3 of them outliers"):
        fusion_weights.choose(np.arange(12.0), np.arange(12.0), np.arange(12) < 2)
