"""Density and neighbour scores: against closed forms, on planted outliers, and what a state promises."""

import numpy as np
import pytest
import torch
from conftest import write_dataset

from curation.child_manifest import stratum_numbers
from curation.score import density
from curation.score import score as scoring
from eval.metrics import on_device
from gan.data import manifest
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

RNG = np.random.default_rng(1)
BOTH = ("density", "knn")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_numbers():
    """Every test draws the same numbers, whichever ran before it."""
    global RNG
    RNG = np.random.default_rng(1)


def planted(count=190, outliers=10, dim=40, clique=False):
    """Unit features around two axes of variation; the last `outliers` vary in another way."""
    axes = RNG.normal(size=[4, dim])
    base = 3 + RNG.normal(size=[count, 4]) @ axes + 0.3 * RNG.normal(size=[count, dim])
    spread = 0.01 if clique else 1.0
    others = 3 + 3 * RNG.normal(size=[1 if clique else outliers, dim]) + spread * RNG.normal(size=[outliers, dim])
    return np.concatenate([base, others]).astype(np.float32), np.arange(count + outliers) >= count


def auroc(scores, positive):
    return float((scores[positive][:, None] < scores[~positive][None]).mean())


def scored(features, strata=None, seed=0):
    strata = np.zeros(len(features), np.int64) if strata is None else strata
    state = density.fit(features, strata, seed=seed, extractor="e")
    return state, density.score(state, features, density.pool_small(strata), fitted=True)


@pytest.mark.parametrize("shape", [(30, 200), (200, 30)])
def test_shrinkage_is_scikit_learn_s(shape):
    from sklearn.covariance import ledoit_wolf_shrinkage

    features = RNG.normal(size=shape) * np.linspace(0.1, 2, shape[1])
    centred = features - features.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / len(centred)
    found = density.shrinkage(variances, (centred**2).sum(axis=1), shape[1])
    assert found == pytest.approx(ledoit_wolf_shrinkage(centred, assume_centered=True), rel=1e-6)


@pytest.mark.parametrize("clique", [False, True])
def test_planted_outliers_score_low(clique):
    # A clique of outliers that look alike is each other's nearest neighbour, and must not hide by that.
    features, planted_here = planted(clique=clique)
    _, found = scored(features)
    for method in BOTH:
        assert auroc(found[method][0], planted_here) > 0.97, method


def test_the_gaussian_is_that_of_its_definition():
    from sklearn.covariance import LedoitWolf

    features = (RNG.normal(size=[60, 12]) * np.arange(1, 13)).astype(np.float32)
    expected = LedoitWolf().fit(features.astype(np.float64)).mahalanobis(features)
    found = density.mahalanobis(features, *density.shrunken_gaussian(features, 12))
    assert found == pytest.approx(expected, rel=1e-3)


def test_fewer_components_keep_the_total_variance():
    features = RNG.normal(size=[500, 20]).astype(np.float32)
    found = density.mahalanobis(features, *density.shrunken_gaussian(features, 3))
    assert found.mean() == pytest.approx(20, rel=0.02)  # the mean squared distance is the number of dimensions


def test_beyond_the_components_all_directions_have_the_mean_of_what_is_left():
    scale = np.r_[9.0, 6, 4, np.linspace(0.5, 2, 17)]
    features = (RNG.normal(size=[4000, 20]) * scale).astype(np.float32)
    mean, whiten, precision = density.shrunken_gaussian(features, 3)
    assert whiten.shape == (20, 3)
    assert np.linalg.norm(whiten, axis=0) == pytest.approx(1 / scale[:3], rel=0.05)
    assert 1 / precision == pytest.approx(np.square(scale[3:]).mean(), rel=0.05)
    assert density.mahalanobis(features, mean, whiten, precision).mean() == pytest.approx(20, rel=0.03)


def test_the_kth_distance_is_that_of_brute_force():
    a, b = (density.normalized(RNG.normal(size=[n, 5]).astype(np.float32)) for n in (7, 3000))
    expected = np.sort(np.linalg.norm(a[:, None] - b[None], axis=2), axis=1)
    for k in (1, 4, 700):
        assert density.kth_distance(a, b, k) == pytest.approx(expected[:, k - 1], abs=1e-3)


