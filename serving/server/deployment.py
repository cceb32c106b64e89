"""What production needs: a container of NVIDIA's current image, by Docker, or by Kubernetes and Helm.

Salon only prints it: nothing here has been run. The server that Salon installs itself is for one's own machine.
"""

import re
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gan.errors import RequestError
from serving.server.install import REQUIREMENTS

Kind = Literal["docker", "helm"]

IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"  # Triton 2.73
TEMPLATES = {"docker": "docker.sh.j2", "helm": "kubernetes.yaml.j2"}
OPTIONS = (  # of tritonserver
    "--model-repository=/models",
    "--model-control-mode=none",
    "--strict-readiness=true",
    "--disable-auto-complete-config",
    "--exit-timeout-secs=20",
)
CLOSED = "shared-memory,logging,trace"  # to whoever does not know a secret, which nobody does
LIMITS = {"cpus": 4, "memory_gib": 8, "shared_memory_gib": 1, "replicas": 2}
_BACKEND = re.compile(r'^\s*(?:backend|platform)\s*:\s*"([^"]+)"', re.MULTILINE)
_FOR_PYTHON = ("onnxruntime", "pillow")  # what Salon's models for the Python backend import; numpy comes with it


def render(kind: Kind, repository: Path, host: str, ports: Sequence[int]) -> str:
    """The text that serves `repository`: a shell script for Docker, or the objects of Kubernetes as YAML.

    `host` and `ports` (HTTP, gRPC, metrics) are where Docker publishes them. Raises RequestError when the repository
    has no models.
    """
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shell"] = lambda value: shlex.quote(str(value))
    return environment.get_template(TEMPLATES[kind]).render(
        repository=repository.absolute(),
        host=host,
        ports=ports,
        image=IMAGE,
        own_image=f"salon-triton:{IMAGE.rpartition(':')[2]}",
        packages=_packages(repository),
        options=[*OPTIONS, *closed_options()],
        **LIMITS,
    )


def closed_options() -> list[str]:
    """Options of tritonserver that close what clients have no use for, behind a secret that is told to nobody."""
    secret = f"{CLOSED}:salon-closed={secrets.token_hex(16)}"
    return [f"--http-restricted-api={secret}", f"--grpc-restricted-protocol={secret}"]


def _packages(repository: Path) -> list[str]:
    # What NVIDIA's image lacks for these models: nothing, unless one is for the Python backend.
    configs = [path.read_text(encoding="utf-8") for path in sorted(repository.glob("*/config.pbtxt"))]
    if not configs:
        raise RequestError(f"{repository} must be a model repository; it has no config.pbtxt. salon export writes one")
    if not any("python" in _BACKEND.findall(text) for text in configs):
        return []
    pins = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [pin for pin in pins if pin.partition("==")[0] in _FOR_PYTHON]
