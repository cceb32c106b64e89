import base64
import dataclasses
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import full_disk, run_salon
from PIL import Image
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from gan import snapshot
from gan.data import images
from gan.errors import SalonError
from gan.networks.discriminator import Discriminator
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from gan.sampling import generate, latents
from gan.sampling.latents import MAX_SEED
from serving.contract import IMAGE_FORMATS, KINDS, ModelMetadata
from serving.export import export, onnx_file, parity

SEEDS = [0, 7, 2**32 - 1]
README = Path(__file__).parents[1] / "README.md"
GUIDE = README.parent / "docs" / "guide" / "serve.md"


@pytest.fixture(scope="module")
def painted(tiny_run):
    """What PyTorch paints: [3, 16, 16, 3]."""
    return np.stack(list(generate.generate(snapshot.find(tiny_run).G_ema, SEEDS, truncation_psi=0.7)))


@pytest.fixture(scope="module")
def client(server):
    with grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        yield client


def ask(client, model: str, *names: str, **arrays):
    """Ask a model for the outputs `names`."""
    inputs = []
    for name, array in arrays.items():
        kinds = {"f": "FP32", "i": "INT64", "u": "UINT8", "O": "BYTES"}
        tensor = grpc.InferInput(name, list(array.shape), kinds[array.dtype.kind])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    answer = client.infer(model, inputs, outputs=[grpc.InferRequestedOutput(name) for name in names])
    return [answer.as_numpy(name) for name in names]


def drawn(psi: float = 0.7, seeds=SEEDS):
    return {"z": latents.draw(seeds, 8), "truncation_psi": np.full([len(seeds), 1], psi, np.float32)}


def near(found, expected) -> bool:
    """Within one level, and equal in 99.9 % of the pixels."""
    apart = np.abs(found.astype(int) - expected)
    return bool(apart.max() <= 1 and (apart == 0).mean() >= 0.999)


def test_the_repository_has_every_kind_in_one_version(model_repository):
    one = {p.name for p in (model_repository).iterdir() if (p / "1").is_dir()}
    assert one == set(KINDS)
    two = {p.name for p in model_repository.iterdir() if (p / "2").is_dir()}
    assert two == {"times", "times_mapping", "times_synthesis", "times_seed_to_png", "times_generate_and_classify"}
    assert not (model_repository / "style_classifier" / "2").exists()


def test_a_seed_is_the_same_picture_in_pytorch_onnxruntime_openvino_and_triton(model_repository, painted, client):
    import openvino

    file = model_repository / "generator" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert near(session.run(["image"], drawn())[0], painted)
    assert near(compiled(drawn())["image"], painted)
    assert near(ask(client, "generator", "image", **drawn())[0], painted)
    seeds = np.array(SEEDS, np.int64)[:, None]
    psi = np.full([3, 1], 0.7, np.float32)
    (files,) = ask(client, "seed_to_png", "file", seed=seeds, truncation_psi=psi)
    assert near(np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files[:, 0]]), painted)


@pytest.mark.parametrize("kind", ["mapping", "synthesis", "discriminator", "style_classifier"])
def test_openvino_loads_each_graph(model_repository, kind):
    import openvino

    file = model_repository / kind / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(0)
    feed = {}
    for value in session.get_inputs():
        shape = [3, *(side if isinstance(side, int) else 20 for side in value.shape[1:])]
        is_image = value.type == "tensor(uint8)"
        feed[value.name] = rng.integers(0, 256, shape, np.uint8) if is_image else rng.normal(size=shape).astype("f4")
    for expected, found in zip(session.run(None, feed), compiled(feed).to_tuple(), strict=True):
        assert np.abs(found.astype(float) - expected).max() <= (1 if expected.dtype == np.uint8 else 1e-3)


def test_every_graph_is_whole_and_free_in_its_batch(model_repository):
    for file in model_repository.glob("*/*/model.onnx"):
        about = onnx_file.read_about(file)
        onnx_file.check(file, about)
        assert not file.with_name("model.onnx.data").exists()
        model = onnx.load(file)
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert "img" not in [output.name for output in model.graph.output]


