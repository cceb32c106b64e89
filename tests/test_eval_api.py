"""What `import eval` gives: every public name, loaded when it is used and not before."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import eval as evaluation

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there_and_is_named_in_the_docstring():
    for name in evaluation.__all__:
        thing = getattr(evaluation, name)
        assert thing is getattr(import_module(thing.__module__), name)
        assert name in evaluation.__doc__ and name in dir(evaluation)
    with pytest.raises(AttributeError, match="no attribute 'frechet'"):
        _ = evaluation.frechet


def test_importing_it_loads_nothing_heavy():
    code = "import eval, sys; dir(eval); print(sorted({'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_metrics_of_features():
    from eval import frechet_distance, kernel_distance, precision_recall
    from eval.metrics.feature_stats import Moments

    rng = np.random.default_rng(0)
    real, gen = rng.normal(size=(2, 200, 4)).astype(np.float32)
    moments = []
    for features in (real, gen):
        moments.append(Moments(4))
        moments[-1].add(features)
    shift = float(np.square(moments[0].mean - moments[1].mean).sum())
    assert frechet_distance(*moments) > shift
    assert kernel_distance(gen, real).estimate.low < 0 < precision_recall(real, gen)["recall"].value
