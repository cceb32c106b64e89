"""What is printed for production."""

import shlex
import subprocess
from itertools import pairwise

import kubernetes_validate
import pytest
import yaml
from conftest import run_salon

from gan.errors import RequestError
from serving.server import deployment as production


@pytest.fixture
def repository(tmp_path):
    """One model for NVIDIA's image alone, in a folder whose name a shell must not read."""
    folder = tmp_path / "my models' $HOME"
    (folder / "generator" / "1").mkdir(parents=True)
    (folder / "generator" / "config.pbtxt").write_text('backend: "onnxruntime"\n')
    return folder


def add_python_model(repository):
    (repository / "seed_to_png").mkdir()
    (repository / "seed_to_png" / "config.pbtxt").write_text('name: "seed_to_png"\n  backend: "python"\n')


def objects(text: str) -> dict:
    return {value["kind"]: value for value in yaml.safe_load_all(text)}


def test_kubernetes_gets_probes_limits_and_replicas(repository):
    found = objects(production.render("helm", repository, "127.0.0.1", (8000, 8001, 8002)))
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget"}
    spec = found["Deployment"]["spec"]
    assert spec["replicas"] == 2
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == production.IMAGE
    assert container["args"][:2] == ["tritonserver", "--model-repository=/models"]
    closed = [arg for arg in container["args"] if "restricted" in arg]
    assert [arg.partition("=")[0] for arg in closed] == ["--http-restricted-api", "--grpc-restricted-protocol"]
    assert all("=shared-memory,logging,trace:salon-closed=" in arg for arg in closed)
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1}
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"models": "/models", "shared-memory": "/dev/shm", "temporary": "/tmp"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in found["Service"]["spec"]["ports"]} == ports
    labels = spec["template"]["metadata"]["labels"]
    for selector in (
        spec["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] == 1
    seconds = next(int(arg.split("=")[1]) for arg in container["args"] if arg.startswith("--exit-timeout-secs"))
    assert pod["terminationGracePeriodSeconds"] > seconds


@pytest.mark.parametrize("version", ["1.25", "1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("python_models", [False, True])
def test_kubernetes_knows_every_field(repository, version, python_models):
    if python_models:
        add_python_model(repository)
    text = run_salon("serve", repository, "--print-command", "helm", "--json").json["text"]
    for value in objects(text).values():
        kubernetes_validate.validate(value, version, strict=True)
    deployment = objects(text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))["Deployment"]
    with pytest.raises(kubernetes_validate.ValidationError, match="readonlyRootFilesystem"):
        kubernetes_validate.validate(deployment, version, strict=True)


def run_of(text: str) -> list[str]:
    """The words of docker run, as a shell would read them; the shell must accept the whole."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    return shlex.split(text[text.index("docker run") :].replace("\\\n", " "))


def test_docker_publishes_where_it_was_told(repository):
    words = run_of(production.render("docker", repository, "127.0.0.2", (9000, 9001, 9002)))
    options = dict(pairwise(words))
    assert options["--volume"] == f"{repository}:/models:ro"
    published = [words[i + 1] for i, word in enumerate(words) if word == "--publish"]
    assert published == ["127.0.0.2:9000:8000", "127.0.0.2:9001:8001", "127.0.0.2:9002:8002"]
    assert words[words.index("tritonserver") - 1] == production.IMAGE
    assert "/v2/health/ready" in options["--health-cmd"] and options["--memory"] == "8g"


def test_python_models_get_an_image_that_has_their_packages(repository):
    for kind in ("docker", "helm"):
        assert "pip install" not in production.render(kind, repository, "127.0.0.1", (8000, 8001, 8002))
    add_python_model(repository)
    docker, helm = (production.render(kind, repository, "127.0.0.1", (0, 0, 0)) for kind in ("docker", "helm"))
    for text in (docker, helm):
        assert f"FROM {production.IMAGE}" in text and "onnxruntime==" in text and "pillow==" in text
    words = run_of(docker)
    own = words[words.index("tritonserver") - 1]
    assert f"docker build --tag {own} " in docker and own != production.IMAGE
    assert objects(helm)["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == own


def test_the_command_prints_it_and_says_that_it_was_not_run(repository, tmp_path):
    outcome = run_salon("serve", repository, "--print-command", "docker", "--http-port", 9000)
    assert outcome.code == 0 and "--publish 127.0.0.1:9000:8000" in outcome.out
    assert "has not been run here" in outcome.out
    figures = run_salon("serve", repository, "--print-command", "helm", "--json").json
    assert figures["run_here"] is False and objects(figures["text"])
    with pytest.raises(RequestError, match=r"has no config\.pbtxt"):
        production.render("helm", tmp_path / "none", "127.0.0.1", (0, 0, 0))