def test_mixing_through_the_server_paints_as_pytorch_does(client, tiny_run):
    G = snapshot.find(tiny_run).G_ema
    (ws,) = ask(client, "mapping", "ws", **drawn())
    expected = generate.map_seeds(G, SEEDS, truncation_psi=0.7).numpy()
    assert np.abs(ws - expected).max() < 1e-4
    mixed = latents.mix(ws[:1], ws[1:], [0, 1])
    (image,) = ask(client, "synthesis", "image", ws=mixed)
    assert near(image, np.stack(list(generate.synthesize(G, torch.from_numpy(mixed)))))


def test_the_ensembles_judge_what_they_paint(client, tiny_run):
    image, logit = ask(client, "generate_and_score", "image", "logit", **drawn())
    source = snapshot.find(tiny_run)
    needed = count_references(source.D)
    critic = DiscriminatorLogits(
        source.D, list(generate.generate(source.G_ema, range(MAX_SEED, MAX_SEED - needed, -1)))
    )
    assert logit[:, 0] == pytest.approx(critic(image), abs=1e-3)
    image, probabilities = ask(client, "generate_and_classify", "image", "probabilities", **drawn())
    means = image.mean(axis=(1, 2)) / 8
    expected = np.exp(means) / np.exp(means).sum(axis=1, keepdims=True)
    assert probabilities == pytest.approx(expected, abs=1e-3)


def test_a_class_is_painted(client, conditional_snapshot):
    G = snapshot.find(conditional_snapshot).G_ema
    label = np.array([[1], [0], [1]], np.int64)
    expected = np.stack(list(generate.generate(G, SEEDS, [1, 0, 1])))
    assert near(ask(client, "times", "image", **drawn(1.0), label=label)[0], expected)
    (files,) = ask(client, "times_seed_to_png", "file", seed=np.array(SEEDS, np.int64)[:, None], label=label)
    assert near(np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files[:, 0]]), expected)


@pytest.mark.parametrize("format", IMAGE_FORMATS)
def test_a_seed_becomes_the_file_that_salon_writes(client, format):
    (image,) = ask(client, "generator", "image", **drawn(1.0, [5]))
    seed = np.array([[5], [5]], np.int64)
    formats = np.array([[format.encode()], [f"{format};base64".encode()]], np.object_)
    (files,) = ask(client, "seed_to_png", "file", seed=seed, format=formats)
    file = Image.open(io.BytesIO(files[0, 0]))
    assert file.format == format.upper()
    expected = Image.open(io.BytesIO(images.encode(Image.fromarray(image[0]), format)))
    assert (np.asarray(file) == np.asarray(expected)).all()
    assert base64.b64decode(files[1, 0]) == files[0, 0]


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("generator", {"z": np.full([1, 8], np.nan, np.float32)}, "z must be numbers from -100 to 100; got nan"),
        ("generator", {"z": np.full([1, 8], np.inf, np.float32)}, "z must be numbers from -100 to 100; got inf"),
        ("generator", {"truncation_psi": np.array([[2.5]], "f4")}, "truncation_psi must be .* -2 to 2; got 2.5"),
        ("mapping", {"truncation_psi": np.array([[np.nan]], "f4")}, "truncation_psi must be .*; got nan"),
        ("generate_and_score", {"truncation_psi": np.array([[-3]], "f4")}, "truncation_psi must be .*; got -3"),
        ("times", {"label": np.array([[2]], np.int64)}, "label must be numbers from 0 to 1; got 2"),
        ("times", {"label": np.array([[-1]], np.int64)}, "label must be numbers from 0 to 1; got -1"),
        ("seed_to_png", {"seed": np.array([[-1]], np.int64)}, "seed must be numbers from 0 to 4294967295; got -1"),
        ("seed_to_png", {"seed": np.array([[2**32]], np.int64)}, "seed must be .*; got 4294967296"),
        ("seed_to_png", {"truncation_psi": np.array([[np.inf]], "f4")}, "truncation_psi must be .*; got inf"),
        ("times", {"label": None}, "label"),
        ("times_mapping", {"label": None}, "label"),
        ("times_generate_and_classify", {"label": None}, "label"),
        ("times_seed_to_png", {"label": None}, "label"),
        # As many inputs as must be there, which is all that Triton looks at.
        ("times_seed_to_png", {"label": None, "truncation_psi": np.array([[1]], "f4")}, "label must be given"),
        ("times_seed_to_png", {"label": None, "format": np.array([[b"png"]], np.object_)}, "label must be given"),
        ("times_seed_to_png", {"seed": None, "truncation_psi": np.array([[1]], "f4")}, "seed must be given"),
        (
            "seed_to_png",
            {"format": np.array([[b"gif"]], np.object_)},
            "format must be one of png, jpeg, webp.*; got gif",
        ),
    ],
)
def test_the_server_says_what_is_wrong_with_a_request(client, model, change, message):
    good = {"seed": np.array([[0]], np.int64)} if model.endswith("seed_to_png") else drawn(seeds=[0])
    label = {"label": np.array([[0]], np.int64)} if model.startswith("times") else {}
    # Of an ensemble, all outputs: when fewer are asked for, Triton 2.51 calls every fault a deadlock.
    outputs = {
        "seed_to_png": ["file"],
        "mapping": ["ws"],
        "generate_and_score": ["image", "logit"],
        "generate_and_classify": ["image", "probabilities"],
    }.get(model.removeprefix("times_"), ["image"])
    changed = {name: array for name, array in {**good, **label, **change}.items() if array is not None}
    with pytest.raises(InferenceServerException, match=message) as refused:
        ask(client, model, *outputs, **changed)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert len(ask(client, model, *outputs, **good, **label)[0]) == 1


