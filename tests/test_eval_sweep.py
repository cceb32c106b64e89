"""Sweeps over psi and budget: the settings, the Pareto front, what is recommended, and the whole command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import run_salon
from test_eval_compare import entry

from eval.cli.options import Numbers
from eval.report.text import recommendation
from eval.request import SweepRequest
from eval.sweep import weigh
from gan.errors import RequestError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5:1:0.1", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("1:0.5:-0.25", (1.0, 0.75, 0.5)),
        ("0.7", (0.7,)),
        ("1,0.3", (1.0, 0.3)),
    ],
)
def test_numbers_are_read(text, expected):
    assert Numbers(float).convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["", "a", "0:1", "0:1:0", "1:0:0.1", "0:1:0.3", "0:1:1e-9", "0:inf:1", "1,,2"])
def test_what_are_no_numbers_is_refused(text):
    import click

    with pytest.raises(click.UsageError, match="neither numbers"):
        Numbers(float).convert(text, None, None)


@pytest.mark.parametrize(
    "fields", [{"psi": ()}, {"psi": (1, 1)}, {"psi": (3.0,)}, {"psi": (float("nan"),)}, {"budget": (0,)}]
)
def test_settings_are_checked(fields):
    with pytest.raises(RequestError, match=f"`{next(iter(fields))}` must be different"):
        SweepRequest(**fields)


@pytest.fixture
def entries():
    """psi 0.5, 0.75, 1: ever more variety and less quality, but for 0.75, which is worse than 1 in both."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100) * 0.2
    made = []
    for name, precision, recall, kd in (("a", 0.9, 0.1, 0.3), ("b", 0.4, 0.3, 0.5), ("c", 0.6, 0.5, 0.1)):
        own = rng.normal(size=(3, 100)) * 0.05
        values = {"precision": precision + noise + own[0], "recall": recall + noise + own[1], "kd": kd + own[2]}
        made.append(entry(name, None, **values))
    return made


def test_the_front_is_what_nothing_is_better_than(entries):
    figures = weigh(entries, [(0.5, 1), (0.75, 1), (1.0, 4)])
    assert figures["front"] == [0, 2]
    assert [row["label"] for row in figures["entries"]] == ["psi 0.5", "psi 0.75", "psi 1 with budget 4"]
    assert figures["best"] == 2
    assert recommendation(figures) == "Recommended: psi 1 with budget 4. Its KD is the lowest, and by more than chance"


def test_where_chance_could_be_the_reason_all_are_on_the_front_and_none_is_recommended(entries):
    rng = np.random.default_rng(3)

    def around(mean):
        values = rng.normal(size=100)
        return values - values.mean() + mean

    alike = [
        entry(name, None, precision=around(m), recall=around(m), kd=around(-m)) for name, m in (("a", 0.5), ("b", 0.51))
    ]
    figures = weigh(alike, [(0.5, 1), (1.0, 1)])
    assert figures["front"] == [0, 1] and figures["best"] is None
    assert recommendation(figures) == "No setting is recommended: by KD psi 0.5 and psi 1 may differ by chance alone"


def test_rejections_are_weighed_against_each_other(entries):
    by_obrs = {}
    for id, result in entries[1].results.items():
        by_obrs[id] = replace(result, identity=replace(result.identity, rejection="obrs-budget=4"))
    entries[1] = replace(entries[1], results=by_obrs)
    assert weigh(entries, [(0.5, 1), (0.5, 4), (1.0, 1)])["front"] == [0, 2]


def test_the_command_shows_the_same_seeds_at_each_setting(tiny_run, tiny_dataset, tmp_path):
    words = ("eval", "sweep", "--snapshot", tiny_run, "--data", tiny_dataset, "--out", tmp_path, "--device", "cpu")
    words = (*words, "--num-images", 8, "--extractor", "efficientnet-lite0", "--metrics", "kid,pr")
    settings = ("--psi", "0.5,1", "--budget", "1,2")
    outcome = run_salon(*words, *settings)
    assert outcome.code == 0, outcome.err
    figures = json.loads((tmp_path / "sweep.json").read_text())
    assert [(row["psi"], row["budget"]) for row in figures["entries"]] == [(0.5, 1), (0.5, 2), (1, 1), (1, 2)]
    names = ["psi-0.5", "psi-0.5-budget-2", "psi-1", "psi-1-budget-2"]
    written = [json.loads((tmp_path / name / "results.json").read_text()) for name in names]
    for row, evaluation in zip(figures["entries"], written, strict=True):
        assert row["results"]["kd"]["value"] == evaluation["results"][0]["value"]
        assert evaluation["generator"]["truncation_psi"] == row["psi"]
    assert written[1]["results"][0]["key"].endswith("n=8/obrs-budget=2")
    values = [row["results"]["kd"]["value"] for row in figures["entries"]]
    assert len(set(values)) == 4
    page = (tmp_path / "sweep.html").read_text()
    assert figures["generator"]["name"] in page and figures["reference"]["images"] == 12
    assert "8 images from seed 0 on at each of 4 settings" in re.sub(r"\s+", " ", page)
    assert "Pareto front" in page and page.count("alt=") >= 4 * 8 and "KD over psi" in page
    assert recommendation(figures) in outcome.out and recommendation(figures) in page
    again = run_salon(*words, *settings, "--json").json
    assert again["entries"] == figures["entries"]
    refused = run_salon(*words, "--psi", "0.5", "--budget", "2", "--overwrite")
    assert refused.code == 2 and "--psi and --budget must make 2 settings or more; got 1" in refused.err
    refused = run_salon(*words, "--psi", "0.5,1")
    assert refused.code == 2 and "budget is [1, 2] there, [1] here" in refused.err
    refused = run_salon(*words, *settings, "--metrics", "ppl", "--overwrite", "--weights", "lpips-vgg=x")
    assert refused.code == 2
