"""Verdicts: ranks, quotas, lists, lineage and materialized subsets, and that no source image is ever touched."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Outcome, full_disk, run_salon, write_dataset
from PIL import Image
from scipy.stats import rankdata

from curation import columns
from curation.decide import materialize as materializing
from curation.decide import quotas
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

GENRES = ["landscape"] * 8 + ["portrait"] * 4


def make_rows(count: int, **columns: list) -> pa.Table:
    """Rows of a manifest that keeps `count` images of a dataset that was written by Salon."""
    values: dict = {name: [None] * count for name in manifest.SCHEMA.names}
    values["name"] = [f"00000/img{i:08d}.png" for i in range(count)]
    values["source"] = [f"p/{i}.png" for i in range(count)]
    values |= {"verdict": [manifest.KEEP] * count, "reviewer": ["salon prepare"] * count, **columns}
    types = {field.name: field.type for field in manifest.SCHEMA}
    return pa.table({name: pa.array(v, types.get(name)) for name, v in values.items()})


def scored(folder: Path, count: int = 12, dataset: str = "abc", **columns: list) -> Path:
    """A scored manifest on disk, whose first images are the least typical, unless `columns` say otherwise."""
    given = {"genre": GENRES[:count] if count <= 12 else None, "score_density": np.arange(count, dtype=float)} | columns
    rows = make_rows(count, **{k: v for k, v in given.items() if v is not None})
    manifest.write_tables(folder, [rows], dataset=dataset, parent=None)
    return folder


def prune(path: Path, *arguments: object, out: str = "out") -> tuple[Outcome, dict[str, dict]]:
    """Run `salon curate prune` -> how it ended, and the new rows by name."""
    target = path.with_name(out)
    outcome = run_salon("curate", "prune", path, "--out", target, *arguments, "--json")
    if outcome.code:
        return outcome, {}
    return outcome, {row["source"]: row for row in manifest.read(target).rows.to_pylist()}


def dropped(rows: dict[str, dict]) -> list[int]:
    return [int(source[2:-4]) for source, row in rows.items() if row["verdict"] == manifest.DROP]


# Formulas


def test_ranks_against_scipy():
    scores = np.random.default_rng(0).integers(0, 20, 200).astype(float)
    scores[::7] = np.nan
    known = ~np.isnan(scores)
    found = quotas.ranks(scores)
    assert np.isnan(found[~known]).all()
    assert np.allclose(found[known], (rankdata(scores[known]) - 0.5) / known.sum())


def test_fusing_ignores_scale_and_fills_what_one_method_lacks():
    a, b = np.array([1.0, 2, 3, np.nan, np.nan]), np.array([300.0, 100, 200, 400, np.nan])
    mean, low = quotas.fuse([a, b]), quotas.fuse([a, b], "min")
    assert np.allclose(mean[:4], [(1 / 6 + 5 / 8) / 2, (3 / 6 + 1 / 8) / 2, (5 / 6 + 3 / 8) / 2, 7 / 8])
    assert np.allclose(low[:4], [1 / 6, 1 / 8, 3 / 8, 7 / 8])
    assert np.isnan(mean[4]) and np.isnan(low[4])
    assert np.allclose(quotas.fuse([np.exp(a), b]), mean, equal_nan=True)
    with pytest.raises(ValueError, match="mean, min"):
        quotas.fuse([a], "max")


def test_the_lowest_in_quotas_against_a_loop():
    rng = np.random.default_rng(1)
    for _ in range(30):
        n = int(rng.integers(1, 60))
        rank, strata = quotas.ranks(rng.integers(0, 9, n).astype(float)), rng.integers(0, 4, n)
        candidates, room, budget = rng.random(n) < 0.8, rng.integers(-1, 6, 4), int(rng.integers(-2, 20))
        order, left, expected = rng.permutation(n), room.copy(), np.zeros(n, bool)
        for i in sorted(order, key=lambda i: rank[i]):  # stable: `order` breaks ties
            if candidates[i] and left[strata[i]] > 0 and expected.sum() < budget:
                expected[i], left[strata[i]] = True, left[strata[i]] - 1
        assert (quotas.drop_lowest(rank, order, strata, candidates, room, budget) == expected).all()


@pytest.mark.parametrize(("share", "count", "gone"), [(0.7, 10, 3), (0.9, 9, 0), (0.95, 20, 1), (0, 5, 5), (1, 5, 0)])
def test_shares_are_exact(share, count, gone):
    assert quotas.at_most(share, count) == gone


# Prune


def test_the_lowest_go_with_a_reason(tmp_path):
    outcome, rows = prune(scored(tmp_path / "m"), "--keep", 0.75)
    assert outcome.code == 0, outcome.err
    assert dropped(rows) == [0, 1, 2]
    assert rows["p/0.png"]["reason"] == "low rank: 0.0417 by density" and rows["p/3.png"]["reason"] is None
    assert rows["p/0.png"]["reviewer"] == "salon curate prune" and rows["p/3.png"]["reviewer"] == "salon prepare"
    assert rows["p/3.png"]["fused_rank"] == pytest.approx(3.5 / 12)
    header = manifest.read_header(tmp_path / "out")
    assert header["parent"] == manifest.read_header(tmp_path / "m")["hash"] == outcome.json["parent"]
    assert header["parameters"]["keep"] == 0.75 and header["parameters"]["methods"] == ["density"]
    assert header["reasons"] == {"low rank": 3} and outcome.json["kept"] == header["verdicts"]["keep"] == 9


def test_a_legitimate_minority_keeps_its_floor(tmp_path):
    rng = np.random.default_rng(0)
    minority = np.arange(1000) < 20  # 2 %, of which most look untypical
    columns = {
        "genre": np.where(minority, "nude", "landscape").tolist(),
        "score_density": np.where(minority, rng.normal(-3, 1, 1000), rng.normal(0, 1, 1000)),
    }
    path = scored(tmp_path / "m", 1000, **columns)
    unstratified = dropped(prune(path, "--keep", 0.95, out="a")[1])
    assert len(unstratified) == 50 and sum(minority[unstratified]) > 10
    outcome, rows = prune(path, "--keep", 0.95, "--strata", "genre", "--floor", 0.9, out="b")
    assert len(dropped(rows)) == 50 and sum(minority[dropped(rows)]) == 2
    assert manifest.read_header(tmp_path / "b")["strata"] == outcome.json["strata"]
    assert outcome.json["strata"]["nude"]["kept"] == 18 and outcome.json["strata"]["landscape"]["low rank"] == 48
    _, rows = prune(path, "--keep", 0.95, "--strata", "genre", out="c")  # the floor by default: twice what all lose
    assert sum(minority[dropped(rows)]) == 2
    _, rows = prune(path, "--keep", 0.95, "--strata", "genre", "--floor", 0.99, out="d")
    assert len(dropped(rows)) == 9  # the floors bind: fewer go than were asked for


def test_what_is_dropped_by_name_or_flag_takes_from_its_stratum(tmp_path):
    # Of 8 landscapes (0 to 7) 4 may go, of 4 portraits 2.
    flags = [None] * 6 + ["text"] * 2 + [None] * 4
    path = scored(tmp_path / "m", flags=flags)
    (tmp_path / "drop.txt").write_text("p/9.png\n")
    quota = ("--keep", 0.5, "--strata", "genre", "--floor", 0.5)
    outcome, rows = prune(path, *quota, out="a")
    assert dropped(rows) == [0, 1, 2, 3, 8, 9]
    outcome, rows = prune(path, *quota, "--drop", tmp_path / "drop.txt", out="b")
    assert dropped(rows) == [0, 1, 2, 3, 8, 9] and rows["p/9.png"]["reason"] == "listed"
    outcome, rows = prune(path, *quota, "--drop-flag", "text", out="c")
    assert dropped(rows) == [0, 1, 6, 7, 8, 9] and rows["p/6.png"]["reason"] == "flagged: text"
    outcome, rows = prune(path, *quota, "--drop-flag", "text", "--drop", tmp_path / "drop.txt", out="d")
    assert dropped(rows) == [0, 1, 6, 7, 8, 9]
    assert [outcome.json["strata"]["landscape"][key] for key in ("flagged", "listed", "low rank")] == [2, 0, 2]
    assert [outcome.json["strata"]["portrait"][key] for key in ("flagged", "listed", "low rank")] == [0, 1, 1]
    (tmp_path / "many.txt").write_text("p/8.png\np/9.png\np/10.png\n")  # more than the floor: no landscape pays
    outcome, rows = prune(path, *quota, "--drop", tmp_path / "many.txt", out="e")
    assert dropped(rows) == [0, 1, 2, 8, 9, 10]


def test_what_was_flagged_or_listed_before_it_left_counts_once(tmp_path):
    flags, verdict = ["text"] * 3 + [None] * 9, ["drop"] + ["keep"] * 11
    path = scored(tmp_path / "m", flags=flags, verdict=verdict)
    (tmp_path / "drop.txt").write_text("p/0.png\np/1.png\n")
    outcome, rows = prune(path, "--keep", 0.7, "--drop", tmp_path / "drop.txt", "--drop-flag", "text")
    assert dropped(rows) == [0, 1, 2, 3]  # 3 of the 11 that are left, of which two are named
    assert (outcome.json["listed"], outcome.json["flagged"], outcome.json["low rank"]) == (1, 1, 1)
    assert rows["p/0.png"]["reason"] is None and rows["p/1.png"]["reason"] == "listed"


def test_a_protected_or_a_persons_image_is_not_flagged(tmp_path):
    path = scored(tmp_path / "m", flags=["text"] * 4 + [None] * 8, reviewer=["Ada"] + ["salon prepare"] * 11)
    (tmp_path / "keep.txt").write_text("p/1.png\n")
    _, rows = prune(path, "--keep", 1, "--drop-flag", "text", "--protect", tmp_path / "keep.txt")
    assert dropped(rows) == [2, 3]


def test_the_tail_is_of_the_images_that_are_kept():
    rank, kept = np.array([0.5, 0.9, 0.91, 0.95, np.nan, 1.0]), np.array([1, 1, 1, 0, 1, 1], bool)
    assert quotas.highest(rank, kept, 0.1).tolist() == [False, False, True, False, False, True]


def test_the_methods_that_are_asked_for_rank(tmp_path):
    up, middle = np.arange(12.0), np.array([5.0, 6, 0, 7, 8, 9, 10, 11, 1, 2, 3, 4])
    path = scored(tmp_path / "m", score_knn=middle, score_d_low=up[::-1])
    keep = ("--keep", 0.75)
    assert dropped(prune(path, *keep, out="a")[1]) == [0, 1, 2]  # density and knn, the discriminator never by itself
    assert dropped(prune(path, *keep, "--method", "d-low", out="b")[1]) == [9, 10, 11]
    outcome, rows = prune(path, *keep, "--method", "knn", out="c")
    assert dropped(rows) == [2, 8, 9] and rows["p/2.png"]["reason"] == "low rank: 0.0417 by knn"
    both = ("--method", "density", "--method", "d-low")
    outcome, rows = prune(path, *keep, *both, "--fuse", "min", out="d")
    assert dropped(rows) == [0, 1, 11] and outcome.json["parameters"]["methods"] == ["density", "d-low"]
    assert rows["p/0.png"]["reason"] == "low rank: 0.0417 by density, d-low"


def test_without_strata_nothing_binds_but_the_share(tmp_path):
    path = scored(tmp_path / "m")
    assert dropped(prune(path, "--keep", 0.05, out="a")[1]) == list(range(11))
    by_genre = prune(path, "--keep", 0.7, "--strata", "genre", out="b")[0].json
    assert by_genre["parameters"]["floor"] == 0.4 and by_genre["parameters"]["tail"] == 0.05
    assert prune(path, "--keep", 0.3, "--strata", "genre", out="c")[0].json["parameters"]["floor"] == 0


def test_a_cap_takes_the_lowest_of_a_stratum(tmp_path):
    outcome, rows = prune(scored(tmp_path / "m"), "--keep", 1, "--strata", "genre", "--cap", 3)
    assert dropped(rows) == [0, 1, 2, 3, 4, 8]
    assert rows["p/8.png"]["reason"] == "cap: 3 of a genre" and outcome.json["cap"] == 6


def test_a_cap_counts_what_is_left(tmp_path):
    path = scored(tmp_path / "m")
    lowest, rows = prune(path, "--keep", 0.75, "--strata", "genre", "--floor", 0, "--cap", 5, out="a")
    assert dropped(rows) == [0, 1, 2] and (lowest.json["low rank"], lowest.json["cap"]) == (3, 0)
    (tmp_path / "drop.txt").write_text("p/6.png\np/7.png\n")
    listed, rows = prune(path, "--keep", 1, "--strata", "genre", "--cap", 5, "--drop", tmp_path / "drop.txt", out="b")
    assert dropped(rows) == [0, 6, 7] and (listed.json["listed"], listed.json["cap"]) == (2, 1)


def test_lists(tmp_path):
    (tmp_path / "keep.txt").write_text("# good\n00000/img00000000.png\n\np/9.png\n")
    (tmp_path / "drop.txt").write_text("p/11.png\n" + "a" * 64 + "\n")
    path = scored(
        tmp_path / "m", file_sha256=[None] * 10 + ["a" * 64, None], verdict=["keep"] * 9 + ["drop"] + ["keep"] * 2
    )
    lists = ("--protect", tmp_path / "keep.txt", "--drop", tmp_path / "drop.txt")
    outcome, rows = prune(path, "--keep", 0.75, *lists)
    assert dropped(rows) == [1, 10, 11]  # those listed take from the three that go
    assert rows["p/11.png"]["reason"] == "listed" and rows["p/9.png"]["verdict"] == manifest.KEEP
    assert outcome.json["restored"] == 1 and outcome.json["listed"] == 2
    parameters = manifest.read_header(tmp_path / "out")["parameters"]
    assert parameters["protected"] == ["00000/img00000000.png", "00000/img00000009.png"]
    assert len(parameters["listed"]) == 2


@pytest.mark.parametrize(
    ("keep", "drop", "message"),
    [("p/1.png", "p/1.png", "must not name the same image"), ("p/77.png", None, "first is 'p/77.png'"),
     (None, "nothing", "do not"), ("p/4.png", None, "never entered it")],
)  # fmt: skip
def test_lists_that_are_refused(tmp_path, keep, drop, message):
    names = [f"00000/img{i:08d}.png" if i != 4 else None for i in range(12)]
    path, arguments = scored(tmp_path / "m", name=names), []
    for option, line in (("--protect", keep), ("--drop", drop)):
        if line:
            (tmp_path / option).write_text(line)
            arguments += [option, tmp_path / option]
    outcome, _ = prune(path, *arguments)
    assert outcome.code == 2 and message in outcome.err and not (tmp_path / "out").exists()


def test_what_a_person_decided_stands(tmp_path):
    reviewers = ["Ada", *["salon prepare"] * 10, "Ada"]
    _, rows = prune(scored(tmp_path / "m", reviewer=reviewers, verdict=["keep"] * 11 + ["drop"]), "--keep", 0.8)
    assert dropped(rows) == [1, 2, 11] and rows["p/0.png"]["reviewer"] == rows["p/11.png"]["reviewer"] == "Ada"


def test_a_high_discriminator_score_is_reported_and_kept(tmp_path):
    flags = ["frame", None, "under-covered,grey", *[""] * 9]
    path = scored(tmp_path / "m", score_d_low=np.arange(12.0), flags=flags)
    outcome, rows = prune(path, "--keep", 0.9, "--tail", 0.2)
    assert outcome.json["under-covered"] == 2 and dropped(rows) == [0]
    assert [s for s, row in rows.items() if "under-covered" in (row["flags"] or "")] == ["p/10.png", "p/11.png"]
    assert [rows[f"p/{i}.png"]["flags"] for i in (0, 1, 2)] == ["frame", None, "grey"]
    assert [rows[f"p/{i}.png"]["verdict"] for i in (10, 11)] == ["keep", "keep"]


def test_flags_are_dropped_only_when_asked_and_whole(tmp_path):
    path = scored(tmp_path / "m", flags=["text"] * 1 + [None] * 9 + ["context", "grey,text"])
    assert dropped(prune(path, "--keep", 1, out="a")[1]) == []
    _, rows = prune(path, "--keep", 1, "--drop-flag", "text", out="b")
    assert dropped(rows) == [0, 11] and rows["p/11.png"]["reason"] == "flagged: text"
    assert "--drop-flag must be one of padding, " in prune(path, "--drop-flag", "textt", out="d")[0].err
    assert "needs a manifest with flags" in prune(scored(tmp_path / "n"), "--drop-flag", "text", out="c")[0].err


def copied(folder: Path, **columns: list) -> Path:
    """Five paintings of which a smaller copy comes first by name: copies are 0 to 4, originals 5 to 9, 10 is alone."""
    sides = [40] * 5 + [300] * 6
    given = {
        "flags": ["small"] * 5 + ["duplicate-near"] * 5 + [None],  # as check flagged before it looked at sizes
        "embedding_group": [*range(5), *range(5), None],
        **{"width": sides, "height": sides, "genre": None},
    }
    return scored(folder, 11, **given | columns)


SMALL, NEAR = ("--drop-flag", "small"), ("--drop-flag", "duplicate-near")


@pytest.mark.parametrize(
    "steps",
    [
        [SMALL + NEAR],
        [SMALL, NEAR],
        [NEAR, SMALL],
        [(*NEAR, "--keep", 0.2)],
        [("--keep", 0.5), SMALL],
        [("--keep", 0.5), NEAR, SMALL],
        [NEAR, ("--keep", 0.2)],
        [(*SMALL, "--keep", 0.2)],
    ],
)
@pytest.mark.parametrize("best_first", [True, False])
def test_a_copy_of_each_painting_stays(tmp_path, steps, best_first):
    scores = np.arange(11.0)
    path = copied(tmp_path / "m", score_density=-scores if best_first else scores)
    for number, step in enumerate(steps):
        keep = () if "--keep" in step else ("--keep", 1)
        outcome, rows = prune(path, *step, *keep, out=f"out{number}")
        assert outcome.code == 0, outcome.err
        path = tmp_path / f"out{number}"
    kept = set(range(11)) - set(dropped(rows))
    assert {number % 5 for number in kept - {10}} == set(range(5))


def test_the_copy_with_most_pixels_stays(tmp_path):
    outcome, rows = prune(copied(tmp_path / "m"), *NEAR, "--keep", 1, out="a")
    assert dropped(rows) == list(range(5)) and outcome.json["spared"] == 5  # the smaller ones, though not flagged
    assert rows["p/0.png"]["reason"] == "flagged: duplicate-near"
    flags = ["duplicate-exact"] + [None] * 4 + ["frame,duplicate-near"] + ["frame"] * 5
    _, rows = prune(copied(tmp_path / "f", flags=flags), *NEAR, "--drop-flag", "frame", "--keep", 1, out="b")
    assert dropped(rows) == [5, 6, 7, 8, 9, 10]  # without the fault that is dropped, where there is one
    bordered = copied(tmp_path / "bordered", check_pixels=[1000.0] * 5 + [900.0, None, None, 1e5, 1e5, 1e5])
    _, rows = prune(bordered, *NEAR, "--keep", 1, out="c")
    assert dropped(rows) == [3, 4, 5, 6, 7]  # a border's pixels do not count
    table = run_salon("curate", "prune", tmp_path / "m", *NEAR, "--keep", 1, "--dry-run").out
    assert "5 stay as the last kept copies of their pictures" in table


def test_a_fault_that_all_copies_have_drops_them_all(tmp_path):
    flags = ["text", "text", None, None, None, "text,duplicate-near", None, None, None, None, "text"]
    outcome, rows = prune(copied(tmp_path / "m", flags=flags), "--drop-flag", "text", "--keep", 1)
    assert dropped(rows) == [0, 1, 5, 10] and outcome.json["spared"] == 0


def test_a_list_drops_last_copies_and_a_persons_copy_is_enough(tmp_path):
    reviewer = ["Ada"] + ["salon prepare"] * 10
    path = copied(tmp_path / "m", reviewer=reviewer)
    (tmp_path / "drop.txt").write_text("p/1.png\np/6.png\np/7.png\n")
    _, rows = prune(path, *NEAR, "--drop", tmp_path / "drop.txt", "--keep", 1, out="a")
    assert dropped(rows) == [1, 3, 4, 5, 6, 7]


def test_a_cap_takes_last_copies_when_others_are_not_enough(tmp_path):
    path = copied(tmp_path / "m", genre=["nude"] * 11)
    _, rows = prune(path, "--keep", 1, "--strata", "genre", "--cap", 5, out="a")
    assert dropped(rows) == [0, 1, 2, 3, 4, 10]
    _, rows = prune(path, "--keep", 1, "--strata", "genre", "--cap", 2, out="b")
    assert dropped(rows) == [0, 1, 2, 3, 4, 5, 6, 7, 10]


def test_images_without_a_score_stay(tmp_path):
    outcome, rows = prune(scored(tmp_path / "m", score_density=[None] * 3 + list(map(float, range(9)))), "--keep", 0.75)
    assert dropped(rows) == [3, 4, 5] and outcome.json["without a score"] == 3


def test_the_same_request_gives_the_same_manifest_whatever_the_parts(tmp_path, monkeypatch):
    scores = np.random.default_rng(0).integers(0, 3, 60).astype(float)  # ties
    first = prune(scored(tmp_path / "m", 60, score_density=scores), "--keep", 0.7)[0].json
    monkeypatch.setattr(manifest, "ROWS_PER_PART", 7)
    second = prune(scored(tmp_path / "n", 60, score_density=scores), "--keep", 0.7, out="p")[0].json
    assert first["hash"] == second["hash"] and first["parent"] == second["parent"]


def test_a_dry_run_prints_the_table_and_writes_nothing(tmp_path):
    path = scored(tmp_path / "m")
    outcome = run_salon("curate", "prune", path, "--keep", 0.75, "--strata", "genre", "--dry-run")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["landscape", "8", "5", "0", "0", "3", "0", "0", "62.5%"] in lines
    assert ["all", "12", "9", "0", "0", "3", "0", "0", "75.0%"] in lines
    assert "Dry run: nothing was written" in outcome.out
    figures = run_salon("curate", "prune", path, "--keep", 0.75, "--dry-run", "--json").json
    assert (figures["out"], figures["hash"], figures["kept"]) == (None, None, 9)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--floor", 0.9], "--floor needs --strata"),
        (["--cap", 2], "--cap needs --strata"),
        (["--strata", "style"], "--strata style needs a style for some image"),
        (["--method", "d-low"], "--method d-low needs the scores"),
        (["--keep", "nan"], "not a finite number"),
        (["--keep", 1.5], "--keep"),
        (["--keep", 0], "--keep 0 leaves no image of"),
    ],
)
def test_requests_that_are_refused(tmp_path, arguments, message):
    outcome, _ = prune(scored(tmp_path / "m"), *arguments)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_without_scores(tmp_path):
    path = scored(tmp_path / "m", score_density=None)
    assert "must have scores" in prune(path)[0].err
    assert prune(path, "--keep", 1)[0].code == 0
    assert "--out must name" in run_salon("curate", "prune", path).err


def test_never_in_place(tmp_path):
    path = scored(tmp_path / "m")
    before = contents(tmp_path)
    assert "--out would replace" in run_salon("curate", "prune", path, "--out", path).err
    assert contents(tmp_path) == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    path = scored(tmp_path / "m", 60)
    before = contents(tmp_path)
    monkeypatch.setattr(manifest, "ROWS_PER_PART", 20)
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments, **options)

    write = manifest.pq.write_table
    monkeypatch.setattr(manifest.pq, "write_table", interrupted)
    assert prune(path)[0].code == 130
    assert len(calls) == 2 and contents(tmp_path) == before


def test_a_full_disk_is_told(tmp_path):
    path = scored(tmp_path / "m", 60)
    before = contents(tmp_path)
    with full_disk(100):
        outcome, _ = prune(path)
    assert outcome.code == 1 and "could not be written" in outcome.err and contents(tmp_path) == before


# Lineage


def test_log_follows_the_parents(tmp_path):
    prune(scored(tmp_path / "a"), "--keep", 0.9, out="b")
    prune(tmp_path / "b", "--keep", 0.8, out="c")
    figures = run_salon("curate", "log", tmp_path / "c", "--json").json
    assert [Path(m["path"]).name for m in figures["manifests"]] == ["c", "b", "a"] and figures["missing"] is None
    text = run_salon("curate", "log", tmp_path / "c").out
    assert "salon curate prune: drop 3, keep 9" in text and "keep: 0.8" in text
    shutil.move(tmp_path / "a", tmp_path / "renamed")  # is found by its hash
    assert Path(run_salon("curate", "log", tmp_path / "c", "--json").json["manifests"][2]["path"]).name == "renamed"
    shutil.rmtree(tmp_path / "renamed")
    figures = run_salon("curate", "log", tmp_path / "c", "--json").json
    assert len(figures["manifests"]) == 2 and figures["missing"] == figures["manifests"][1]["parent"]
    part = tmp_path / "b" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    outcome = run_salon("curate", "log", tmp_path / "c")
    assert outcome.code == 2 and "b must hold the rows its hash names" in outcome.err


def test_diff_by_reason_and_stratum(tmp_path):
    prune(scored(tmp_path / "a"), "--keep", 0.75, "--strata", "genre", "--floor", 0, out="b")
    figures = run_salon("curate", "diff", tmp_path / "a", tmp_path / "b", "--strata", "genre", "--json").json
    assert figures["changes"] == {"keep -> drop": 3} and figures["a"]["kept"] == 12 and figures["b"]["kept"] == 9
    assert figures["strata"] == {"landscape": {"keep -> drop": 3}}
    assert figures["reasons"] == {"low rank": {"keep -> drop": 3}}
    assert figures["columns_added"] == ["flags", "fused_rank"]
    assert figures["examples"][0]["image"] == "00000/img00000000.png"
    back = run_salon("curate", "diff", tmp_path / "b", tmp_path / "a", "--json").json
    assert back["changes"] == {"drop -> keep": 3}
    assert run_salon("curate", "diff", tmp_path / "a", tmp_path / "a", "--json").json["changed"] == 0
    assert "landscape" in run_salon("curate", "diff", tmp_path / "a", tmp_path / "b", "--strata", "genre").out


def test_diff_joins_rows_in_any_order(tmp_path):
    rows = make_rows(4)
    manifest.write_tables(tmp_path / "a", [rows.slice(0, 3)], dataset="x", parent=None)
    manifest.write_tables(tmp_path / "b", [rows.take([3, 2, 1])], dataset="y", parent=None)
    figures = run_salon("curate", "diff", tmp_path / "a", tmp_path / "b", "--json").json
    assert (figures["changed"], figures["added"], figures["removed"]) == (0, 1, 1)
    assert "of different datasets" in run_salon("curate", "diff", tmp_path / "a", tmp_path / "b").out
    assert run_salon("curate", "diff", tmp_path / "a", tmp_path / "b", "--strata", "none").code == 0
    outcome = run_salon("curate", "diff", tmp_path / "a", tmp_path / "b", "--strata", "genre")
    assert outcome.code == 2 and "--strata genre needs a genre for some image" in outcome.err
    manifest.write_tables(tmp_path / "c", [make_rows(2, source=["same"] * 2)], dataset="z", parent=None)
    assert "tell its rows apart" in run_salon("curate", "diff", tmp_path / "a", tmp_path / "c").err


# Materialize


@pytest.fixture
def labelled(tmp_path) -> tuple[Path, Path]:
    """A dataset of 12 images in two classes, and a manifest that drops three of them."""
    data = write_dataset(tmp_path / "d.zip", [(16, 16)] * 12, [0, 1] * 6, ["day", "night"])
    scored(tmp_path / "m", dataset=ImageDataset(data).fingerprint())
    prune(tmp_path / "m", "--keep", 0.75, out="p")
    return data, tmp_path / "p"


def test_the_subset_has_the_same_bytes_and_labels(tmp_path, labelled):
    data, path = labelled
    outcome = run_salon("curate", "materialize", path, "--data", data, "--out", tmp_path / "s.zip", "--json")
    assert outcome.code == 0, outcome.err
    whole, subset = ImageDataset(data), ImageDataset(tmp_path / "s.zip")
    assert len(subset) == outcome.json["images"] == 9 and outcome.json["left_out"] == 3
    assert subset.classes == ["day", "night"]
    for old, new in zip(whole.names[3:], subset.names, strict=True):
        assert whole.read_bytes(old) == subset.read_bytes(new)
    assert subset.labels.tolist() == whole.labels.tolist()[3:]
    own = manifest.read(tmp_path / "s.manifest")
    assert own.dataset == subset.fingerprint() and own.kept() == set(subset.names) and len(own.rows) == 12
    assert own.rows.column("name").null_count == 3  # what is left out has no name here
    assert own.header["parent"] == manifest.read_header(path)["hash"]
    chain = run_salon("curate", "log", tmp_path / "s.manifest", "--json").json["manifests"]
    assert [Path(m["path"]).name for m in chain] == ["s.manifest", "p", "m"]
    difference = run_salon("curate", "diff", path, tmp_path / "s.manifest", "--json").json
    assert (difference["changed"], difference["added"], difference["removed"]) == (0, 0, 0)


def test_a_dataset_is_read_once_to_be_hashed(tmp_path, labelled, monkeypatch):
    data, path = labelled
    first, *others = ImageDataset(data).names
    original, read = ImageDataset.file_bytes, []

    def file_bytes(dataset, index):
        read.extend([dataset.names[index]] if dataset.path == data else [])
        return original(dataset, index)

    monkeypatch.setattr(ImageDataset, "file_bytes", file_bytes)
    assert run_salon("curate", "materialize", path, "--data", data, "--out", tmp_path / "s.zip").code == 0
    kept = manifest.read(path).kept()
    # Once to be hashed, the kept ones once more to be copied; the first one was opened for its size.
    expected = {first: 2, **{name: 1 + (name in kept) for name in others}}
    assert {name: read.count(name) for name in expected} == expected


def test_an_archive_is_never_replaced(tmp_path, labelled):
    data, path = labelled
    before = contents(tmp_path)
    outcome = run_salon("curate", "materialize", path, "--data", data, "--out", data)
    assert outcome.code == 2 and "--out would replace" in outcome.err and contents(tmp_path) == before
    (tmp_path / "s.manifest").mkdir()
    outcome = run_salon("curate", "materialize", path, "--data", data, "--out", tmp_path / "s.zip")
    assert f"--out would replace {tmp_path / 's.manifest'}; choose another" in outcome.err


def test_an_interrupted_copy_leaves_nothing(tmp_path, labelled, monkeypatch):
    data, path = labelled
    before = contents(tmp_path)
    for place, name in ((materializing.DatasetWriter, "close"), (manifest, "write_tables")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            outcome = run_salon("curate", "materialize", path, "--data", data, "--out", tmp_path / "s.zip")
        assert outcome.code == 130 and contents(tmp_path) == before


def test_what_materialize_refuses(tmp_path, labelled):
    data, path = labelled
    other = write_dataset(tmp_path / "other.zip", [(16, 16)] * 3)
    assert "of another" in run_salon("curate", "materialize", path, "--data", other, "--out", tmp_path / "s.zip").err
    assert "end in .zip" in run_salon("curate", "materialize", path, "--data", data, "--out", tmp_path / "s").err
    folder = tmp_path / "folder"
    shutil.unpack_archive(data, folder)
    inside = run_salon("curate", "materialize", path, "--data", folder, "--out", folder / "s.zip")
    assert inside.code == 2 and "outside the dataset" in inside.err
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (16, 16)).save(mixed / name)
    for place, lost, said in ((data, ["lost.png"], "it keeps 13, of which it has 12"), (mixed, [], "of one format")):
        dataset, judged = ImageDataset(place), tmp_path / f"of {place.name}"
        rows = [{"name": name, "verdict": manifest.KEEP} for name in [*dataset.names, *lost]]
        manifest.write(judged, rows, dataset=dataset.fingerprint(), parent=None)
        refused = run_salon("curate", "materialize", judged, "--data", place, "--out", tmp_path / "s.zip")
        assert refused.code == 2 and said in refused.err and not (tmp_path / "s.zip").exists()


def test_no_command_touches_a_source_image(tmp_path, labelled):
    data, path = labelled
    folder = tmp_path / "folder"
    shutil.unpack_archive(data, folder)
    before = contents(folder), data.read_bytes(), contents(path), contents(tmp_path / "m")
    for arguments in (
        ["prune", path, "--out", tmp_path / "q", "--keep", 0.5],
        ["prune", path, "--out", folder, "--keep", 0.5],
        ["log", path],
        ["diff", tmp_path / "m", path],
        ["materialize", path, "--data", folder, "--out", tmp_path / "s.zip"],
        ["materialize", path, "--data", data, "--out", data],
        ["materialize", path, "--data", folder, "--out", folder / "00000" / "img00000000.png"],
    ):
        assert run_salon("curate", *arguments).code in (0, 2)
    assert (contents(folder), data.read_bytes(), contents(path), contents(tmp_path / "m")) == before
    assert (tmp_path / "q").is_dir() and (tmp_path / "s.zip").is_file()


def test_training_takes_a_pruned_manifest(tmp_path, labelled):
    data, path = labelled
    outcome = run_salon(
        "train", "--data", data, "--out", tmp_path / "runs", "--manifest", path, "--dry-run", "--json"
    )  # fmt: skip
    assert outcome.json["images"] == 9
    assert outcome.json["config"]["manifest"] == json.loads((path / "manifest.json").read_text())["hash"]


def test_strata_of_numbers_are_in_their_order():
    rows = make_rows(4, label=[10, 2, None, 2])
    found, names = columns.strata(rows, "label")
    assert [names[i] for i in found] == ["10", "2", "(none)", "2"] and names.index("2") < names.index("10")
    with pytest.raises(RequestError, match="cannot be read"):
        columns.listed(rows, Path("/nowhere"), "drop")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
