"""Configs: presets, overrides, identity."""

import dataclasses
import json

import pytest

from gan.config import PRESETS, NetworkConfig, TrainingConfig, field_types, make_config, parse_override
from gan.errors import RequestError
from gan.image_shape import ImageShape


def config(preset="auto", resolution=256, **overrides):
    return make_config(
        preset=preset, shape=ImageShape(resolution, resolution), num_classes=0, dataset="d", overrides=overrides
    )


def test_presets_have_the_papers_channels():
    assert [config("config-f", 1024).network.channels(r) for r in (4, 64, 128, 256, 1024)] == [512, 512, 256, 128, 32]
    assert [config("paper256").network.channels(r) for r in (4, 32, 64, 128, 256)] == [512, 512, 256, 128, 64]
    assert config(resolution=512).network.channel_base == 32768 and config().network.channel_base == 16384
    assert [config(resolution=r).batch_size for r in (32, 64, 128, 256, 512, 1024)] == [32, 32, 32, 16, 8, 4]


@pytest.mark.parametrize(
    ("preset", "resolution", "published"),  # the table of the reference's train.py
    [
        ("config-f", 1024, {"channel_base": 32768, "batch_size": 32, "mbstd_group_size": 4, "learning_rate": 0.002}),
        ("config-f", 256, {"r1_gamma": 10, "ema_kimg": 10, "ema_rampup": None, "mapping_layers": 8}),
        ("paper256", 256, {"channel_base": 16384, "batch_size": 64, "mbstd_group_size": 8, "learning_rate": 0.0025}),
        ("paper256", 128, {"r1_gamma": 1, "ema_kimg": 20, "ema_rampup": None, "mapping_layers": 8}),
        ("paper512", 512, {"channel_base": 32768, "batch_size": 64, "mbstd_group_size": 8, "learning_rate": 0.0025}),
        ("paper512", 512, {"r1_gamma": 0.5, "ema_kimg": 20, "ema_rampup": None, "mapping_layers": 8}),
        ("paper1024", 1024, {"channel_base": 32768, "batch_size": 32, "mbstd_group_size": 4, "learning_rate": 0.002}),
        ("paper1024", 1024, {"r1_gamma": 2, "ema_kimg": 10, "ema_rampup": None, "mapping_layers": 8}),
        ("auto", 256, {"mapping_layers": 2, "ema_rampup": 0.05, "ada_kimg": 500, "ema_kimg": 5, "batch_size": 16}),
    ],
)
def test_presets_have_the_published_values(preset, resolution, published):
    values = config(preset, resolution).to_dict()
    assert {name: {**values, **values["network"]}[name] for name in published} == published


def test_r1_gamma_follows_resolution_and_batch_unless_it_is_given_or_published():
    assert config().r1_gamma == pytest.approx(0.0002 * 256**2 / 16)
    assert config(batch_size=32).r1_gamma == pytest.approx(0.0002 * 256**2 / 32)
    assert config(r1_gamma=3.0).r1_gamma == 3
    assert config("paper256", r1_gamma=None).r1_gamma == pytest.approx(0.0002 * 256**2 / 64)


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trip_and_digest(preset):
    one = config(preset, 64, seed=3)
    again = TrainingConfig.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one and again.digest() == one.digest() and again.differences(one) == []
    for name in field_types():
        value = getattr(one.network, name, None) or getattr(one, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            smaller = name in ("style_mixing_prob", "beta1", "beta2", "ada_target")
            other = config(preset, 64, **{"seed": 3, name: type(value)(value / 2 if smaller else value * 2)})
            assert other.digest() != one.digest(), name
            assert any(d.startswith(f"{name} is ") for d in other.differences(one))


def test_overrides_are_parsed_by_type():
    assert parse_override("batch_size=8") == ("batch_size", 8)
    assert parse_override("pl_weight=0") == ("pl_weight", 0.0)
    assert parse_override("mirror=true") == ("mirror", True)
    assert parse_override("ema_rampup=none") == ("ema_rampup", None)
    for text in ("batch_size", "nothing=1", "dataset=x", "batch_size=eight", "batch_size=none", "mirror=2"):
        with pytest.raises(RequestError, match="`overrides`"):
            parse_override(text)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": 6}, "`batch_size` must be a multiple of mbstd_group_size, 4; got 6"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"style_mixing_prob": 1.5}, r"`style_mixing_prob` must be in \[0, 1\]"),
        ({"beta2": 1.0}, r"`beta2` must be in \[0, 1\)"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0; got nan"),
        ({"unknown": 1}, "`overrides` must name one of"),
    ],
)
def test_impossible_values_are_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        config(**overrides)
    with pytest.raises(
        RequestError, match="`preset` must be one of auto, config-f, paper256, paper512, paper1024, tiny; got huge"
    ):
        config("huge")


def test_configs_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().batch_size = 1
    with pytest.raises(TypeError):
        NetworkConfig(64)
