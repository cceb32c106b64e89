"""The commands that the README and the documentation show: run as they stand, or at least parsed."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK_TRAINING, run_salon
from test_imports import PACKAGES

from gan.data import manifest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [DOCS / "tutorial.md", *sorted(DOCS.glob("guide/*.md")), *sorted(DOCS.glob("how-to/*.md"))]  # as they are run
SHORTER = {  # options that keep a command what it is, and make it quick
    "synthetic": ("--count", "40"),
    "prepare": ("--resolution", "32"),
    "train": QUICK_TRAINING,
    "project": ("--steps", "4"),
    "eval run": ("--num-images", "20"),
    "eval sweep": ("--num-images", "20", "--psi", "0.5,1"),
    "export --snapshot runs --classifier": ("--models", "generator,style_classifier,generate_and_classify"),
    "export --snapshot runs --out models": ("--models", "generator,generate_and_classify"),
    "export --snapshot runs --out models-production": ("--models", "generator"),
    "export --snapshot people-runs": ("--models", "generator"),
    "curate retrain": ("--kimg", "0.016", "--num-images", "20", "--holdout", "0.25", "--repeats", "1"),
    "directions find": ("--samples", "60"),
    "style check": ("--num-images", "8"),
}
WIKIART = {
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


def blocks(page: Path, kind: str) -> list[str]:
    """Blocks of code of a page, of one language; what follows the language is a title."""
    found = re.findall(
        rf"^```{kind}(?: [^\n]*)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [block.replace("\\\n", " ") for block in found]


def commands(page: Path, kind: str = "sh") -> list[list[str]]:
    lines = [line for block in blocks(page, kind) for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(("salon ", "torchrun "))]


def run(words: list[str]) -> None:
    """Run a command as it is shown, but shorter."""
    assert words[0] == "salon"
    small = next((options for name, options in SHORTER.items() if words[1:][: len(name.split())] == name.split()), ())
    outcome = run_salon(*words[1:], *small)
    assert outcome.code == 0, f"{shlex.join(words)}\n{outcome.err}"


def all_exist(folder: Path, *names: str) -> None:
    for name in names:
        assert (folder / name).stat().st_size > 0, name


def test_the_readmes_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = commands(README)
    assert {words[1] for words in shown} >= {"synthetic", "prepare", "train", "generate"}
    for words in shown:
        run(words)
    all_exist(tmp_path, "paintings64.zip", "paintings64.report.json", "grid.png")


@pytest.mark.slow
def test_the_commands_of_the_documentation_run(tmp_path, monkeypatch, triton, quick_style):
    """The tutorial from its beginning to its end, then what other pages show beside it."""
    for name, text in WIKIART.items():
        file = tmp_path / "wikiart_csv" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    (toml,) = blocks(DOCS / "tutorial.md", "toml")
    (tmp_path / "loop.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    done: list[list[str]] = []
    for words in (words for page in PAGES for words in commands(page)):
        if words in done:
            continue
        if words == ["salon", "serve", "models"]:  # until Ctrl-C
            monkeypatch.setenv("SALON_URL", triton(tmp_path / "models").grpc_url)
        else:
            run(words)
        done.append(words)
    families = {"synthetic", "prepare", "dataset", "train", "generate", "eval", "curate", "style", "export", "serve"}
    assert {words[1] for words in done} == families | {
        "blend",
        "card",
        "directions",
        "project",
        "query",
        "run",
        "verify",
    }
    all_exist(tmp_path, "grid.png", "served.png", "mix.png", "loop.mp4", "review.html", "retraining/report.html")
    all_exist(tmp_path, "evaluation/report.html", "evaluation/results.json", "comparison/comparison.html")
    assert len(list((tmp_path / "images").iterdir())) == 9


@pytest.mark.parametrize("page", [README, *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.stem)
def test_commands_that_are_only_shown_exist_with_their_options(page):
    for words in commands(page, "text"):
        if words[0] == "torchrun":
            rest = words[words.index("-m") + 1 :]
            words = ["salon", *rest[rest.index("gan") + 1 :]]
        outcome = run_salon(*(word for word in words[1:] if word != "..."), "--help")
        assert outcome.code == 0, f"{shlex.join(words)}\n{outcome.err}"


def test_the_pages_are_built_without_warnings_and_load_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert len(pages) > 15
    for path, text in pages.items():
        loaded = re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", text)
        assert loaded and not [url for url in loaded if re.match(r"(https?:)?//", url)], path
    reference = pages[tmp_path / "reference" / "commands.html"]
    assert '<h4 id="salon-eval-run">' in reference and "<code>--num-images NIMG</code>" in reference
    assert "<!-- commands -->" not in reference and "\b" not in reference
    python = pages[tmp_path / "reference" / "python.html"]
    assert 'id="gan.sampling.generate.generate"' in python and "[rows*H, columns*W, 3]" in python
    assert re.search(r"<code>batch_size</code></td>\s*<td>images an iteration, over all devices", python)


def test_long_commands_are_broken_as_a_shell_reads_them():
    long_lines = runpy.run_path(str(DOCS / "hooks" / "long_lines.py"))
    line = "salon train --data paintings64.zip --out runs --preset tiny --mirror --total-kimg 40 --seed -1"
    page = f"```sh\n{line}\nsalon doctor\n```"
    changed = long_lines["on_page_markdown"](page)
    assert changed.replace("\\\n    ", "") == page and changed.count("\\\n    --") == 1
    assert max(map(len, changed.splitlines())) <= long_lines["WIDTH"]
    quoted = f"salon eval run --title '{line}'"
    assert long_lines["on_page_markdown"](quoted) == quoted


def test_the_page_of_formats_names_them_all():
    sources = [file.read_text(encoding="utf-8") for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
    formats = {name for text in sources for name in re.findall(r'"(salon-[a-z]+-\d+)"', text)}
    page = (DOCS / "reference" / "formats.md").read_text(encoding="utf-8")
    assert len(formats) >= 5 and not [name for name in formats if f"`{name}`" not in page]
    assert f"`schema_version` {manifest.SCHEMA_VERSION};" in page


def test_the_first_screen_names_demo_and_test():
    first = README.read_text(encoding="utf-8").splitlines()[:20]
    assert any("make demo" in line for line in first) and any("make test" in line for line in first)
    makefile = (ROOT / "Makefile").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert all(f"{target}: install" in makefile for target in ("demo", "test"))
