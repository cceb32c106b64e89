"""What `import gan` gives: names that are loaded when they are used, and types for those who check them."""

import subprocess
import sys
from pathlib import Path

import pytest

import gan
from gan.data.collection import Collection
from gan.training.training_loop import train

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", gan.__all__)
def test_each_public_name_resolves_and_is_listed(name):
    thing = getattr(gan, name)
    assert callable(thing) and thing.__doc__
    assert name in dir(gan)


def test_public_names_are_those_of_the_rooms():
    assert gan.Collection is Collection and gan.train is train
    assert set(gan._PLACES) == set(gan.__all__)


def test_another_name_is_none():
    with pytest.raises(AttributeError, match="module 'gan' has no attribute 'paint'"):
        gan.paint  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, gan; gan.__all__, dir(gan); print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_snapshot_is_loaded_and_sampled(tiny_run):
    source = gan.load_snapshot(tiny_run)
    assert isinstance(source.G_ema, gan.Generator) and isinstance(source.D, gan.Discriminator)
    (image,) = gan.generate(source.G_ema, [0])
    assert image.shape == (16, 16, 3)


@pytest.mark.parametrize("package", ["gan", "eval", "curation", "serving", "salon"])
def test_packages_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()
