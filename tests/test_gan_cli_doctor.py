"""The doctor finds what is missing. Packages are real distributions on the path, programs real ones on PATH."""

import importlib.metadata
import os
import pty
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import run_salon

from gan.cli import examine
from gan.cli.examine import EXTRAS, FAILED, NOTE, OK

ROOT = Path(__file__).parent.parent


def by_name():
    return {finding.name: finding for finding in examine.examine()}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put the metadata of a distribution in front of all others."""

    def install(name, version, requires=()):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {r}" for r in requires),
        ]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return install


def test_this_machine_is_ready():
    findings = examine.examine()
    assert len({finding.name for finding in findings}) == len(findings)
    assert [finding for finding in findings if finding.status == FAILED] == []
    for finding in findings:
        assert finding.found
        assert finding.status == OK or finding.remedy, f"{finding.name} has no remedy"
    versions = {finding.name: finding.found for finding in findings}
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert torch.__version__ in versions["torch"]


def test_every_requirement_is_looked_at():
    required = {r.partition(">")[0] for r in importlib.metadata.requires("salon") if "extra" not in r}
    assert {"torch", "numpy", "click"} <= required <= set(by_name())


def test_a_missing_requirement(install):
    install("salon", "0.0", ["numpy>=1", "no-such-package>=2"])
    finding = by_name()["no-such-package"]
    assert (finding.status, finding.found) == (FAILED, "missing") and "make install" in finding.remedy


def test_a_requirement_that_is_too_old(install):
    install("salon", "0.0", ["numpy>=999", "pillow>=1.0.5"])
    findings = by_name()
    assert findings["numpy"].status == FAILED and "999 or newer is needed" in findings["numpy"].found
    assert findings["pillow"].status == OK


@pytest.mark.parametrize(
    "minimum, older, newer",
    [("1.10", "1.9", "1.10.1"), ("2.13", "2.6.0+cpu", "2.13.0+cpu"), ("1.0.1", "1", "2.0rc1"), ("27", "26.0", "100")],
)
def test_versions_are_compared_by_number(install, minimum, older, newer):
    install("salon", "0.0", [f"below>={minimum}", f"above>={minimum}", "absent>=1; extra == 'docs'"])
    install("below", older)
    install("above", newer)
    findings = by_name()
    assert (findings["below"].status, findings["above"].status) == (FAILED, OK) and "absent" not in findings


def test_both_onnx_runtimes_are_one_too_many(install):
    install("onnxruntime", "1.20.0")
    install("onnxruntime-gpu", "1.20.0")
    finding = by_name()["ONNX Runtime"]
    assert finding.status == FAILED and "uninstall" in finding.remedy


def test_the_providers_of_onnx_runtime_are_named():
    onnxruntime = pytest.importorskip("onnxruntime")
    here = onnxruntime.get_available_providers()
    without, beside = examine._onnx_runtime(gpu=False), examine._onnx_runtime(gpu=True)
    assert without.status == OK and without.found == beside.found
    assert without.found.endswith("providers: " + ", ".join(here).replace("ExecutionProvider", ""))
    if not any(name.startswith(("CUDA", "Tensorrt")) for name in here):
        assert beside.status == NOTE and "onnx-gpu" in beside.remedy


@pytest.mark.parametrize("provider", sorted(examine.GPU_PROVIDERS))
def test_onnx_runtime_with_a_provider_for_gpus_is_ready(provider, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    names = [f"{provider}ExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    finding = examine._onnx_runtime(gpu=True)
    assert finding.status == OK and finding.found.endswith(f"providers: {provider}, CPU")


def test_an_onnx_runtime_that_cannot_be_imported(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = examine._onnx_runtime(gpu=False)
    assert finding.status == FAILED and "cannot be imported" in finding.found


def test_programs_are_found_on_the_path(tmp_path, monkeypatch):
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho\necho '  tritonserver 2.99 '\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = by_name()
    assert (findings["Triton server"].status, findings["Triton server"].found) == (OK, "tritonserver 2.99")
    assert (findings["C++ compiler"].status, findings["C++ compiler"].found) == (NOTE, "missing")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 999.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = by_name()["GPU"]
    assert finding.status == FAILED and finding.found == "NVIDIA H100, 999.1, unused" and "CUDA build" in finding.remedy


def test_weights_in_the_cache_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    assert by_name()["weights"].status == NOTE
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "inception.pt").write_bytes(b"weights")
    finding = by_name()["weights"]
    assert finding.status == OK and finding.found.startswith("1 file") and str(tmp_path) in finding.found


def test_worker_processes_that_cannot_be_had(monkeypatch):
    assert by_name()["worker processes"].status == OK
    monkeypatch.setattr(examine, "lack_of_processes", lambda: "no semaphores in /dev/shm: Read-only file system")
    finding = by_name()["worker processes"]
    assert finding.status == NOTE and "Read-only" in finding.found and "--shm-size" in finding.remedy


def test_the_extras_are_those_of_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_users = set(project["optional-dependencies"])
    others = {"dev", "docs"} | {"onnx-cpu", "onnx-gpu"}  # which have a line of their own
    composed = {"export", "gallery"}
    assert set(EXTRAS) == of_users - others - composed


def test_an_extra_is_missing_with_what_it_takes(install):
    install("salon", "0.0", ["absent[fast]>=2; extra == 'map'", "numpy>=1; extra == 'map'", "numpy>=1; extra == 's3'"])
    findings = by_name()
    assert findings["extra s3"].status == OK
    finding = findings["extra map"]
    assert (finding.status, finding.found) == (NOTE, "missing: absent[fast]>=2")
    assert finding.remedy == "Only maps of datasets: pip install 'salon[map]'"
    (command,) = finding.commands
    assert command[:4] == (sys.executable, "-m", "pip", "install") and command[-1] == "absent[fast]>=2"


@pytest.fixture
def lacking(tmp_path, install):
    """The environment of a process whose Salon lacks one package, which pip can have from a folder of wheels."""
    install("salon", "0.0", ["salon-probe>=1.5", "numpy>=1"])
    name = tmp_path / "wheels" / "salon_probe-1.6-py3-none-any.whl"
    name.parent.mkdir()
    with zipfile.ZipFile(name, "w") as wheel:
        of_wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("salon_probe.py", "")
        wheel.writestr("salon_probe-1.6.dist-info/METADATA", "Metadata-Version: 2.1\nName: salon-probe\nVersion: 1.6\n")
        wheel.writestr("salon_probe-1.6.dist-info/WHEEL", of_wheel)
        wheel.writestr("salon_probe-1.6.dist-info/RECORD", "")
    places = [tmp_path / "site", tmp_path / "target", ROOT]
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(name.parent), "PIP_TARGET": str(tmp_path / "target")}
    return os.environ | pip | {"PYTHONPATH": os.pathsep.join(map(str, places)), "PIP_CONFIG_FILE": os.devnull}


def fix(environment, *options, answer=None):
    reader, writer = pty.openpty()
    if answer:
        os.write(writer, answer.encode())
    ended = subprocess.run(
        [sys.executable, "-m", "gan", "doctor", "--fix", *options],
        cwd=os.sep,  # not where Salon's own metadata may lie, which would come first
        env=environment,
        stdin=reader if answer else subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    os.close(reader)
    os.close(writer)
    return ended


def test_a_remedy_is_run_after_consent_and_then_all_is_looked_at_again(lacking, tmp_path):
    ended = fix(lacking, answer="y\n" * 9)
    assert "salon-probe: missing." in ended.stderr and "Run this?" in ended.stderr
    assert (tmp_path / "target" / "salon_probe.py").is_file(), ended.stderr
    before, after = [line.split() for line in ended.stdout.splitlines() if "salon-probe  " in line]
    assert (before[0], after[0], after[-1]) == ("FAILED", "ok", "1.6") and ended.returncode == 0


@pytest.mark.parametrize("answer", ["n\n" * 9, None])
def test_nothing_is_run_without_consent(lacking, tmp_path, answer):
    ended = fix(lacking, answer=answer)
    assert ended.returncode == 3 and not (tmp_path / "target").exists()
    assert ended.stdout.count("salon-probe  ") == 1 and "Error: not ready: salon-probe" in ended.stderr
    assert ("Not run: nobody is there to consent" in ended.stderr) is (answer is None)


def test_a_remedy_that_fails_is_told(lacking):
    ended = fix(lacking | {"PIP_FIND_LINKS": os.devnull}, "--yes", "--json")
    assert ended.returncode == 3 and "salon-probe>=1.5' ended with 1; salon-probe stays as it is" in ended.stderr
    assert '"status": "FAILED", "name": "salon-probe"' in ended.stdout


def test_options_that_do_not_go_together():
    assert "--yes consents to the remedies of --fix" in run_salon("doctor", "--yes").err
    assert "--json asks nothing" in run_salon("doctor", "--fix", "--json").err
