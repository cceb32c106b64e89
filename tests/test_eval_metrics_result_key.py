"""Keys: what people read, what is compared, and what a refusal names."""

from dataclasses import replace

import pytest

from eval.metrics.result_key import Identity, digest, require_comparable, short_count
from gan.errors import RequestError

FID = Identity(
    metric="fid",
    extractor="inception-v3-compat",
    preprocess="tf1",
    precision="fp32",
    backend="torch",
    weights="a" * 64,
    reference="b" * 32,
    reference_n=5000,
    n=10_000,
    options={},
)


def test_the_key_that_people_read():
    assert str(FID) == "fid@inception-v3-compat/tf1/fp32/n=10k"
    assert [short_count(n) for n in (0, 999, 1000, 2500, 50_000)] == ["0", "999", "1k", "2500", "50k"]


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("metric", "kid", "metric is fid and kid"),
        ("extractor", "vgg16", "extractor is inception-v3-compat and vgg16"),
        ("preprocess", "clean", "preprocess is tf1 and clean"),
        ("precision", "bf16", "precision is fp32 and bf16"),
        ("backend", "openvino", "backend is torch and openvino"),
        ("weights", "c" * 64, "weights is aaaaaaaaaaaa… and cccccccccccc…"),
        ("reference", "c" * 32, "reference is b"),
        ("reference_n", 4999, "reference_n is 5000 and 4999"),
        ("n", 5000, "n is 10000 and 5000"),
        ("options", {"k": 3}, 'options is {} and {"k": 3}'),
    ],
)
def test_results_of_other_identity_are_not_compared(field, value, said):
    require_comparable(FID, replace(FID))
    with pytest.raises(RequestError) as refusal:
        require_comparable(FID, replace(FID, **{field: value}))
    assert said in str(refusal.value) and str(refusal.value).count(" is ") == 1


def test_an_identity_survives_json():
    assert Identity.from_dict(FID.to_dict()) == FID
    with pytest.raises(RequestError, match="full identity"):
        Identity.from_dict({"metric": "fid"})
    with pytest.raises(RequestError, match="full identity"):
        Identity.from_dict({**FID.to_dict(), "colour": "red"})


def test_a_digest_is_of_the_content_not_of_its_order():
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
