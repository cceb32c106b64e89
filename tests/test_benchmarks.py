"""benchmarks/gpu.py, which is prepared for a machine with a GPU: that it runs, and that it sees what is wrong."""

import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts can be imported, as they import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_sections_run_in_tiny_sizes_and_one_that_fails_does_not_stop_the_others(scripts, tmp_path, capfd):
    import gpu

    file = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--quick", "--json", str(file), "--only", "features,launches"]
    with pytest.raises(SystemExit, match=r"^not as it should be: features$"):
        gpu.main([*options, "--weights", "efficientnet-lite0=none"], standalone_mode=False)
    figures, (out, err) = json.loads(file.read_text()), capfd.readouterr()
    sections = figures["sections"]
    assert list(sections) == ["features", "launches"] and figures["setup"]["quick"]
    assert "failed" in sections["features"] and "must be an existing file; got none" in err
    (row,) = sections["launches"]["rows"]
    assert row["operations"] > 100 and f"{row['operations']:.1f}" in out


def test_other_sections(scripts, capsys):
    import gpu
    from gpu_setup import Setup

    setup = Setup(device="cpu", quick=True)
    figures = {name: gpu.SECTIONS[name](setup) for name in ("operators", "sampling", "rejection", "neighbours")}
    assert all(found["right"] for found in figures.values())
    assert len(figures["operators"]["rows"]) > 80
    (row,) = figures["sampling"]["rows"]
    assert row["generate"] > 0 and row["graphs"] is None
    assert "CUDA graphs: no, they need a CUDA GPU" in capsys.readouterr().out
    assert figures["rejection"]["batch"] == 1 and figures["rejection"]["apart"] == 0
    assert figures["rejection"]["selection"] > 0 and figures["rejection"]["selection, graphs"] is None
    (row,) = figures["neighbours"]["rows"]
    assert row["same"] > 0.999 and row["repeats"] and row["features"] == 300


def test_neighbours_that_differ_are_seen(scripts, monkeypatch):
    import gpu_inference
    from gpu_setup import Setup

    search = gpu_inference._search
    monkeypatch.setattr(
        gpu_inference, "_search", lambda queries, references, device: search(queries[::-1], references, device)
    )
    assert not gpu_inference.neighbours(Setup(device="cpu", quick=True))["right"]


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
def test_a_wrong_value_or_derivative_is_seen(scripts, layout):
    import gpu_right

    def errors(function):
        return gpu_right._errors(function, [(2, 3, 4, 5)], torch.float32, layout, torch.device("cpu"))

    assert max(errors(lambda x: x.sin())) < 1e-6
    wide = torch.float64
    value, first, _ = errors(lambda x: x.sin() if x.dtype == wide else x.sin() + 0.01)
    assert value > 1e-3 > 1e-6 > first
    value, first, second = errors(lambda x: x.square() if x.dtype == wide else x * x.detach() * 1.0)
    assert value < 1e-6 and first > 0.1 and second > 0.1


def test_a_variant_is_environment_and_arguments(scripts):
    from gpu_setup import Variant

    variant = Variant.parse("plain:SALON_NATIVE=0,batch_gpu=8,cuda_graphs=false")
    assert variant == Variant("plain", {"SALON_NATIVE": "0"}, (("batch_gpu", 8), ("cuda_graphs", False)))


def test_operations_are_counted_without_views(scripts):
    from gpu_speed import OperationCount

    x = torch.ones(4, 2, requires_grad=True)
    with OperationCount() as counter:
        (x.t().reshape(8)[2:] * 3).sum().backward()
    assert 4 <= counter.total <= 12
    with OperationCount() as counter:
        x.detach().t()[:1]
    assert counter.total == 0