def test_the_guides_lines_for_http_clients_give_a_picture(server, client, tmp_path):
    lines = re.findall(r"^```bash\n(curl .*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for line, psi in zip(lines, (0.7, 1.0), strict=True):
        line = line.replace("http://", "").replace("localhost:8000", server.http_url.removeprefix("http://"))
        file = tmp_path / f"{psi}.png"
        command = line.replace("seed7.png", shlex.quote(str(file)))
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)
        (image,) = ask(client, "generator", "image", **drawn(psi, [7]))
        assert (np.asarray(Image.open(file)) == image[0]).all()


def test_what_is_no_number_paints_without_a_python_backend_too(model_repository):
    session = onnxruntime.InferenceSession(model_repository / "generator" / "1" / "model.onnx")
    feed = drawn(seeds=[0])
    (grey,) = session.run(["image"], {**feed, "z": np.full([1, 8], np.nan, np.float32)})
    assert (grey == 128).all()
    widest, wide = (session.run(["image"], {**feed, "truncation_psi": np.array([[v]], "f4")})[0] for v in (1e9, 2))
    assert (widest == wide).all()


def test_a_graph_that_differs_from_pytorch_is_not_published(tmp_path, tiny_run, monkeypatch):
    class Wrong(export.MappingGraph):
        def forward(self, z, truncation_psi, label=None):
            return super().forward(z, truncation_psi, label) + 0.01

    out = tmp_path / "models"
    monkeypatch.setattr(export, "MappingGraph", Wrong)
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", out)
    assert outcome.code == 1 and re.search(r"must be within .* of PyTorch's", outcome.err)
    assert not out.exists()


def test_a_fixed_batch_is_refused(tmp_path, model_repository):
    file = tmp_path / "model.onnx"
    model = onnx.load(model_repository / "generator" / "1" / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, file)
    with pytest.raises(SalonError, match="with a free batch"):
        onnx_file.check(file, onnx_file.read_about(file))


def test_images_must_agree_in_nearly_all_pixels():
    bounds = parity.BOUNDS["fp32"]
    for side, most in ((64, 12), (16, parity.FEW)):  # 0.1 % of 12,288 values; of a small image some may always differ
        tensors = {"z": np.zeros([1, 8], "f4"), "image": np.zeros([1, side, side, 3], np.uint8)}
        reference = parity.Reference(tensors)
        image = tensors["image"].copy()
        about = ModelMetadata(kind="generator")
        image.flat[:most] = 1
        assert reference.compare(lambda feed, i=image: {"image": i}, about, ("z",), ("image",), bounds) == 0
        image.flat[: most + 1] = 1
        with pytest.raises(SalonError, match=r"9\d\.\d\d% equal"):
            reference.compare(lambda feed, i=image: {"image": i}, about, ("z",), ("image",), bounds)


