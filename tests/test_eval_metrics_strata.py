"""The table by style finds the style that is missed, and does not believe few images much."""

import numpy as np
import pytest

from eval.metrics.confidence_intervals import shrink
from eval.metrics.feature_stats import Features
from eval.metrics.frechet import frechet_estimate, frechet_jackknife
from eval.metrics.kernel import Kernel, kid
from eval.metrics.strata import strata_table


def paintings(rng, sizes, d=5):
    """Features of styles that lie apart by their number."""
    features = np.concatenate([rng.normal(size=(n, d)) + index for index, n in enumerate(sizes.values())])
    return features, [name for name, n in sizes.items() for _ in range(n)]


def test_the_missed_style_stands_out_and_the_few_are_shrunken():
    rng = np.random.default_rng(0)
    real, names = paintings(rng, {"a": 45, "b": 45, "c": 45, "rare": 6, "lone": 1})
    gen = rng.normal(size=(80, 5))  # all of style a
    table = {row.name: row for row in strata_table(real, names, gen)}
    assert list(table) == ["a", "b", "c", "rare"] and {row.metric for row in table.values()} == {"kd"}
    assert table["a"].estimate.value < table["b"].estimate.value < table["c"].estimate.value
    assert (table["rare"].n_real, table["rare"].n_gen) == (6, 80)
    assert table["c"].estimate == kid(gen, real[90:135])
    moved = {name: abs(row.shrunken.value - row.estimate.value) for name, row in table.items()}
    assert max(moved, key=lambda name: moved[name]) == "rare"
    # Drawn far, by moments that few strata make: the interval does not leave out what the stratum itself says.
    assert all(row.shrunken.low <= row.estimate.value <= row.shrunken.high for row in table.values())


def test_styles_are_compared_with_their_own():
    rng = np.random.default_rng(1)
    real, names = paintings(rng, {"a": 40, "b": 40, "c": 40})
    gen, gen_names = paintings(rng, {"a": 30, "b": 30, "c": 30})
    for index, row in enumerate(strata_table(real, names, gen, gen_names)):
        assert row.estimate == kid(gen[30 * index :][:30], real[40 * index :][:40])
        assert row.n_gen == 30 and abs(row.estimate.value) < 4 * row.estimate.se
        assert row.shrunken.se <= row.estimate.se


def test_many_images_in_every_style_have_the_frechet_distance():
    rng = np.random.default_rng(2)
    real, names = paintings(rng, {"a": 60, "b": 60, "c": 60}, d=2)
    rows = strata_table(real, names, real[:60])
    assert {row.metric for row in rows} == {"fd"}
    assert [row.estimate.value for row in rows] == pytest.approx([0, 2, 8], abs=1.5)


def test_each_distance_is_that_of_its_stratum_and_drawn_together():
    rng = np.random.default_rng(3)
    real, names = paintings(rng, {"a": 60, "b": 60, "c": 60}, d=2)
    gen, gen_names = paintings(rng, {"a": 25, "b": 30, "c": 35, "d": 4}, d=2)
    order = rng.permutation(180)  # strata lie among one another
    rows = strata_table(real[order], [names[i] for i in order], gen, gen_names)
    parts = [gen[:25], gen[25:55], gen[55:90]]
    alone = []
    for index, (row, part) in enumerate(zip(rows, parts, strict=True)):
        reference = Features([real[60 * index :][:60]]).moments()
        expected = frechet_estimate(part, reference)["bias_corrected"]
        assert row.estimate.value == pytest.approx(frechet_jackknife(part, reference).corrected, rel=1e-9)
        assert (row.metric, row.n_real, row.n_gen) == ("fd", 60, len(part)) and row.estimate.n == expected.n
        alone.append(row.estimate)
    assert [row.shrunken for row in rows] == shrink(alone)


@pytest.mark.parametrize(("n_real", "n_gen", "metric"), [(20, 20, "fd"), (19, 20, "kd"), (20, 19, "kd")])
def test_one_stratum_of_few_images_gives_all_the_kernel_distance(n_real, n_gen, metric):
    rng = np.random.default_rng(4)
    real, names = paintings(rng, {"a": 30, "b": n_real}, d=2)
    gen, gen_names = paintings(rng, {"a": 30, "b": n_gen}, d=2)
    assert {row.metric for row in strata_table(real, names, gen, gen_names)} == {metric}


def test_the_kernel_and_strata_of_two_images():
    rng = np.random.default_rng(5)
    real, names = paintings(rng, {"a": 12, "b": 2, "c": 1, "d": 3})
    gen, gen_names = paintings(rng, {"a": 9, "b": 2, "c": 2, "d": 1})
    kernel = Kernel(degree=2, gamma=0.5, coef0=0.0)
    rows = strata_table(real, names, gen, gen_names, kernel=kernel)
    assert [(row.name, row.n_real, row.n_gen) for row in rows] == [("a", 12, 9), ("b", 2, 2)]
    assert rows[0].estimate == kid(gen[:9], real[:12], degree=2, gamma=0.5, coef0=0.0)
    with_all = strata_table(real, names, gen, kernel=kernel)
    assert with_all[0].estimate == kid(gen, real[:12], degree=2, gamma=0.5, coef0=0.0) and len(with_all) == 3


def test_tables_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="for each of 4 images; got 3"):
        strata_table(np.zeros((4, 2)), ["a"] * 3, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="gen_strata must name a stratum for each of 4 images; got 5"):
        strata_table(np.zeros((4, 2)), ["a"] * 4, np.zeros((4, 2)), ["a"] * 5)
    with pytest.raises(ValueError, match="must share a stratum"):
        strata_table(np.zeros((4, 2)), ["a"] * 4, np.zeros((4, 2)), ["b"] * 4)
