"""A real server: started, ready, stopped, and gone whatever happens to the process that asked for it."""

import json
import urllib.request

import pytest

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        assert np.__version__.startswith("1.")

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy() * 2)])
            for r in requests
        ]
"""
CONFIG = """
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
instance_group { kind: KIND_CPU }
"""


def write_model(repository, name="double", code=MODEL, version="1"):
    (repository / name / version).mkdir(parents=True)
    (repository / name / version / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"{CONFIG}')
    return repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("repository"))


def infer(url, model="double"):
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2]}
    body = json.dumps({"inputs": [x]}).encode()
    with urllib.request.urlopen(f"{url}/v2/models/{model}/infer", body) as answer:
        return json.load(answer)["outputs"][0]["data"]


def test_a_server_computes(triton, repository):
    assert infer(triton(repository).http_url) == [3, -4]