def test_graphs_are_compared_in_batches_of_one_three_and_all():
    seen = []
    tensors = {"z": np.arange(10, dtype="f4")[:, None], "img": np.arange(10, dtype="f4")[:, None] * 2}
    reference, about = parity.Reference(tensors), ModelMetadata(kind="generator")

    def run(feed):
        assert set(feed) == {"z"}
        seen.append(feed["z"][:, 0].tolist())
        return {"img": feed["z"] * 2 + 0.0001 * len(feed["z"])}

    bounds = parity.Bounds(img=0.01, levels=1, equal=0.9)
    largest = reference.compare(run, about, ("z",), ("img",), bounds)
    assert largest == pytest.approx(0.001, rel=0.01)  # of the batch of 10
    assert seen == [[9], [7, 8, 9], list(range(10))] and len(reference) == 10
    two = parity.Reference({name: array[:2] for name, array in tensors.items()})
    two.compare(run, about, ("z",), ("img",), bounds)
    assert [len(batch) for batch in seen[3:]] == [1, 2]


@pytest.mark.parametrize(
    ("img", "message"),
    [
        (np.full([2, 3], 0.02, "f4"), r"within 0.01 of PyTorch's; it is 0.02 away"),
        (np.full([2, 3], np.nan, "f4"), "it is nan away"),
        (np.full([2, 3], -0.02, "f4"), "it is 0.02 away"),
        (np.zeros([2, 3]), "must be float32"),
        (np.zeros([2, 4], "f4"), r"got float32 \(1, 4\) instead"),
    ],
)
def test_what_is_out_of_bounds_is_refused(img, message):
    reference = parity.Reference({"z": np.zeros([2, 1], "f4"), "img": np.zeros([2, 3], "f4")})
    bounds = parity.Bounds(img=0.01, levels=1, equal=0.9)
    with pytest.raises(SalonError, match=message):
        reference.compare(
            lambda feed: {"img": img[-len(feed["z"]) :]}, ModelMetadata(kind="generator"), ("z",), ("img",), bounds
        )


def test_levels_of_pixels_have_a_bound_of_their_own():
    grey = np.full([1, 4, 4, 3], 100, np.uint8)
    reference, about = parity.Reference({"z": np.zeros([1, 1], "f4"), "image": grey}), ModelMetadata(kind="generator")
    for level, bound, passes in ((102, 2, True), (103, 2, False), (98, 2, True), (97, 2, False)):
        image = grey.copy()
        image[0, 0, 0, 0] = level
        bounds = parity.Bounds(img=0.0, levels=bound, equal=0.9)
        if passes:
            assert reference.compare(lambda feed, image=image: {"image": image}, about, ("z",), ("image",), bounds) == 0
        else:
            with pytest.raises(SalonError, match=r"within 2 levels of PyTorch's and 90\.0% equal; it is 3 away"):
                reference.compare(lambda feed, image=image: {"image": image}, about, ("z",), ("image",), bounds)


def test_half_precision_and_the_other_backend(tmp_path, tiny_run):
    out = tmp_path / "models"
    options = (
        "--backend",
        "onnxruntime",
        "--precision",
        "fp16",
        "--max-batch",
        2,
        "--models",
        "generator,discriminator",
    )
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", out, *options, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["models"] == ["generator", "discriminator"] and outcome.json["version"] == 1
    assert [p.name for p in (out / "generator" / "1").iterdir()] == ["model.onnx"]
    graph = onnx.load(out / "generator" / "1" / "model.onnx").graph
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_limited_activations_are_limited_in_the_graph(tmp_path, tiny_run, precision):
    found = snapshot.find(tiny_run)
    network = dataclasses.replace(found.config.network, conv_clamp=0.4)
    limited = tmp_path / "limited.safetensors"
    config = dataclasses.replace(found.config, network=network)
    snapshot.save(limited, found.G_ema, found.D, config, found.cur_nimg, found.classes)
    options = ("--backend", "onnxruntime", "--precision", precision, "--models", "generator,discriminator")
    outcome = run_salon("export", "--snapshot", limited, "--out", tmp_path / "models", *options)
    assert outcome.code == 0, outcome.err  # the export compares both networks with PyTorch's
    session = onnxruntime.InferenceSession(tmp_path / "models" / "generator" / "1" / "model.onnx")
    (image,) = session.run(["image"], drawn())
    expected, free = (
        np.stack(list(generate.generate(snapshot.load(path).G_ema, SEEDS, truncation_psi=0.7)))
        for path in (limited, found.path)
    )
    assert np.abs(image.astype(int) - expected).max() <= (1 if precision == "fp32" else 6)
    assert np.abs(expected.astype(int) - free).max() > 20


