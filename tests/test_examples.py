"""The files under examples/: sound as they stand, and run in small, two painters end up in one model repository."""

import csv
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from conftest import run_salon

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = ("impressionism", "people")
SMALL = {  # what the files are run with here
    "prepare": {"resolution": 16},
    "train": {
        **{"preset": "tiny", "device": "cpu", "workers": 0, "total-kimg": 0.032, "kimg-per-tick": 0.016, "freeze-d": 1},
        "set": ["z_dim=8", "w_dim=8", "mapping_layers=2", "channel_base=128", "channel_max=8", "batch_size=8"],
    },
    "style": {"group-by": "image"},
    "query": {"seeds": "0-3", "grid": "2x2"},
    "style-check": {"num-images": 8},
}


@pytest.mark.parametrize("name", FILES)
def test_a_dry_run_finds_nothing_wrong(name, tmp_path):
    (tmp_path / "wikiart").mkdir()
    file = tmp_path / f"{name}.toml"
    file.write_bytes((EXAMPLES / file.name).read_bytes())
    stages = run_salon("run", file, "--dry-run", "--json").json["stages"]
    assert stages == list(tomllib.loads(file.read_text()))[1:] and {"retrain", "export", "query"} <= set(stages)
    file.write_text(file.read_text().replace("floor", "flor"))
    outcome = run_salon("run", file, "--dry-run")
    assert outcome.code == 2 and "[prune]: No such option" in outcome.err


def smaller(name: str) -> str:
    """An example's text with the values of SMALL, without the longest stages, which test_serving_pipeline runs too."""
    lines = []
    for key, value in tomllib.loads((EXAMPLES / f"{name}.toml").read_text()).items():
        if not isinstance(value, dict):
            lines.insert(0, f"{key} = {json.dumps(value)}")
            continue
        if key in ("evaluate", "check", "score", "prune", "retrain"):
            continue
        own = dict(SMALL.get(key, {}))
        if key == "export":  # what is asked for
            classified = ",style_classifier,generate_and_classify" if name == "impressionism" else ""
            own["models"] = f"generator{classified}"
        if "require" in value:
            own["require"] = 0  # so short a training meets no other
        lines += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in (value | own).items())]
    return "\n".join(lines)


def write_wikiart(folder: Path) -> None:
    """Pictures in the place of WikiArt, and its lists."""
    wikiart = folder / "wikiart"
    made = run_salon(
        *("synthetic", wikiart, "--count", 40, "--size", 32),
        *("--styles", "impressionism,cubism", "--genres", "landscape,portrait"),
    )
    assert made.code == 0, made.err
    with open(wikiart / "paintings.csv", newline="") as file:
        rows = [{**row, "artist": f"{row['style']} {n % 7}"} for n, row in enumerate(csv.DictReader(file))]
    for kind in ("style", "genre", "artist"):
        lists = folder / "wikiart_csv" / kind.capitalize()
        lists.mkdir(parents=True)
        names = sorted({row[kind] for row in rows})
        (lists / f"{kind}_class.txt").write_text("".join(f"{n} {name.capitalize()}\n" for n, name in enumerate(names)))
        listed = "".join(f"{row['name']},{names.index(row[kind])}\n" for row in rows)
        (lists / f"{kind}_train.csv").write_text(listed)
        (lists / f"{kind}_val.csv").write_text("")


def commands() -> list[list[str]]:
    """The README's commands, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (EXAMPLES / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.slow
def test_two_painters_in_one_repository_are_served_and_chosen_by_name(tmp_path, monkeypatch, triton, quick_style):
    monkeypatch.chdir(tmp_path)
    write_wikiart(tmp_path)
    for name in FILES:
        Path(f"{name}.toml").write_text(smaller(name))
    stages = {}
    for words in commands():
        if words[0] == "prepare":
            words = ["16" if word == "256" else word for word in words]
        if words[0] in ("prepare", "run"):
            outcome = run_salon(*words, "--json")
            assert outcome.code == 0, outcome.err
            if words[0] == "run":
                stages[words[1].removesuffix(".toml")] = outcome.json["stages"]
    first, second = (stages[name]["export"]["figures"] for name in FILES)
    assert first["out"] == second["out"] == "models" and second["version"] > first["version"]
    assert stages["people"]["query"]["figures"]["model"] == "people"
    assert stages["people"]["prepare"]["figures"]["images"] == 20  # the portraits

    served = triton(Path("models"))
    status = run_salon("query", "status", "--url", served.grpc_url, "--json").json
    assert {"generator", "people"} <= {model["name"] for model in status["models"]}
    painted = {}
    for name, figures in (("generator", first), ("people", second)):
        outcome = run_salon(
            *("query", "generate", "--url", served.grpc_url, "--model", name, "--seeds", "0-3"),
            *("--grid", "2x2", "--out", f"{name}.png", "--truncation-psi", "0.7", "--json"),
        )
        assert outcome.json["snapshot"] == figures["sha256"]
        painted[name] = Path(f"{name}.png").read_bytes()
    assert painted["generator"] != painted["people"]
    assert painted["people"] == Path(stages["people"]["query"]["output"]).read_bytes()

    # The first painter's file finds its version unchanged, though the repository has a newer one of the other.
    again = run_salon("run", "impressionism.toml", "--until", "export", "--json").json["stages"]
    assert {record["outcome"] for record in again.values()} == {"unchanged"}
