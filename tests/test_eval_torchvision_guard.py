"""torchvision imports in a fresh process, whichever of its builds is installed."""

import subprocess
import sys
from pathlib import Path

from eval import torchvision_guard


def test_torchvision_imports_in_a_fresh_process():
    code = "from eval.torchvision_guard import torch_fidelity, torchvision\nprint(torchvision().__name__, end=' ')\n"
    code += "import torchvision.models, torchvision.transforms.functional\nprint(torch_fidelity().__name__)"
    root = Path(torchvision_guard.__file__).parent.parent
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert ended.stdout == "torchvision torch_fidelity\n", ended.stderr


def test_it_is_the_package_itself():
    package = torchvision_guard.torchvision()
    assert package is sys.modules["torchvision"] and package is torchvision_guard.torchvision()