def test_weights_that_one_file_cannot_hold_lie_beside_it(tmp_path, tiny_run, monkeypatch):
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    few = ("--models", "generator", "--max-batch", 1)
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", tmp_path / "models", *few)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "models" / "generator" / "1"
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "model.onnx.data", "model.py", "__pycache__"}
    (image,) = onnxruntime.InferenceSession(folder / "model.onnx").run(["image"], drawn())
    expected = generate.generate(snapshot.find(tiny_run).G_ema, SEEDS, truncation_psi=0.7)
    assert near(image, np.stack(list(expected)))


@pytest.mark.parametrize("opset", [15, 17])
def test_graphs_of_an_older_opset_compute_the_same(tmp_path, tiny_run, painted, classifier_file, opset):
    mean = tmp_path / "mean.onnx"  # whose axes are an input from opset 18 on
    shutil.copyfile(classifier_file, mean)
    options = ("--opset", opset, "--max-batch", 1, "--classifier", mean)
    few = ("--models", "generator,mapping,synthesis,discriminator,style_classifier")
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", tmp_path / "models", *few, *options, "--json")
    assert outcome.code == 0 and outcome.json["opset"] == opset, outcome.err
    for kind in outcome.json["models"]:
        model = onnx.load(tmp_path / "models" / kind / "1" / "model.onnx")
        assert [entry.version for entry in model.opset_import] == [opset] and model.ir_version <= 9
    session = onnxruntime.InferenceSession(tmp_path / "models" / "generator" / "1" / "model.onnx")
    assert near(session.run(["image"], drawn())[0], painted)
    feed = {"image": np.random.default_rng(0).integers(0, 256, [2, 20, 20, 3], np.uint8)}
    ours, theirs = (
        onnxruntime.InferenceSession(file).run(None, feed)[0]
        for file in (tmp_path / "models" / "style_classifier" / "1" / "model.onnx", classifier_file)
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_a_classifier_that_an_older_opset_has_not_is_refused(tmp_path, tiny_run, classifier_file):
    newer = tmp_path / "newer.onnx"
    model = onnx.load(classifier_file)
    model.graph.node.append(onnx.helper.make_node("Gelu", [model.graph.output[0].name], ["unused"]))  # of opset 20
    onnx.save(model, newer)
    few = ("--models", "style_classifier", "--max-batch", 1, "--classifier", newer)
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", tmp_path / "models", *few, "--opset", 17)
    assert outcome.code == 2 and "--classifier must be a working ONNX graph in opset 17: " in outcome.err
    assert not (tmp_path / "models" / "style_classifier").exists()


def test_a_disk_without_room_is_told_in_one_line_and_leaves_nothing(tmp_path, tiny_run, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))  # which is not asked for: all is made beside the repository
    options = ("--snapshot", tiny_run, "--out", tmp_path / "models", "--models", "generator", "--max-batch", 1)
    with full_disk(20_000):
        outcome = run_salon("export", *options)
    assert outcome.code == 1 and outcome.err.count("\n") == 1, outcome.err
    assert re.search(r"models could not be written: .*make room or choose another folder", outcome.err)
    assert list(tmp_path.iterdir()) == []
    assert run_salon("export", *options).code == 0


