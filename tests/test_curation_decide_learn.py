"""Learning from a reviewer's verdicts: calibration, proposals, and the loop of commands with its page."""

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon, stripes_or_blots, web_server
from scipy.special import expit
from scipy.stats import binom
from test_curation_decide_verdicts import dropped, make_rows, prune

from curation.decide import learn as learning
from curation.decide import review_page, verdict_model
from curation.decide.review_server import ReviewSession, application
from gan.data import manifest
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.errors import RequestError


def simulated(count: int, dim: int, seed: int):
    """Inputs, and verdicts drawn from a logistic model of them whose probabilities are known."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=[count, dim]).astype(np.float32)
    probability = expit(2 + x @ rng.normal(size=dim) * 2 / np.sqrt(dim))
    return x, probability, rng.random(count) < probability


# The model


def test_probabilities_are_calibrated():
    said, held_out, true, kept = [], [], [], []
    for seed in range(2):
        x, probability, verdicts = simulated(2000, 4, seed)
        model = verdict_model.fit(x, np.arange(250), verdicts[:250], seed=0)
        said, true = [*said, *model.keep[250:]], [*true, *probability[250:]]
        held_out, kept = [*held_out, *model.held_out], [*kept, *verdicts[:250]]
    for predicted, truth in ((np.array(held_out), np.array(kept)), (np.array(said), np.array(true))):
        for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1)):  # as many are kept as was said
            among = (predicted >= low) & (predicted < high)
            chance = 0.06 + 2 * (predicted[among].mean() * (1 - predicted[among].mean()) / among.sum()) ** 0.5
            assert among.sum() > 20 and abs(truth[among].mean() - predicted[among].mean()) < chance, (low, high)
    assert np.abs(np.array(said) - true).mean() < 0.08


def test_calibration_is_platts():
    _, _, offset = verdict_model.calibrate(np.zeros(4), np.array([True, True, True, False]))
    assert expit(offset) == pytest.approx((3 * 4 / 5 + 1 / 3) / 4, abs=1e-5)  # the mean target, equation 5
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20_000) * 3
    _, slope, offset = verdict_model.calibrate(logits, rng.random(20_000) < expit(0.5 * logits - 1))
    assert (slope, offset) == (pytest.approx(0.5, abs=0.03), pytest.approx(-1, abs=0.06))


def test_of_noise_nothing_but_the_base_rate_is_learned():
    rng = np.random.default_rng(0)
    known, x = (rng.normal(size=[count, 40]).astype(np.float32) for count in (100, 1000))
    kept = rng.random(100) < 0.75
    keep, strength = verdict_model.learned(known, kept, x, 0)
    assert keep.std() < 0.1 and keep.mean() == pytest.approx(kept.mean(), abs=0.05)
    assert strength == min(verdict_model.STRENGTHS)


def test_clear_verdicts_are_learned_with_little_regularisation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=[400, 4]).astype(np.float32)
    x *= 0.2 / np.linalg.norm(x, axis=1, keepdims=True)
    kept = x[:, 0] > -0.04 + 0.01 * rng.normal(size=400)
    assert verdict_model.learned(x, kept, x, 0)[1] == max(verdict_model.STRENGTHS)


def test_held_out_probabilities_have_not_seen_their_verdicts():
    rng = np.random.default_rng(0)
    x, kept = rng.normal(size=[60, 200]).astype(np.float32), np.arange(60) % 2 == 0
    model = verdict_model.fit(x, np.arange(60), kept, seed=0)  # of noise nothing can be learned
    figures = verdict_model.held_out_figures(model.held_out, kept)
    assert figures["error_high"] > 0.5 > figures["error_low"] and 0.3 < figures["auroc"] < 0.7
    wrong = int(((model.held_out >= 0.5) != kept).sum())
    assert figures["error"] == wrong / 60 and figures["error_base"] == 0.5
    assert binom.cdf(wrong, 60, 0.5) > 1e-3 and figures["brier_base"] == 0.25
    perfect = verdict_model.held_out_figures(kept.astype(float), kept)
    assert (perfect["error"], perfect["auroc"], perfect["brier"]) == (0, 1, 0)


@pytest.mark.parametrize("keeps, drops", [(9, 0), (0, 20), (20, 2), (6, 3), (2, 30)])
def test_too_few_verdicts_are_refused(keeps, drops):
    x = np.zeros([keeps + drops, 2], np.float32)
    with pytest.raises(RequestError, match=f"^`manifest` must hold 10 verdicts.* {keeps} keep and {drops} drop: "):
        verdict_model.fit(x, np.arange(len(x)), np.arange(len(x)) < keeps, seed=0)


@pytest.mark.parametrize("drops", [3, 5, 6, 11])
def test_any_number_of_a_kind_has_folds(drops):
    x = np.random.default_rng(0).normal(size=[30, 3]).astype(np.float32)
    model = verdict_model.fit(x, np.arange(30), np.arange(30) >= drops, seed=0)
    assert ((model.held_out > 0) & (model.held_out < 1)).all()


def test_inputs_are_standardized_and_of_one_length():
    features = np.random.default_rng(0).normal(5, [1, 10, 100], [50, 3]).astype(np.float32)
    features = np.c_[features, np.full(50, 7, np.float32)]  # one that says nothing
    x = verdict_model.inputs(features, np.r_[np.nan, np.arange(49.0)])
    standard = (features[:, :3] - features[:, :3].mean(axis=0)) / features[:, :3].std(axis=0)
    expected = standard / np.linalg.norm(standard, axis=1, keepdims=True)
    assert np.allclose(x[:, :3], expected, atol=1e-5) and not x[:, 3].any()
    assert x[0, 4] == 0 and np.allclose(x[1:, 4], (np.arange(49) + 0.5) / 49 - 0.5)


def test_proposals_are_uncertain_diverse_and_only_candidates():
    rng = np.random.default_rng(0)
    x = np.repeat(10 * np.eye(4), 25, axis=0) + 0.01 * rng.normal(size=[100, 4])  # four heaps of alike images
    keep = np.full(100, 0.99)
    keep[:90] = 0.5 + 0.3 * rng.random(90)
    keep[30] = 0.5
    candidates = np.ones(100, bool)
    candidates[:5] = False
    chosen = verdict_model.propose(x.astype(np.float32), keep, candidates, 9)
    assert len(set(chosen.tolist())) == 9 and chosen.min() >= 5
    assert chosen[0] == 30 and {int(place) // 25 for place in chosen[:4]} == {0, 1, 2, 3}
    few = verdict_model.propose(x.astype(np.float32), keep, candidates, 3)
    certain = np.sort(np.abs(keep[candidates] - 0.5))[3 * verdict_model.POOL - 1]
    assert (np.abs(keep[few] - 0.5) <= certain).all()
    assert len(verdict_model.propose(x.astype(np.float32), keep, np.arange(100) < 2, 9)) == 2


# The loop of commands


@pytest.fixture(scope="module")
def stripes_and_blots(tmp_path_factory):
    """40 stripes and 8 blots, which nobody wants, as a dataset, and its manifest with scores that say nothing."""
    folder, rng = tmp_path_factory.mktemp("learn"), np.random.default_rng(0)
    data = folder / "d.zip"
    writer = DatasetWriter(data, ".png")
    for number in range(48):
        buffer = io.BytesIO()
        stripes_or_blots(rng, "Blots" if number % 6 == 0 else "Stripes", 32, 32).save(buffer, "PNG")
        writer.add(buffer.getvalue())
    writer.close()
    dataset = ImageDataset(data)
    rows = make_rows(48, score_density=rng.normal(size=48), score_knn=rng.normal(size=48))
    manifest.write_tables(folder / "scored", [rows], dataset=dataset.fingerprint(), parent=None)
    return data, folder / "scored"


def reviewed(path: Path, out: Path, images: list[int]) -> Path:
    """A truthful reviewer's verdicts on these images."""
    person = ReviewSession(found=manifest.read(path), reviewer="Ada", out=out)
    for number in images:
        person.overrule(f"00000/img{number:08d}.png", "drop" if number % 6 == 0 else "keep")
    person.finish()
    return out


