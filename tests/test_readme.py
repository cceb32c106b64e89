"""The commands that the README shows, run as they stand."""

import re
import shlex
from pathlib import Path

from conftest import TINY_TRAINING, run_salon

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readmes_commands_run(tmp_path, monkeypatch):
    lists = {
        "Style/style_class.txt": "0 Cubism\n1 Impressionism\n",
        "Style/style_train.csv": "Impressionism/claude-monet_the-sea.jpg,1\r\nCubism/juan-gris_guitar.jpg,0\r\n",
        "Style/style_val.csv": "Impressionism/berthe-morisot_garden.jpg,1\r\n",
        "Genre/genre_class": "0 landscape\n1 still_life\n",
        "Genre/genre_train.csv": "Impressionism/claude-monet_the-sea.jpg,0\r\nCubism/juan-gris_guitar.jpg,1\r\n",
        "Genre/genre_val.csv": "",
        "Artist/artist_class": "0 Claude_Monet\n",
        "Artist/artist_train": "(Path to image),, (Groundtruth class)\n\nImpressionism/claude-monet_the-sea.jpg,,0\n",
        "Artist/artist_val": "(Path to image),, (Groundtruth class)\n\n",
    }
    for name, text in lists.items():
        file = tmp_path / "wikiart_csv" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    monkeypatch.chdir(tmp_path)
    shown = commands()
    families = {"synthetic", "prepare", "curate", "train", "generate", "eval", "dataset", "export"}
    assert {words[1] for words in shown} == families
    for words in shown:
        assert words[0] == "salon"
        # The same command, shortened.
        small = (
            TINY_TRAINING if words[1] == "train" else ("--num-images", "20") if words[1:3] == ["eval", "run"] else ()
        )
        outcome = run_salon(*words[1:], *small)
        assert outcome.code == 0, f"{shlex.join(words)}\n{outcome.err}"
    for file in ("paintings64.zip", "paintings64.report.json", "grid.png", "mix.png", "loop.mp4", "paintings64.png"):
        assert (tmp_path / file).stat().st_size > 0
    assert len(list((tmp_path / "pictures").iterdir())) == 9
    for file in ("evaluation/report.html", "evaluation/results.json", "comparison/comparison.html"):
        assert (tmp_path / file).stat().st_size > 0


def test_the_first_screen_names_demo_and_test():
    first = README.read_text(encoding="utf-8").splitlines()[:20]
    assert any("make demo" in line for line in first) and any("make test" in line for line in first)
    makefile = (README.parent / "Makefile").read_text()
    assert "make test" in (README.parent / ".ci" / "run").read_text()
    assert all(f"{target}: install" in makefile for target in ("demo", "test"))
