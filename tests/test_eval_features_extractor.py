"""Extractors: parity with torch-fidelity on the same weights, identity, refusals, and the one network that has real
weights everywhere."""

import inspect
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.features import extractor as features
from eval.features.extractor import EXTRACTORS, load_extractor, relative_distance
from eval.features.preprocess import PRESETS
from eval.features.torchvision_compat import torch_fidelity, torchvision
from gan.data.synthetic_scenes import painting
from gan.errors import RequestError
from gan.runtime.files import sha256

DATA = os.environ.get("SALON_TEST_DATA")
LAYERS = ["2048", "logits_unbiased"]


def photographs(count: int, name: str = "photo"):
    files = sorted(Path(DATA, "data", name).iterdir())[:count]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def landscape(seed, size):
    return painting("landscape", "impressionism", seed, size)


@pytest.fixture(scope="session")
def pixels():
    return np.stack([np.asarray(landscape(seed, 80).resize((80, 64))) for seed in range(6)])


@pytest.fixture(scope="session")
def inception(inception_weights):
    return load_extractor("inception-v3-compat", weights=inception_weights, device="cpu")


@pytest.fixture(scope="session")
def efficientnet():
    return load_extractor("efficientnet-lite0", device="cpu")


def test_inception_is_torch_fidelitys(inception, inception_weights, pixels):
    pixels = pixels[:2]
    # "preprocess" is no option of torch-fidelity's: it is ignored there without a word.
    theirs = torch_fidelity().FeatureExtractorInceptionV3(
        "inception-v3-compat", LAYERS, feature_extractor_weights_path=inception_weights, preprocess="clean"
    )
    with torch.no_grad():
        expected, logits = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    found = inception(pixels)
    assert found["features"].dtype == found["logits"].dtype == np.float32
    assert np.abs(found["features"] - expected.numpy()).max() < 1e-4 * expected.abs().max()
    assert np.abs(found["logits"] - logits.numpy()).max() < 1e-4 * logits.abs().max()
    assert inception.is_inception and inception.dim == 2048
    with pytest.raises(TypeError, match="size"):
        load_extractor("inception-v3-compat", weights=inception_weights, size=299)


def test_an_extractor_says_who_it_is(inception, inception_weights, efficientnet):
    assert inception.key == "inception-v3-compat/tf1/fp32"
    assert inception.identity == {
        **{"extractor": "inception-v3-compat", "preprocess": "tf1", "precision": "fp32", "backend": "torch"},
        "weights": sha256(inception_weights),
    }
    assert efficientnet.key == "efficientnet-lite0/imagenet/fp32" and not efficientnet.is_inception
    other = load_extractor("efficientnet-lite0", preprocess="clean", device="cpu")
    assert other.key == "efficientnet-lite0/clean/fp32"


def test_preprocessing_changes_features(efficientnet, pixels):
    other = load_extractor("efficientnet-lite0", preprocess="clean", device="cpu")
    assert np.abs(other(pixels)["features"] - efficientnet(pixels)["features"]).max() > 0.1


def test_features_do_not_depend_on_the_batch(efficientnet, pixels):
    many = np.concatenate([pixels] * 4)  # more than a batch
    together = efficientnet(many)
    alone = [efficientnet([image]) for image in pixels]
    for part in ("features", "logits"):
        expected = np.concatenate([one[part] for one in alone] * 4)
        assert np.abs(together[part] - expected).max() < 1e-4 * np.abs(expected).max()
        assert len(efficientnet(many[:0])[part]) == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_agree(backend, efficientnet, pixels):
    pytest.importorskip(backend)
    other = load_extractor("efficientnet-lite0", backend=backend, device="cpu")
    expected, found = efficientnet(pixels), other(pixels)
    assert other.identity == efficientnet.identity | {"backend": backend}
    for part in ("features", "logits"):
        assert np.abs(found[part] - expected[part]).max() < 1e-4 * np.abs(expected[part]).max()


def test_each_network_has_weights_of_its_own(inception_weights):
    with pytest.raises(RequestError, match="must hold the weights of efficientnet-lite0"):
        load_extractor("efficientnet-lite0", weights=inception_weights)
    with pytest.raises(RequestError, match="must hold the weights of inception-v3-compat"):
        load_extractor("inception-v3-compat", weights=EXTRACTORS["efficientnet-lite0"].bundled())