def test_standard_errors_are_those_over_models_that_have_not_seen_an_image():
    features, _ = planted()
    state, found = scored(features)
    stratum = state.strata[density.POOLED if density.POOLED in state.strata else 0]
    members = np.stack([model.members for model in stratum.models])
    assert (members.sum(axis=0) == density.MODELS // 2).all()  # every image has been seen by half of them
    raw = (density._raw(stratum, stratum.references[5:6])[:, :, 0] - stratum.centre) / stratum.scale
    unseen = raw[:, ~members[:, 5]]
    for i, method in enumerate(BOTH):
        assert found[method][0][5] == pytest.approx(unseen[i].mean(), rel=1e-3, abs=1e-4)
        assert found[method][1][5] == pytest.approx(unseen[i].std(ddof=1) / 2, rel=1e-3)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_device_scores_alike(fitted, monkeypatch):
    monkeypatch.setattr(density, "DEVICE_BLOCK", 70)
    monkeypatch.setattr(on_device, "BLOCK", 30)
    features, strata = np.concatenate([planted()[0], planted()[0]]), np.repeat([0, 1], 200)
    features[[5, 250]] = features[[6, 251]]
    expected, *found = (
        density.score(
            density.fit(features, strata, seed=0, extractor="e", device=device),
            features,
            strata,
            fitted=fitted,
            device=device,
        )
        for device in (None, CPU, CPU)
    )
    for method in BOTH:
        for ours, theirs, again in zip(found[0][method], expected[method], found[1][method], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
            assert np.array_equal(ours, again)


def test_scores_are_on_the_scale_of_what_each_model_has_not_seen():
    features, _ = planted()
    stratum = scored(features)[0].strata[0]
    raw = density._raw(stratum, stratum.references)
    for method in range(2):
        for index, model in enumerate(stratum.models):
            unseen = raw[method, index, ~model.members]
            assert stratum.centre[method, index] == np.median(unseen)
            spread = 1.4826 * np.median(np.abs(unseen - np.median(unseen)))
            assert stratum.scale[method, index] == pytest.approx(spread)


def test_the_same_seed_gives_the_same_scores_and_order_of_images_matters_little():
    features, _ = planted()
    first, again, other = (scored(features, seed=seed)[1]["knn"][0] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert np.corrcoef(first, other)[0, 1] > 0.95


def test_a_minority_is_judged_by_its_own_kind():
    majority, _ = planted(1400, 0)
    minority = (10 * RNG.normal(size=[1, 40]) + RNG.normal(size=[100, 40])).astype(np.float32)
    features = np.concatenate([majority, minority])
    strata = (np.arange(1500) >= 1400).astype(np.int64)
    pooled, own = (scored(features, s)[1]["knn"][0] for s in (strata * 0, strata))
    lowest = lambda values: np.mean(np.argsort(values)[:75] >= 1400)  # noqa: E731  # share of the minority
    assert lowest(pooled) > 0.8 and lowest(own) < 0.3


def test_small_strata_are_pooled():
    strata = np.repeat([3, 4, 5], [150, 60, 50])
    assert np.unique(density.pool_small(strata)).tolist() == [-1, 3]
    assert (density.pool_small(strata)[150:] == -1).all()


@pytest.mark.parametrize("few", [98, 20, 19, 1])
def test_a_small_stratum_leaves_the_large_ones_their_models(few):
    # Strata of painters' kinds that lie apart: pooled, the smaller would look untypical.
    sizes = [400, 120, few]
    centres = 10 * RNG.normal(size=[3, 40])
    strata = np.repeat([3, 4, 5], sizes)
    features = (centres[strata - 3] + RNG.normal(size=[sum(sizes), 40])).astype(np.float32)
    state, found = scored(features, strata)
    alone = scored(features[:520], strata[:520])[1]
    for method in BOTH:
        values = found[method][0]
        assert np.isfinite(values).all()
        assert np.median(values[400:520]) == pytest.approx(np.median(alone[method][0][400:]), abs=0.5)
    assert set(state.strata) == ({3, 4, density.POOLED} if few >= 20 else {3, 4})
    if few < 20:  # too few for any model: an image is what the strata find it
        new = density.score(state, features[520:], strata[520:], fitted=False)
        assert found["knn"][0][520:] == pytest.approx(new["knn"][0], rel=1e-4, abs=1e-4)


def test_a_state_scores_new_images_without_the_old_ones(tmp_path):
    features, outlier = planted(300, 20)
    old, new = np.arange(320) < 250, np.arange(320) >= 250
    state = density.fit(features[old], np.zeros(250, np.int64), seed=0, extractor="e")
    state.save(tmp_path / "s.npz")
    loaded = density.load(tmp_path / "s.npz")
    assert loaded.extractor == "e"
    zeros = np.zeros(70, np.int64)
    kept, found = (density.score(s, features[new], zeros, fitted=False) for s in (state, loaded))
    for method in BOTH:
        assert (kept[method][0] == found[method][0]).all()
        assert auroc(found[method][0], outlier[new]) > 0.97
        one = density.score(loaded, features[new][:1], zeros[:1], fitted=False)[method][0]
        assert one == pytest.approx(found[method][0][:1], rel=1e-4, abs=1e-4)  # companions do not matter


def test_standardized_features_show_outliers_by_size_and_in_faint_features(tmp_path):
    features = RNG.normal(size=[220, 30]).astype(np.float32) * np.geomspace(0.01, 10, 30, dtype=np.float32)
    outlier = np.arange(220) >= 210
    features[outlier, :5] += 0.3 * RNG.choice([-1, 1], size=[10, 5])  # of what hardly varies
    zeros = np.zeros(220, np.int64)
    fitted = {s: density.fit(features, zeros, seed=0, extractor="e", standardized=s) for s in (False, True)}
    found = {s: density.score(state, features, zeros, fitted=True) for s, state in fitted.items()}
    for method in BOTH:
        assert auroc(found[True][method][0], outlier) > 0.95 > 0.7 > auroc(found[False][method][0], outlier)
    fitted[True].save(tmp_path / "s.npz")
    again, new = density.load(tmp_path / "s.npz"), features[:20] + 1
    for method, (values, _) in density.score(fitted[True], new, zeros[:20], fitted=False).items():
        assert (density.score(again, new, zeros[:20], fitted=False)[method][0] == values).all()


def test_features_are_standardized_by_median_and_deviation():
    features = RNG.normal(5, 2, size=[4001, 3]).astype(np.float32)
    features[:400, 0], features[:, 2] = 1e6, 7  # a tenth is far off; all are alike
    standard = density.standard_of(features)
    assert standard[:, 0] == pytest.approx([5, 2], abs=0.5) and standard[:, 1] == pytest.approx([5, 2], abs=0.15)
    found = density.prepared(features, standard)
    assert found.dtype == np.float32 and found[0, 0] == density.DEVIATIONS == 8 and (found[:, 2] == 0).all()
    assert found[:, 1].std() == pytest.approx(1, abs=0.05)
    lengths = np.linalg.norm(density.prepared(features, density.UNIT), axis=1)
    assert lengths == pytest.approx(1, rel=1e-5)


def test_a_state_of_before_standardized_features_is_read(tmp_path):
    features, _ = planted()
    state, found = scored(features)
    state.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file.files if "standard" not in name})
    old = density.score(density.load(tmp_path / "old.npz"), features, np.zeros(200, np.int64), fitted=True)
    assert all((old[method][0] == found[method][0]).all() for method in BOTH)


def test_an_unknown_stratum_is_judged_by_the_pooled_one_or_by_all():
    features, _ = planted(300, 0)
    strata = np.arange(300) // 150
    state = density.fit(features, strata, seed=0, extractor="e")
    known = [density.score(state, features[:5], np.full(5, s), fitted=False)["knn"][0] for s in (0, 1)]
    unknown = density.score(state, features[:5], np.full(5, 77), fitted=False)["knn"][0]
    assert (unknown == np.maximum(*known)).all()


def test_an_unknown_stratum_is_judged_by_the_pooled_one_where_there_is_one():
    features, _ = planted(260, 0)
    strata = np.repeat([4, 5, 6], [140, 60, 60])
    state = density.fit(features, strata, seed=0, extractor="e")
    assert set(state.strata) == {4, density.POOLED}
    assert sorted(state.strata[density.POOLED].rows) == list(range(140, 260))
    given = (np.full(5, number) for number in (77, 5, density.POOLED))
    found = [density.score(state, features[:5], strata, fitted=False)["density"][0] for strata in given]
    assert (found[0] == found[2]).all() and (found[1] == found[2]).all()
    own = density.score(state, features[:5], np.full(5, 4), fitted=False)["density"][0]
    assert (own != found[0]).all()


@pytest.mark.parametrize(("sizes", "numbers"), [
    ([100, 99, 1], [-1, 0]), ([99, 100], [-1, 1]), ([100, 100], [0, 1]), ([99, 99, 2], [-1]), ([300, 1], [-1, 0])
])  # fmt: skip
def test_a_hundred_images_are_a_stratum(sizes, numbers):
    assert np.unique(density.pool_small(np.repeat(np.arange(len(sizes)), sizes))).tolist() == numbers


def test_blocks_do_not_matter(monkeypatch):
    features, _ = planted(130, 0)
    strata = np.arange(130) % 2
    whole = scored(features, strata * 0)[1]
    monkeypatch.setattr(density, "BLOCK", 7)
    parts = scored(features, strata * 0)[1]
    for method in BOTH:
        for one, other in zip(whole[method], parts[method], strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_a_model_is_the_gaussian_of_the_core_of_its_half():
    features, _ = planted(90, 0)
    stratum = scored(features)[0].strata[density.POOLED]
    assert len(stratum.models) == 8
    for model in stratum.models:
        half = stratum.references[model.members]
        assert len(half) == 45 and model.k == 4  # a tenth, rounded
        distances = np.sort(np.linalg.norm(half[:, None].astype(float) - half[None], axis=2), axis=1)[:, 3]
        core = half[np.argsort(distances)[:38]]  # those up to the 0.85 quantile: places 0 to 0.85 * 44
        assert model.mean == pytest.approx(core.mean(axis=0), abs=1e-5)
        assert model.whiten.shape == (40, 32)
    for one, other in zip(stratum.models[::2], stratum.models[1::2], strict=True):
        assert (one.members == ~other.members).all()
    assert np.linalg.norm(stratum.references, axis=1) == pytest.approx(np.ones(90), rel=1e-5)


def test_rows_that_are_no_reference_are_judged_by_all_models(monkeypatch):
    monkeypatch.setattr(density, "MAX_REFERENCES", 50)
    features, _ = planted(120, 0)
    state, found = scored(features)
    new = density.score(state, features, np.zeros(120, np.int64), fitted=False)
    kept = np.isin(np.arange(120), state.strata[0].rows)
    for method in BOTH:
        assert found[method][0][~kept] == pytest.approx(new[method][0][~kept], rel=1e-4, abs=1e-5)
        assert (np.abs(found[method][0][kept] - new[method][0][kept]) > 1e-6).mean() > 0.9


def test_twenty_images_are_enough_and_equal_ones_are_no_error():
    features = np.ones([20, 6], np.float32)
    found = scored(features)[1]
    for method in BOTH:
        assert np.isfinite(found[method]).all() and np.ptp(found[method][0]) == 0
    with pytest.raises(RequestError, match="got 19"):
        density.fit(features[1:], np.zeros(19, np.int64), seed=0, extractor="e")


def test_more_references_than_fit_are_sampled(monkeypatch):
    monkeypatch.setattr(density, "MAX_REFERENCES", 60)
    features, planted_here = planted()
    state, found = scored(features)
    assert len(state.strata[0].references) == 60 and np.isfinite(found["density"][0]).all()
    assert auroc(found["knn"][0], planted_here) > 0.9
    monkeypatch.setattr(density, "MAX_STANDARDIZED", 40)
    zeros = np.zeros(len(features), np.int64)
    state = density.fit(features, zeros, seed=0, extractor="e", standardized=True)
    assert state.strata[0].references.shape == (40, 40) and len(state.strata[0].rows) == 40


def test_refusals(tmp_path):
    with pytest.raises(RequestError, match="needs 20 images"):
        density.fit(np.zeros([5, 3], np.float32), np.zeros(5, np.int64), seed=0, extractor="e")
    for content in (b"nothing", b"", b"PK\x03\x04 cut off"):
        (tmp_path / "s.npz").write_bytes(content)
        with pytest.raises(RequestError, match=r"must be a state"):
            density.load(tmp_path / "s.npz")


@pytest.mark.parametrize("few", [30, 5])
def test_which_models_an_image_was_compared_with_is_recorded(tmp_path, few):
    labels = [0] * 110 + [1] * (few - 2) + [2] * 2
    path = write_dataset(tmp_path / "set.zip", [(8, 8)] * len(labels), labels, ["Rococo", "Cubism", "Japonism"])
    dataset = ImageDataset(path)
    rows = [
        dict.fromkeys(manifest.SCHEMA.names) | {"name": name, "label": label, "verdict": manifest.KEEP}
        for name, label in zip(dataset.names, labels, strict=True)
    ]
    manifest.write(tmp_path / "set.manifest", rows, dataset=dataset.fingerprint(), parent=None)
    collection = Collection.open(path)
    strata = density.pool_small(stratum_numbers(collection, "label"))
    state = density.fit(RNG.normal(size=[len(labels), 6]).astype(np.float32), strata, seed=0, extractor="e")
    found = scoring._models(collection, "label", np.arange(len(labels)), state, strata)
    kind = "pooled" if few >= 20 else "all"
    assert found == {"own": {"Rococo": 110}, kind: {"Cubism": few - 2, "Japonism": 2}}
    later = scoring._models(collection, "label", np.array([0, len(labels) - 1]), state, strata[[0, -1]])
    assert later == {"own": {"Rococo": 1}, kind: {"Japonism": 1}}