def test_the_loop_of_review_and_learn_ends_in_pruning_what_the_reviewer_would_drop(tmp_path, stripes_and_blots):
    data, scored = stripes_and_blots
    first = reviewed(scored, tmp_path / "seen", [0, 6, 12, *range(1, 6), *range(7, 12)])
    learn = ("curate", "learn", first, "--data", data)
    outcome = run_salon(*learn, "--out", tmp_path / "learned", "--count", 7, "--json")
    assert outcome.code == 0, outcome.err
    figures, learned = outcome.json, manifest.read(tmp_path / "learned")
    assert figures["verdicts"] == {"keep": 10, "drop": 3} and figures["proposed"] == 7
    assert figures["held_out"]["error_low"] <= figures["held_out"]["error"] <= figures["held_out"]["error_high"] < 0.5
    assert learned.hash == figures["hash"] and learned.header["parent"] == manifest.read(first).hash
    assert learned.header["learned"]["held_out"] == figures["held_out"]
    rows = learned.rows.to_pylist()
    score = np.array([row["score_learned"] for row in rows])
    wanted = np.arange(48) % 6 != 0
    assert ((score >= 0) & (score <= 1)).all() and score[wanted].min() > score[~wanted].max()
    proposed = {row["next_to_review"]: i for i, row in enumerate(rows) if row["next_to_review"]}
    assert sorted(proposed) == [1, 2, 3, 4, 5, 6, 7] and not set(proposed.values()) & {*range(13)}

    outcome, pruned = prune(tmp_path / "learned", "--method", "learned", "--keep", 1 - 5 / 45)
    assert outcome.code == 0, outcome.err
    assert dropped(pruned) == [0, 6, 12, 18, 24, 30, 36, 42]  # the rest of the blots, with those seen
    assert [
        change["command"] for change in run_salon("curate", "log", tmp_path / "out", "--json").json["manifests"]
    ] == [
        "salon curate prune",
        "salon curate learn",
        "salon curate review",
        None,
    ]

    shown = review_page.choose_next(learned.rows, 5, seed=0)
    assert shown[0]["Next"].tolist() == [proposed[i] for i in (1, 2, 3, 4, 5)] and shown[1] == {"Next": 7}
    second = reviewed(tmp_path / "learned", tmp_path / "again", [proposed[i] for i in range(1, 7)])
    assert review_page.choose_next(manifest.read(second).rows, 5, seed=0)[0]["Next"].tolist() == [proposed[7]]
    outcome = run_salon("curate", "learn", second, "--data", data, "--out", tmp_path / "twice", "--json")
    assert sum(outcome.json["verdicts"].values()) == 19 and outcome.json["proposed"] == 48 - 19
    again = reviewed(second, tmp_path / "all", [proposed[7]])
    with pytest.raises(RequestError, match=r"^`next` found a verdict on all"):
        review_page.choose_next(manifest.read(again).rows, 5, seed=0)