def test_each_export_is_a_new_version_of_all_its_models(tmp_path, tiny_run, classifier_file):
    out = tmp_path / "models"
    few = ("--models", "generator,seed_to_png", "--max-batch", 1)
    for version in (1, 2):
        outcome = run_salon("export", "--snapshot", tiny_run, "--out", out, *few, "--json")
        assert outcome.json["version"] == version
        assert all((out / model / str(version)).is_dir() for model in outcome.json["models"])
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", out, "--models", "generator")
    assert outcome.code == 2 and "--models must also have seed_to_png" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "mapping"], "--name must be"),
        (["--name", "old_mapping"], "--name must be"),
        (["--name", "../x"], "--name must be"),
        (["--models", "painter"], "--models must be some of generator, .*; got 'painter'"),
        (["--models", "seed_to_png"], "--models seed_to_png needs generator among them"),
        (["--models", "style_classifier"], "--models style_classifier needs --classifier"),
        (["--tensorrt"], "--tensorrt needs --backend onnxruntime"),
        (["--classifier", README], "must be an ONNX file that Salon wrote"),
        (["--snapshot", "nowhere"], "nowhere must be a snapshot"),
        (["--out", README], "--out must be a folder"),
    ],
)
def test_a_request_that_does_not_fit_is_one_line(tmp_path, tiny_run, options, message):
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", tmp_path / "models", *options)
    assert outcome.code == 2 and re.search(message, outcome.err) and outcome.err.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_a_repository_is_not_begun_among_pictures(tmp_path, tiny_run):
    (tmp_path / "a.png").write_bytes(b"a picture")
    outcome = run_salon("export", "--snapshot", tiny_run, "--out", tmp_path)
    assert outcome.code == 2 and "--out must be a folder of its own" in outcome.err and "a.png" in outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_broken_classifier_never_replaces_a_good_one(tmp_path, tiny_run, classifier_file):
    out, broken = tmp_path / "models", tmp_path / "broken.onnx"
    options = ("--snapshot", tiny_run, "--out", out, "--max-batch", 1, "--models", "style_classifier")
    assert run_salon("export", *options, "--classifier", classifier_file).code == 0
    model = onnx.load(classifier_file)
    model.graph.node[-1].input[0] = "nothing"
    onnx.save(model, broken)
    outcome = run_salon("export", *options, "--classifier", broken)
    assert outcome.code == 2 and "--classifier must be a working ONNX graph" in outcome.err
    broken.write_bytes(classifier_file.read_bytes()[:-40])
    assert run_salon("export", *options, "--classifier", broken).code == 2
    assert [p.name for p in (out / "style_classifier").iterdir() if p.is_dir()] == ["1"]


def test_other_styles_than_an_ensemble_gives_are_refused(tmp_path, tiny_run, conditional_snapshot, classifier_file):
    out, other = tmp_path / "models", tmp_path / "other.onnx"
    few = ("--out", out, "--max-batch", 1, "--models", "generator,style_classifier,generate_and_classify")
    assert run_salon("export", "--snapshot", tiny_run, *few, "--classifier", classifier_file).code == 0
    model = onnx.load(classifier_file)
    told = dataclasses.replace(onnx_file.read_about(classifier_file), styles=["warm", "cold", "none"])
    model.metadata_props[0].value = told.to_json()
    onnx.save(model, other)
    outcome = run_salon("export", "--snapshot", conditional_snapshot, *few, "--name", "times", "--classifier", other)
    assert outcome.code == 2 and "which generate_and_classify gives; it knows warm" in outcome.err


def test_a_network_without_minibatch_deviation_is_judged(tmp_path, tiny_config):
    config = dataclasses.replace(
        tiny_config, network=dataclasses.replace(tiny_config.network, mbstd_group_size=1, num_classes=2)
    )
    from gan.networks.generator import Generator

    path = tmp_path / "snapshot-0000000000.safetensors"
    snapshot.save(path, Generator(config.network), Discriminator(config.network), config, 0, ["day", "night"])
    few = ("--models", "generator,discriminator,generate_and_score", "--max-batch", 3)
    outcome = run_salon("export", "--snapshot", path, "--out", tmp_path / "models", *few, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["difference"].keys() == {"generator", "discriminator"}
