"""Comparisons: what is paired, what is refused, which is best, and metrics during training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon

from eval.compare import Entry, compare, difference, in_order, read_entry
from eval.evaluate import RESULTS
from eval.evaluator import Evaluator
from eval.metric_registry import Result
from eval.metrics.confidence_intervals import Jackknife
from eval.metrics.feature_stats import Features
from eval.metrics.frechet import frechet_jackknife
from eval.metrics.kernel import kernel_distance
from eval.metrics.result_key import Identity
from eval.report.html import write_comparison
from eval.report.text import comparison, first_place, verdict
from eval.request import EvaluationRequest
from eval.training_hook import hook, metric
from gan import snapshot
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.device.selection import select
from gan.errors import RequestError
from gan.training import checkpoint
from gan.training.metrics_budget import BudgetedMetrics
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.training_loop import train

LITE = ("efficientnet-lite0",)
KEY = Identity(
    metric="kd",
    extractor="x",
    preprocess="y",
    precision="fp32",
    backend="torch",
    weights="w",
    reference="r",
    reference_n=9,
    n=100,
)


def result_of(samples: np.ndarray, metric: str = "kd") -> Result:
    """The mean of samples as a result, with its jackknife over 10 blocks."""
    blocks = samples.reshape(10, -1)
    sums, size = blocks.sum(axis=1), blocks.shape[1]
    left_out = (samples.sum() - sums) / (len(samples) - size)
    jackknife = Jackknife(value=float(samples.mean()), left_out=left_out, sizes=np.full(10, size))
    return Result(identity=replace(KEY, metric=metric), estimate=jackknife.raw(), replicates=jackknife)


@pytest.fixture(scope="module")
def judged(tiny_run, tiny_dataset, tmp_path_factory):
    """Folders of two evaluations of one snapshot, with psi 1 and 0.5, and one of other seeds."""
    out = tmp_path_factory.mktemp("judged")
    for name, psi, seed in (("full", 1.0, 0), ("half", 0.5, 0), ("others", 1.0, 100)):
        request = EvaluationRequest(
            metrics=("fid", "kid", "pr"), extractors=LITE, num_images=12, truncation_psi=psi, seed=seed
        )
        Evaluator(Collection.open(tiny_dataset), request, select("cpu"))(tiny_run, out / name)
    return out


def test_what_both_share_cancels_in_a_paired_difference():
    rng = np.random.default_rng(0)
    common = rng.normal(size=100)
    a, b = result_of(common + 0.5), result_of(common + 0.05 * rng.normal(size=100))
    paired, apart = difference(a, b, paired=True), difference(a, b, paired=False)
    assert paired.value == pytest.approx(apart.value) == pytest.approx(0.5, abs=0.05)
    assert paired.se < apart.se / 10
    assert paired.low < 0.5 < paired.high
    assert apart.se == pytest.approx(np.hypot(a.estimate.se, b.estimate.se))


def test_a_difference_of_corrected_values_is_corrected():
    rng = np.random.default_rng(1)
    raw = [result_of(rng.normal(size=100) ** 2, "fd") for _ in range(2)]
    # A statistic with a bias, so that both differ: the square of the mean.
    biased = [
        replace(r, replicates=Jackknife(value=j.value**2, left_out=j.left_out**2, sizes=j.sizes))
        for r in raw
        if (j := r.replicates)
    ]
    corrected = [replace(r, identity=replace(KEY, metric="fd_corrected")) for r in biased]
    assert difference(*biased, paired=True).value != difference(*corrected, paired=True).value
    expected = biased[0].replicates.corrected - biased[1].replicates.corrected
    assert difference(*corrected, paired=True).value == pytest.approx(expected)


def entry(name: str, kimg: float | None, z_bank: str | None = "bank", **samples: np.ndarray) -> Entry:
    """An evaluation whose metrics are means of samples."""
    results = {id: result_of(values, id) for id, values in samples.items()}
    label = f"{kimg:g} kimg" if kimg else name
    return Entry(name=name, label=label, kimg=kimg, z_bank=z_bank, images=100, results=results, pictures=None)


def test_of_two_networks_the_first_decides():
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 0.1, size=100), rng.normal(2, 0.1, size=100)
    for first, second in (("fd_corrected", "fid_corrected"), ("fid_corrected", "fd_corrected")):
        entries = [entry("a", 5, **{"kd": a, first: a, second: b}), entry("b", 6, **{"kd": a, first: b, second: a})]
        assert compare(entries)["best"] == 0


def test_differences_are_from_the_best_and_more_is_worse():
    rng = np.random.default_rng(2)
    low, high = rng.normal(1, 0.3, size=100), rng.normal(2, 0.3, size=100)
    entries = [entry("a", 5, kd=high, recall=high), entry("b", 6, kd=low, recall=low)]
    figures = compare(entries)
    assert figures["best_by_metric"] == {"kd": 1, "recall": 0}
    assert (figures["decided_by"], figures["best"], figures["warnings"]) == ("KD", 1, [])
    expected = difference(result_of(high), result_of(low), paired=True)
    for id, worse in (("kd", 0), ("recall", 1)):
        rows = figures["differences"][id]
        assert rows[worse]["value"] == pytest.approx(high.mean() - low.mean()) and rows[worse]["paired"]
        assert (rows[worse]["se"], rows[worse]["low"]) == pytest.approx((expected.se, expected.low))
        assert rows[1 - worse]["value"] == rows[1 - worse]["se"] == 0
        assert [row["best"] for row in rows] == [place != worse for place in range(2)]
    told = [(e["label"], e["kimg"], e["images"]) for e in figures["entries"]]
    assert told == [("5 kimg", 5, 100), ("6 kimg", 6, 100)]
    assert figures["entries"][0]["results"]["kd"] == entries[0].results["kd"].to_dict()


def test_the_first_metric_of_those_that_all_have_decides():
    x, y = np.arange(100.0), np.arange(100.0) + 1
    a, b = entry("a", 1, kd=x, fd=y, fd_corrected=y, is_=x), entry("b", 2, kd=y, fd=x, is_=y, fid=x)
    figures = compare([a, b])
    assert set(figures["best_by_metric"]) == {"kd", "fd", "is_"}  # what only some have is left out
    assert (figures["decided_by"], figures["best"]) == ("KD", 0)
    figures = compare([entry("a", 1, recall=x, ppl=y), entry("b", 2, recall=y, ppl=x)])
    assert (figures["decided_by"], figures["best"]) == ("Recall", 1)  # the first, where none of the known is there
    same = compare([entry("a", 1, kd=x), entry("b", 2, kd=x)])
    assert same["best"] is None and same["rivals"] == [1]
    assert [row["best"] for row in same["differences"]["kd"]] == [True, False]


def of_features(name: str, gen: np.ndarray, real: np.ndarray) -> Entry:
    """An evaluation by the real metrics of features: FD, corrected FD and KD."""
    reference = Features([real]).moments()
    jackknife, kernel = frechet_jackknife(gen, reference), kernel_distance(gen, real)
    enough = min(len(gen), len(real)) >= 10 * gen.shape[1]
    results = {
        id: Result(identity=replace(KEY, metric=id), estimate=estimate, replicates=replicates, enough_images=known)
        for id, estimate, replicates, known in (
            ("fd", jackknife.raw(), jackknife, enough),
            ("fd_corrected", jackknife.bias_corrected(), jackknife, enough),
            ("kd", kernel.estimate, kernel.jackknife(), None),
        )
    }
    return Entry(name=name, label=name, kimg=None, z_bank="bank", images=len(gen), results=results, pictures=None)


def test_few_images_are_compared_by_the_kernel_distance():
    rng, dim = np.random.default_rng(4), 100
    real, images = rng.normal(size=(2, 60, dim)) * np.linspace(2, 0.1, dim)
    entries = [of_features("as real", images, real), of_features("towards the mean", images * 0.85, real)]
    figures = compare(entries)
    wrong = figures["differences"]["fd_corrected"][0]
    assert figures["best_by_metric"]["fd_corrected"] == 1 and wrong["low"] > 0  # surely, it says, and is wrong
    assert (figures["decided_by"], figures["best"], figures["rivals"]) == ("KD", 0, [])
    assert figures["mostly_bias"] == ["fd", "fd_corrected"]
    assert "FD has fewer than 10 images a dimension" in figures["warnings"][0]
    assert first_place(figures, "fd_corrected") == "the lowest" and first_place(figures, "kd") == "best"
    assert verdict(figures) == "Best by KD: as real" and "the lowest" in comparison(figures)
    without = [replace(e, results={id: r for id, r in e.results.items() if id != "kd"}) for e in entries]
    figures = compare(without)
    assert figures["best"] is None and figures["warnings"][0].endswith("evaluate `metrics` kid as well")
    assert verdict(figures) == "No best is named: FD, bias-corrected is mostly bias at so few images"
    unsaid = [replace(r, enough_images=None, identity=replace(r.identity, extractor="efficientnet-lite0"))
              for r in without[0].results.values()]  # fmt: skip
    older = replace(without[0], results={r.id: r for r in unsaid})  # of an earlier release
    assert compare([older, older])["mostly_bias"] == ["fd", "fd_corrected"]
    many = [
        of_features(name, rng.normal(size=(90, 3)) * s, rng.normal(size=(90, 3))) for name, s in (("a", 1), ("b", 3))
    ]
    figures = compare(many)
    assert figures["mostly_bias"] == [] and figures["decided_by"] == "FD, bias-corrected" and figures["best"] == 0


def test_what_may_be_chance_names_no_best():
    rng = np.random.default_rng(5)
    common = rng.normal(size=100)
    close = entry("b", 2, kd=common + 0.01 * rng.normal(size=100))
    entries = [entry("a", 1, kd=common), close, entry("c", 3, kd=common + 1)]
    figures = compare(entries)
    leader = figures["best_by_metric"]["kd"]
    assert figures["best"] is None and figures["rivals"] == [1 - leader]
    assert first_place(figures, "kd") == "the lowest"
    labels = [e["label"] for e in figures["entries"]]
    assert verdict(figures) == f"No best by KD: {labels[leader]} may differ from {labels[1 - leader]} by chance alone"
    assert compare([entries[0], entries[2]])["best"] == 0


def test_a_report_without_a_best_says_so_and_points_to_none(tmp_path):
    rng = np.random.default_rng(5)
    common = rng.normal(size=100)
    rival = entry("b", 2, kd=common + 0.01 * rng.normal(size=100))
    entries = [entry("a", 1, kd=common), rival, entry("c", 3, kd=common + 1)]

    def page(*entries: Entry) -> str:
        write_comparison(compare(entries), [None] * len(entries), tmp_path / "page.html")
        return (tmp_path / "page.html").read_text()

    undecided = page(*entries)
    assert '<div class="finding"><p>No best by KD: ' in undecided and "by chance alone.</p>" in undecided
    assert undecided.count("perhaps by chance") == 1 and 'class="best"' not in undecided
    assert "which may be the\nbest by chance" in undecided
    decided = page(entries[0], entries[2])
    assert '<div class="finding good"><p>Best by KD: 1 kimg.</p>' in decided and decided.count('class="best"') == 1
    assert "perhaps by chance" not in decided
    assert "not paired" in page(entries[0], replace(entries[2], z_bank="other"))


def test_images_are_called_of_the_same_seeds_only_where_they_are(judged, tmp_path):
    full, half, others = (read_entry(judged / name) for name in ("full", "half", "others"))
    for pair, title in (((full, half), "The same seeds"), ((full, others), "The first images")):
        write_comparison(compare(pair), [each.pictures for each in pair], tmp_path / "page.html")
        assert f"<h2>{title}</h2>" in (tmp_path / "page.html").read_text()


def test_warnings_of_the_evaluations_are_carried_over(judged):
    x, y = np.arange(100.0), np.arange(100.0) + 1
    a, b = entry("a", 1, kd=x), entry("b", 2, kd=y)
    a, b = replace(a, warnings=["of both", "of a"]), replace(b, warnings=["of both"])
    assert compare([a, b])["warnings"] == ["of both", "1 kimg: of a"]
    full, half = (read_entry(judged / name) for name in ("full", "half"))
    assert any("wants 12,800 images" in text for text in full.warnings)
    figures = compare([full, half])
    assert set(full.warnings) <= set(figures["warnings"])


def test_only_images_of_one_known_bank_are_paired():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 100))
    for banks, paired in ((("p", "p"), True), (("p", "q"), False), ((None, None), False), (("p", None), False)):
        a, b = (entry(name, 1, bank, kd=v) for name, bank, v in zip("ab", banks, (x, y), strict=True))
        figures = compare([a, b])
        rows = figures["differences"]["kd"]
        assert [row["paired"] for row in rows if not row["best"]] == [paired]
        assert len(figures["warnings"]) == (not paired)
        assert [e["label"] for e in figures["entries"]] == ["1 kimg, a", "1 kimg, b"]  # of one label, told apart
    a, b = entry("a", 1, kd=x), entry("b", 1, kd=y)
    for left, right in ((a, b), (b, a)):  # a result without replicates is paired with nothing
        bare = replace(left, results={"kd": replace(left.results["kd"], replicates=None)})
        rows = compare([bare, right])["differences"]["kd"]
        assert not any(row["paired"] for row in rows if not row["best"])
        row = next(row for row in rows if not row["best"])
        assert row["se"] == pytest.approx(np.hypot(*(e.results["kd"].estimate.se for e in (left, right))))
        assert row["n"] == 100 and row["high"] == pytest.approx(row["value"] + 1.959964 * row["se"], rel=1e-6)


def test_evaluations_of_the_same_latents_are_paired_and_others_are_not(judged):
    full, half, others = (read_entry(judged / name) for name in ("full", "half", "others"))
    figures = compare([full, half])
    assert not any("not paired" in text for text in figures["warnings"])
    for id, rows in figures["differences"].items():
        best = figures["best_by_metric"][id]
        assert [row["best"] for row in rows] == [n == best for n in range(2)]
        worse = rows[1 - best]
        assert worse["paired"] and worse["value"] >= 0
        values = [entry["results"][id]["value"] for entry in figures["entries"]]
        if id != "fd_corrected":
            assert abs(values[0] - values[1]) == pytest.approx(worse["value"])
        assert values[best] == (max if id in ("precision", "recall") else min)(values)
    assert figures["decided_by"] == "KD" and figures["best"] in (None, figures["best_by_metric"]["kd"])
    unpaired = compare([full, others])
    assert "not paired" in unpaired["warnings"][0]
    assert not any(row["paired"] for rows in unpaired["differences"].values() for row in rows if not row["best"])
    labels = [entry["label"] for entry in figures["entries"]]
    assert len(set(labels)) == 2  # though both are of one snapshot


def test_entries_come_in_the_order_of_training(judged):
    entry = read_entry(judged / "full")
    later, none = replace(entry, kimg=5.0), replace(entry, kimg=None)
    assert in_order([none, later, entry]) == [entry, later, none]
    assert entry.pictures is not None and entry.pictures.jpeg(0).startswith(b"\xff\xd8")


def test_what_cannot_be_compared_is_refused(judged, tmp_path):
    full = read_entry(judged / "full")
    with pytest.raises(RequestError, match="at least 2"):
        compare([full])
    with pytest.raises(RequestError, match="a metric in common"):
        compare([full, replace(full, results={})])
    figures = json.loads((judged / "full" / RESULTS).read_text())
    figures["results"][0]["identity"]["reference"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(figures))
    other = result_of(np.arange(10.0))
    with pytest.raises(RequestError, match="must not be compared: n is"):
        difference(other, replace(other, identity=replace(KEY, n=7)), paired=True)
    with pytest.raises(RequestError, match="must not be compared: reference is"):
        compare([full, read_entry(tmp_path / "other.json")])
    for text in ("{}", "[]", '{"format": "salon-comparison-1"}'):
        (tmp_path / "none.json").write_text(text)
        with pytest.raises(RequestError, match="must be results of salon eval run"):
            read_entry(tmp_path / "none.json")
    del figures["results"][0]["identity"]["n"]
    (tmp_path / "torn.json").write_text(json.dumps(figures))
    with pytest.raises(RequestError, match="full identity") as caught:
        read_entry(tmp_path / "torn.json")
    assert "RequestError" not in str(caught.value)


def in_training(data, *metrics):
    """What evaluates snapshots during a training on `data`."""
    request = EvaluationRequest(metrics=metrics, extractors=LITE, overwrite=True)
    return Evaluator(Collection.open(data), request, select("cpu"))


def test_metrics_in_training_leave_its_random_numbers_alone(tiny_run, tiny_dataset, tmp_path, monkeypatch):
    measure = metric(in_training(tiny_dataset, "fid", "kid"), tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")  # the hook runs in the main process while the others wait
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    (path,) = (tiny_run / "snapshots").glob("*.safetensors")
    figures = BudgetedMetrics(measure, smallest=60).on_snapshot(path)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    key = "fd@efficientnet-lite0/imagenet/fp32/n=50"  # of 60 that the budget allowed
    assert {key, f"{key}/se", "kd@efficientnet-lite0/imagenet/fp32/n=50", "images", "seconds"} <= set(figures)
    written = json.loads((tmp_path / path.stem / RESULTS).read_text())
    assert written["results"][0]["value"] == figures[key]


def test_metrics_in_training_are_of_features(tiny_dataset, tmp_path):
    for wrong in ("ppl", "ls", "fud"):
        with pytest.raises(RequestError, match=f"kid,mind,pr,dc,authenticity,is; got {wrong}"):
            hook(Collection.open(tiny_dataset), f"fid,{wrong}", 5, out=tmp_path, device=select("cpu"))


def test_a_run_with_metrics_is_the_run_without(tiny_run, tiny_dataset, tmp_path):
    (path,) = (tiny_run / "snapshots").glob("*.safetensors")
    config = snapshot.load(path).config
    dataset = ImageDataset(tiny_dataset)
    dataset.labels, dataset.classes, dataset.num_classes = None, None, 0
    options = TrainingOptions(total_kimg=0.032, kimg_per_tick=0.016, network_snapshot_ticks=1, workers=0)
    budgeted = BudgetedMetrics(
        metric(in_training(tiny_dataset, "kid"), tmp_path / "metrics"), 90, smallest=20, largest=20
    )
    train(Run(tmp_path / "run"), config, options, dataset, np.arange(12), select("cpu"), hooks=[budgeted])
    rows = [json.loads(line) for line in Run(tmp_path / "run").metrics.read_text().splitlines()]
    assert rows and "kd@efficientnet-lite0/imagenet/fp32/n=20" in rows[0]
    (with_metrics,) = checkpoint.list_newest_first(tmp_path / "run" / "checkpoints")[:1]
    (without,) = checkpoint.list_newest_first(tiny_run / "checkpoints")[:1]
    a, b = (checkpoint.load(file)["learner"]["G_ema"] for file in (with_metrics, without))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_the_command_judges_a_runs_snapshots_and_compares_them(tiny_dataset, tmp_path):
    keep = ("--network-snapshot-ticks", "1", "--keep", "0")
    trained = run_salon("train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, *keep, "--json")
    request = ("--data", tiny_dataset, "--num-images", 20, "--metrics", "fid,kid,pr,dc", "--out", tmp_path / "out")
    run = trained.json["run"]
    outcome = run_salon("eval", "compare", run, *request, "--extractor", "efficientnet-lite0", "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json
    assert [entry["kimg"] for entry in figures["entries"]] == [0.016, 0.032]
    assert figures == json.loads((tmp_path / "out" / "comparison.json").read_text())
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("<svg") == 7 + 2 and page.count('class="strip"') == 2 and len(page) < 400_000
    folders = sorted(path.parent for path in (tmp_path / "out").rglob(RESULTS))
    again = run_salon("eval", "compare", *folders, "--json")
    assert again.json == figures | {"request": {"compared": " ".join(map(str, folders))}}
    refused = run_salon("eval", "compare", folders[0])
    assert refused.code == 2 and "needs 2 or more" in refused.err
    refused = run_salon("eval", "compare", run, folders[0])
    assert refused.code == 2 and "needs --data and --out" in refused.err
