"""Groups of trainings: means with both kinds of chance, never the best; a single training knows nothing of seeds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon
from scipy.stats import ttest_ind
from test_eval_compare import entry

from eval.compare_groups import compare_groups
from eval.evaluate import RESULTS
from eval.report.html import write_group_comparison
from eval.report.text import groups as table


def group(rng, *means: float, spread: float = 0.1, kimg: float | None = 5, **metrics):
    """Trainings whose metric has these values, but for the chance of 100 images."""
    names = [f"{mean}-{place}" for place, mean in enumerate(means)]
    return [entry(n, kimg, kd=m + spread * rng.normal(size=100), **metrics) for n, m in zip(names, means, strict=True)]


def row(figures, id="kd"):
    (found,) = next(metric for metric in figures["metrics"] if metric["id"] == id)["differences"]
    return found


def test_means_are_compared_with_both_kinds_of_chance():
    rng = np.random.default_rng(0)
    a, b = group(rng, 1.0, 1.3, 1.1), group(rng, 2.0, 1.8, 2.1, 2.2)
    figures = compare_groups({"old": b, "new": a})
    found = row(figures)
    values = [[e.results["kd"].estimate.value for e in many] for many in (b, a)]
    low, high = ttest_ind(*values, equal_var=False).confidence_interval()
    assert (found["a"], found["b"]) == ("old", "new")
    assert found["value"] == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    assert (found["training"]["low"], found["training"]["high"]) == pytest.approx((low, high))
    assert found["low"] < low and found["images"]["se"] > 0
    (old, new) = figures["metrics"][0]["groups"]
    assert old["value"] == pytest.approx(np.mean(values[0])) and old["values"] == values[0] and len(new["values"]) == 3
    assert figures["sentences"] == ["By KD new is better than old"] and figures["paired"]
    assert figures["warnings"] == [] and figures["decided_by"] == "kd"


def test_of_more_trainings_the_best_is_no_better():
    rng = np.random.default_rng(1)
    few, many = group(rng, 1.0, 1.2, 1.1), group(rng, 0.2, 2.0, 1.1, 1.3, 0.9)  # the least of all is among the many
    figures = compare_groups({"few": few, "many": many})
    assert figures["sentences"] == ["By KD few and many may differ by chance alone"]
    assert row(figures)["value"] == pytest.approx(0, abs=0.05)


def test_higher_is_better_where_it_is():
    rng, x = np.random.default_rng(2), np.arange(100.0)
    high, low = ([entry(f"{n}", 1, recall=x + s + 0.01 * n) for n in range(3)] for s in (5, 0))
    assert compare_groups({"x": low, "y": high})["sentences"] == ["By Recall y is better than x"]
    three = {"x": low, "y": high, "z": group(rng, 1, 2, recall=x)}
    figures = compare_groups(three)
    assert [(r["a"], r["b"]) for r in figures["metrics"][0]["differences"]] == [("x", "y"), ("x", "z"), ("y", "z")]


def test_a_group_of_one_says_that_it_cannot_know():
    rng = np.random.default_rng(3)
    one, many = group(rng, 1.0), group(rng, 9.0, 9.1, 9.2)
    figures = compare_groups({"a": one, "b": many})
    assert figures["sentences"] == [
        "Whether a or b is better by KD cannot be known: a is one training, which says nothing of the chance of "
        "training"
    ]
    assert row(figures)["training"] is None and row(figures)["high"] < 0
    assert figures["warnings"] == ["a is one training: what another seed would have given is not known"]
    both = compare_groups({"a": one, "b": group(rng, 9.0)})
    assert "a and b are one training each" in both["sentences"][0] and len(both["warnings"]) == 2
    assert "unknown" in table(figures)


def test_what_makes_the_intervals_less_than_they_look_is_said():
    rng = np.random.default_rng(4)
    a, b = group(rng, 1.0, 1.1), group(rng, 2.0, 2.1, 2.2)
    (said,) = compare_groups({"a": a, "b": b})["warnings"]
    assert said.startswith("a: 2 trainings, fewer than in another group")
    longer = [replace(b[0], kimg=9, label="9 kimg"), *b[1:]]
    warnings = compare_groups({"a": b, "b": [replace(e, name=f"x{n}") for n, e in enumerate(longer)]})["warnings"]
    assert warnings == [
        "b has trainings of different lengths (9 kimg, 5 kimg, 5 kimg), which its spread takes for chance"
    ]
    others = [replace(e, z_bank="others") for e in b]
    figures = compare_groups({"a": b, "b": others})
    assert not figures["paired"] and "nothing is paired" in figures["warnings"][0]
    assert row(figures)["images"]["method"] == "two independent sets"
    few = [[replace(r, identity=replace(r.identity, metric="fd"), enough_images=False) for r in e.results.values()]
           for e in (*a, *b)]  # fmt: skip
    biased = [replace(e, results={r.id: r for r in r}) for e, r in zip((*a, *b), few, strict=True)]
    figures = compare_groups({"a": biased[:2], "b": biased[2:]})
    assert figures["sentences"] == ["No group is named better: FD is mostly bias at so few images"]


def test_the_page_shows_every_training_and_no_colour_of_a_winner(tmp_path):
    rng = np.random.default_rng(6)
    figures = compare_groups({"old": group(rng, 1.0), "new <b>": group(rng, 1.0, 1.3, 1.1)})
    write_group_comparison(figures, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "1 training, " in page.replace("\n", " ") and "3 trainings" in page.replace("\n", " ")
    assert page.count("<svg") == 1 and ">unknown<" in page and "<b>" not in page and "new &lt;b&gt;" in page
    assert "Whether old or new &lt;b&gt; is better by KD cannot be known" in page


def test_the_command_takes_groups(tiny_run, tiny_dataset, tmp_path):
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(tiny_run, copy)
    (snapshot,) = (tiny_run / "snapshots").iterdir()
    common = ("--data", tiny_dataset, "--num-images", 12, "--metrics", "kid", "--extractor", "efficientnet-lite0")
    assert run_salon("eval", "run", "--snapshot", tiny_run, *common, "--out", tmp_path / "0").code == 0
    figures = json.loads((tmp_path / "0" / RESULTS).read_text())

    def judged(number: int, run: str, sha256: str) -> Path:
        """The same evaluation, as if of another training."""
        own = tmp_path / str(number) / RESULTS
        own.parent.mkdir()
        generator = {**figures["generator"], "sha256": sha256, "name": f"{run}/snapshots/{number}.safetensors"}
        own.write_text(json.dumps({**figures, "generator": generator}))
        return own.parent

    def refused(a: object, b: object, *options: object) -> str:
        outcome = run_salon("eval", "compare", "--group", f"A={a}", "--group", f"B={b}", *options)
        assert outcome.code == 2 and not out.exists()
        return outcome.err

    one, two = judged(1, "runs/1", "1"), judged(2, "runs/2", "2")
    assert f"--group must be of different trainings; {snapshot}" in refused(tiny_run, copy, *common, "--out", out)
    assert "are of one" in refused(one, f"{two},{judged(3, 'runs/1', '3')}")  # two snapshots of a run
    assert "are of one" in refused(tmp_path / "0", snapshot)
    assert "needs --data and --out" in refused(tiny_run, one)
    outcome = run_salon(
        *("eval", "compare", "--group", f"A={tiny_run}", "--group", f"B={one},{two / RESULTS}", *common),
        *("--out", out, "--json"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == json.loads((out / "comparison.json").read_text())
    (a, b) = outcome.json["groups"]
    assert len(b["trainings"]) == 2 and a["trainings"][0]["name"] == str(snapshot)
    assert a["trainings"][0]["values"] == b["trainings"][0]["values"]
    assert "A is one training" in outcome.err and (out / "comparison.html").exists()
    printed = run_salon("eval", "compare", "--group", f"A={tmp_path / '0'}", "--group", f"B={one},{two}")
    assert "cannot be known" in printed.out and "of training" in printed.out
    assert "or --group must say what to compare" in run_salon("eval", "compare").err
