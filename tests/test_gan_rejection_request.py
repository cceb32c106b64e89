"""What a selection of seeds was asked for: fields that need one another, and fields that exclude one another."""

from pathlib import Path

import pytest

from gan.errors import RequestError
from gan.rejection.request import Rejection, SelectionRequest

DATA = Path("paintings.zip")


def test_without_rejection_nothing_else_is_set():
    assert SelectionRequest() == SelectionRequest(reject=None)
    for field, value in (("budget", 3), ("calibration", "none"), ("count", 2), ("calibration_data", DATA)):
        with pytest.raises(RequestError, match=f"`{field}` needs `reject` drs, mh or obrs"):
            SelectionRequest(**{field: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reject": "mh", "gamma": 1.0}, "`gamma` needs `reject` drs; `reject` mh takes `budget` alone"),
        ({"reject": "drs", "gamma": 0.0, "budget": 2}, "`budget` and `gamma` exclude each other"),
        ({"reject": "drs"}, "`reject` needs `count`, the number of images to accept"),
        ({"reject": "drs", "count": 2}, "`reject` drs needs `calibration_data` DATASET, .* or `calibration` none"),
        (
            {"reject": "mh", "count": 2, "calibration": "none"},
            "`reject` mh needs `calibration_data` DATASET: its chains",
        ),
        (
            {"reject": "drs", "count": 2, "calibration": "none", "keep_training": Path("new")},
            "`keep_training` needs `calibration_data` DATASET",
        ),
    ],
)
def test_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        SelectionRequest(**fields)


def test_a_trained_discriminator_replaces_no_file(tmp_path):
    (tmp_path / "old.safetensors").touch()
    with pytest.raises(RequestError, match=r"`keep_training` would replace .*old\.safetensors; choose another"):
        SelectionRequest(reject="drs", count=2, calibration_data=DATA, keep_training=tmp_path / "old.safetensors")


def test_gamma_is_decided_by_one_field():
    assert Rejection(reject="drs").gamma_choice() == {"budget": 4}
    assert Rejection(reject="drs", budget=2).gamma_choice() == {"budget": 2}
    assert Rejection(reject="drs", gamma=0.0).gamma_choice() == {"gamma": 0.0}
    assert Rejection(reject="drs", gamma_percentile=80.0).gamma_choice() == {"percentile": 80.0}


def test_candidates_that_are_needed():
    request = SelectionRequest(reject="obrs", count=3, calibration="none")
    assert request.needed == 12