def test_dropped_copies_teach_nothing_and_are_not_proposed(tmp_path):
    rows = make_rows(
        6,
        verdict=["drop", "drop", "keep", "drop", "drop", "keep"],
        reviewer=["Ada", "Ada", "Ada", "salon curate prune", "salon curate prune", "salon prepare"],
        reason=["overruled", "overruled", None, "low rank: 0.01", "flagged: text", None],
        copy_of=["x", None, "y", None, None, None],
    )
    teaching, candidates = learning.sides(rows)
    assert teaching.tolist() == [1, 2] and np.flatnonzero(candidates).tolist() == [3, 5]


def test_too_few_verdicts_and_scores_that_lack_are_said_in_one_line(tmp_path, stripes_and_blots):
    data, scored = stripes_and_blots
    outcome = run_salon("curate", "learn", scored, "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 2 and "MANIFEST must hold 10 verdicts" in outcome.err and not (tmp_path / "out").exists()
    outcome = run_salon("curate", "prune", scored, "--method", "learned", "--out", tmp_path / "out")
    assert outcome.code == 2 and "make them with salon curate learn" in outcome.err
    bare = tmp_path / "bare"
    manifest.write_tables(bare, [make_rows(48)], dataset=ImageDataset(data).fingerprint(), parent=None)
    outcome = run_salon("curate", "review", bare, "--data", data, "--next", "--out", tmp_path / "page.html")
    assert outcome.code == 2 and "--next needs a manifest with scores" in outcome.err


def test_before_anything_was_learned_the_lowest_and_random_ones_come_first(stripes_and_blots):
    rows = manifest.read(stripes_and_blots[1]).rows
    places = review_page.choose_next(rows, 9, seed=0)[0]["Next"]
    ranks = sum(np.argsort(np.argsort(rows.column(f"score_{name}").to_numpy())) for name in ("density", "knn"))
    assert sorted(ranks[places[:5]]) == sorted(np.sort(ranks)[:5]) and len(set(places.tolist())) == 9
    assert review_page.choose_next(rows, 9, seed=1)[0]["Next"].tolist()[5:] != places.tolist()[5:]
    assert len(set(review_page.choose_next(rows, 100, seed=0)[0]["Next"].tolist())) == 48


def test_on_the_page_the_next_image_follows_each_verdict(tmp_path, stripes_and_blots, browser):
    data, scored = stripes_and_blots
    found, dataset = manifest.read(scored), ImageDataset(data)
    person = ReviewSession(found=found, reviewer="Ada", out=tmp_path / "r")
    shown = review_page.content(found, dataset, count=6, size=16, seed=0, next_alone=True)
    ids = shown["sections"][0]["images"]
    with web_server(application(shown, person, dataset, "a-token")) as address:
        browser.open(f"{address}/a-token/")
        assert browser.run("document.querySelectorAll('section').length") == 1
        browser.press("ArrowRight")
        browser.press("k")
        assert browser.run("document.activeElement.dataset.id") == ids[1]
        browser.press("d")
        browser.until("document.getElementById('status').textContent.endsWith('1 overruled, 1 confirmed.')")
        assert "confirmed by Ada" in browser.run("document.querySelector('figure').textContent")
        assert browser.run("document.activeElement.dataset.id") == ids[2]
        browser.press("u")
        assert browser.run("document.activeElement.dataset.id") == ids[2]
    assert person.verdicts == {ids[0]: "keep", ids[1]: "drop"} and browser.errors == []