@pytest.mark.parametrize("name", sorted(set(EXTRACTORS) - {"efficientnet-lite0", "efficientnet-lite0-style"}))
def test_without_its_weights_a_network_says_what_to_put_where(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match=f"{name} needs its weights: put ") as caught:
        load_extractor(name, device="cpu")
    file = EXTRACTORS[name].file
    assert f"put {file.name} ({file.url}) into {tmp_path / 'weights'}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": "inception"}, "`extractor` must be one of .*; got inception instead"),
        ({"preprocess": "tf2"}, "`preprocess` must be one of .*; got tf2 instead"),
        ({"precision": "fp16"}, "`precision` must be one of .*; got fp16 instead"),
        ({"backend": "tflite"}, "`backend` must be one of .*; got tflite instead"),
        ({"backend": "openvino", "device": torch.device("cuda")}, "`backend` openvino needs `device` cpu"),
        ({"precision": "tf32", "device": "cpu"}, "`precision` tf32 needs `device` cuda; got cpu instead"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(RequestError, match=message):
        load_extractor(**({"extractor": "efficientnet-lite0"} | options))
    assert "fetch" in inspect.signature(load_extractor).parameters
    assert inspect.signature(load_extractor).parameters["fetch"].default is False


def test_bfloat16_is_used_only_after_it_proved_itself(efficientnet, monkeypatch):
    assert features.MIN_CALIBRATION_IMAGES == 64
    monkeypatch.setattr(features, "MIN_CALIBRATION_IMAGES", 16)
    half = load_extractor("efficientnet-lite0", precision="bf16", device="cpu")
    images = np.stack([np.asarray(landscape(seed, 64).resize((64, 64))) for seed in range(16)])
    assert half.key == "efficientnet-lite0/imagenet/bf16"
    with pytest.raises(RequestError, match="must be calibrated on images"):
        half(images[:1])
    with pytest.raises(RequestError, match="calibration needs 16 images; got 15 instead"):
        half.calibrate(images[:15], efficientnet)
    with pytest.raises(RequestError, match="must be calibrated by the same network in fp32"):
        half.calibrate(images, half)
    with pytest.raises(RequestError, match=r"must move the features .* by less than 5.0e-03 .* Use fp32"):
        half.calibrate(images, efficientnet)  # they are so alike that rounding is much of what sets them apart
    with pytest.raises(RequestError, match="must be calibrated on images"):
        half(images[:1])


@pytest.mark.skipif(DATA is None, reason="SALON_TEST_DATA is unset")
def test_bfloat16_is_accepted_on_photographs(efficientnet, monkeypatch):
    half = load_extractor("efficientnet-lite0", precision="bf16", device="cpu")
    monkeypatch.setattr(features, "MIN_CALIBRATION_IMAGES", 16)
    images = photographs(16)
    assert 1e-6 < half.calibrate(images, efficientnet) < features.MAX_CALIBRATION
    found, expected = (extractor(images[:2])["features"] for extractor in (half, efficientnet))
    assert 0 < np.abs(found - expected).max() < 0.2 * expected.max()


def test_relative_distance_is_frechets():
    rng = np.random.default_rng(0)
    a = rng.normal(size=[50, 6]).astype(np.float32)
    b = (a @ rng.normal(size=[6, 6]) + 0.3).astype(np.float32)
    cov_a, cov_b = (np.cov(x.astype(np.float64), rowvar=False, bias=True) for x in (a, b))
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    shift = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    expected = (shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * root) / np.trace(cov_a)
    assert relative_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert relative_distance(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.skipif(DATA is None, reason="SALON_TEST_DATA is unset")
def test_efficientnet_knows_what_photographs_show(efficientnet):
    logits = efficientnet(photographs(24))["logits"]
    names = np.array(torchvision().models.EfficientNet_B0_Weights.DEFAULT.meta["categories"])
    outdoors = {"valley", "volcano", "seashore", "lakeside", "promontory", "cliff", "alp", "geyser", "breakwater"}
    shown = [bool(outdoors & set(names[row])) for row in np.argsort(-logits)[:, :5]]
    assert np.mean(shown) > 0.6


@pytest.mark.skipif(DATA is None, reason="SALON_TEST_DATA is unset")
def test_efficientnet_tells_paintings_from_photographs(efficientnet):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    found = efficientnet(photographs(30, "monet") + photographs(30))["features"]
    scores = cross_val_score(LogisticRegression(max_iter=1000), found, np.repeat([0, 1], 30), cv=3)
    assert scores.mean() > 0.85


def test_an_extraction_that_is_only_started_gives_the_same(efficientnet, pixels):
    started, found = efficientnet.start(pixels), efficientnet(pixels)
    assert {name: rows.tobytes() for name, rows in started.result().items()} == {
        name: rows.tobytes() for name, rows in found.items()
    }


def test_fp32_is_no_tf32_whatever_the_process_is_set_to(efficientnet, pixels, monkeypatch):
    # As far as a CPU shows it: what is set while the network of an extractor for a GPU runs.
    seen = []
    both = lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)  # noqa: E731
    monkeypatch.setattr(efficientnet, "device", torch.device("cuda"))
    monkeypatch.setattr(efficientnet, "_preset", lambda pixels, size, device: PRESETS["imagenet"](pixels, size))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with monkeypatch.context() as patch:
        run = efficientnet._run
        patch.setattr(efficientnet, "_run", lambda x: seen.append((*both(), torch.backends.cudnn.enabled)) or run(x))
        efficientnet(pixels)
        patch.setitem(efficientnet.identity, "precision", "tf32")
        patch.setattr(efficientnet, "calibration", 0.0)
        efficientnet(pixels)
    assert seen == [(False, False, True), (True, True, True)] and both()[0]
