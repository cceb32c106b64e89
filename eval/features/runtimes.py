"""Trunks in ONNX Runtime or OpenVINO. The exported graph is cached under a key of all that it depends on."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eval.features.fast_trunk import Run, check, fold_batch_norm
from gan.errors import RequestError, SalonError
from gan.runtime.files import atomic, cache_folder

BACKENDS = {"onnxruntime": "onnx-cpu", "openvino": "openvino"}  # name -> the extra that installs it
OPSET = 17


def load(module: nn.Module, size: int, backend: str, precision: str = "fp32") -> Run:
    """A trunk in another runtime on the CPU: float32 NCHW of any batch size -> features [N, dim], float32.

    Raises RequestError when the runtime is not installed or lacks the precision, SalonError when it computes something
    else than the trunk in torch.
    """
    open_graph = {"onnxruntime": _onnxruntime, "openvino": _openvino}[backend]
    if backend == "onnxruntime" and precision != "fp32":
        raise RequestError(f"`backend` onnxruntime computes in fp32 alone; got `precision` {precision} instead")
    folded = fold_batch_norm(module)
    path = cache_folder() / "trunks" / f"{_key(folded, size)}.onnx"
    if not path.exists():
        _export(folded, size, path)
    try:
        run = open_graph(path, precision)
        if precision == "fp32":
            check(run, module, size)
    except (ImportError, OSError) as error:
        raise RequestError(f"`backend` {backend} needs pip install 'salon[{BACKENDS[backend]}]': {error}") from error
    except Exception as error:  # of whatever class a runtime raises: a damaged file, or one that it reads otherwise
        path.unlink(missing_ok=True)
        raise SalonError(f"`backend` {backend} is refused, and its cached graph removed: {error}") from error
    return run


def _key(folded: nn.Module, size: int) -> str:
    digest = hashlib.sha256(f"{OPSET} {size} {torch.__version__} {folded}".encode())
    for name, tensor in folded.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _export(folded: nn.Module, size: int, path: Path) -> None:
    example = torch.zeros([2, 3, size, size])  # another batch size than the check's
    batch = {"img": {0: "batch"}, "features": {0: "batch"}}
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tracing freezes, which the check would find, and of its own future
        torch.onnx.export(
            folded,
            (example,),
            str(temporary),
            dynamo=False,
            opset_version=OPSET,
            input_names=["img"],
            output_names=["features"],
            dynamic_axes=batch,
        )


def _onnxruntime(path: Path, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"img": x.contiguous().numpy()})[0])


def _openvino(path: Path, precision: str) -> Run:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],  # it would choose bf16 by itself
    }
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda x: torch.from_numpy(model({"img": x.contiguous().numpy()})["features"].copy())
