"""torchvision imports in a fresh process, whichever of its builds is installed."""

import subprocess
import sys
from pathlib import Path

from eval.features import torchvision_compat


def test_torchvision_imports_in_a_fresh_process():
    code = "from eval.features.torchvision_compat import torch_fidelity, torchvision\n"
    code += "print(torchvision().__name__, end=' ')\n"
    code += "import torchvision.models, torchvision.transforms.functional\nprint(torch_fidelity().__name__)"
    root = Path(torchvision_compat.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert ended.stdout == "torchvision torch_fidelity\n", ended.stderr


def test_it_is_the_package_itself():
    package = torchvision_compat.torchvision()
    assert package is sys.modules["torchvision"] and package is torchvision_compat.torchvision()
