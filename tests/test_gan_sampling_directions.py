"""Files of ws and of directions: what is written is read, edits are sums, and other files are refused in a line."""

import numpy as np
import pytest

from gan.errors import RequestError
from gan.sampling.directions import Direction, Directions, parse_amounts
from gan.sampling.ws_file import WsFile

NUM_WS, W_DIM = 6, 4


def two_directions() -> Directions:
    across = Direction(
        name="sky", vector=np.eye(W_DIM, dtype=np.float32)[0], sigma=2.0, first=0, last=1, method="pca",
        explained_variance=0.5,
    )  # fmt: skip
    deep = Direction(name="pc2", vector=np.eye(W_DIM, dtype=np.float32)[1], sigma=1.0, first=2, last=5, method="sefa")
    return Directions.of([across, deep], num_ws=NUM_WS, snapshot="ab" * 32, about={"samples": 100})


def test_ws_and_what_is_told_of_them_come_back(tmp_path):
    ws = np.random.default_rng(0).normal(size=(3, NUM_WS, W_DIM)).astype(np.float32)
    WsFile(ws=ws, snapshot="ab" * 32, about={"images": ["a.png", "b.png", "c.png"]}).save(tmp_path / "w.npz")
    read = WsFile.open(tmp_path / "w.npz", NUM_WS, W_DIM)
    np.testing.assert_array_equal(read.ws, ws)
    assert (read.snapshot, read.about) == ("ab" * 32, {"images": ["a.png", "b.png", "c.png"]})


@pytest.mark.parametrize("shape", [(0, NUM_WS, W_DIM), (1, NUM_WS + 1, W_DIM), (NUM_WS, W_DIM), ()])
def test_ws_of_another_shape_are_refused(tmp_path, shape):
    WsFile(ws=np.zeros(shape, np.float32)).save(tmp_path / "w.npz")
    with pytest.raises(RequestError, match=r"must hold finite ws of this generator, Nx6x4; .* holds"):
        WsFile.open(tmp_path / "w.npz", NUM_WS, W_DIM)


def test_ws_that_are_no_numbers_are_refused(tmp_path):
    WsFile(ws=np.full((1, NUM_WS, W_DIM), np.nan, np.float32)).save(tmp_path / "w.npz")
    with pytest.raises(RequestError, match="finite"):
        WsFile.open(tmp_path / "w.npz", NUM_WS, W_DIM)


def test_other_files_are_refused_and_not_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", ws=np.array([{"a": 1}], object), about=np.array([1], object))
    (tmp_path / "text.npz").write_text("no archive")
    two_directions().save(tmp_path / "directions.npz")
    for name in ("objects.npz", "text.npz", "directions.npz"):
        with pytest.raises(RequestError, match=r"`ws` must be a file of ws, \.npz as Salon writes it"):
            WsFile.open(tmp_path / name, NUM_WS, W_DIM)
    with pytest.raises(RequestError, match="does not exist"):
        WsFile.open(tmp_path / "nowhere.npz", NUM_WS, W_DIM)


def test_directions_come_back(tmp_path):
    two_directions().save(tmp_path / "d.npz")
    read = Directions.open(tmp_path / "d.npz", NUM_WS, W_DIM)
    assert (read.snapshot, read.about, list(read.entries)) == ("ab" * 32, {"samples": 100}, ["sky", "pc2"])
    assert read["sky"].explained_variance == 0.5 and read["pc2"].explained_variance is None
    assert (read["pc2"].first, read["pc2"].last, read["pc2"].method) == (2, 5, "sefa")
    np.testing.assert_array_equal(read["pc2"].vector, [0, 1, 0, 0])
    for num_ws, w_dim in ((NUM_WS + 2, W_DIM), (NUM_WS, W_DIM + 1)):
        with pytest.raises(RequestError, match="must be of this generator"):
            Directions.open(tmp_path / "d.npz", num_ws, w_dim)


def test_an_edit_moves_its_layers_by_its_standard_deviation():
    ws = np.ones((2, NUM_WS, W_DIM), np.float32)
    edited = two_directions().edit(ws, {"sky": 1.5, "pc2": -1.0})
    np.testing.assert_array_equal(edited[:, :2, 0], 1 + 1.5 * 2.0)
    np.testing.assert_array_equal(edited[:, 2:, 1], 0)
    np.testing.assert_array_equal(edited[:, 2:, 0], 1)
    np.testing.assert_array_equal(edited[:, :2, 1:], 1)
    np.testing.assert_array_equal(ws, 1)  # what was given stays
    with pytest.raises(RequestError, match="`direction` must be one of sky, pc2; got sea instead"):
        two_directions().edit(ws, {"sea": 1})


def test_a_direction_gets_another_name():
    assert list(two_directions().renamed("pc2", "warmth").entries) == ["sky", "warmth"]
    for bad in ("sky", "a b", ""):
        with pytest.raises(RequestError, match="`direction` must"):
            two_directions().renamed("pc2", bad)


def test_amounts_are_parsed():
    assert parse_amounts(["sky=1.5", "pc2=-1", "sky=1"]) == {"sky": 2.5, "pc2": -1.0}
    for bad in ("sky", "=1", "sky=", "sky=nan", "sky=101", "sky=inf"):
        with pytest.raises(RequestError, match="`direction` must be NAME=AMOUNT"):
            parse_amounts([bad])
