import dataclasses
import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving import contract
from serving.contract import KINDS, ModelMetadata
from serving.export import model_config
from serving.export.model_config import Settings


def about(kind: str, **values) -> ModelMetadata:
    shape = {"z_dim": 8, "w_dim": 8, "num_ws": 6, "resolution": 16, "num_classes": 2}
    known = {"generator": "people", **shape} if kind != "style_classifier" else {}
    styles = ["Cubism", 'Étude "en plein air"'] if kind in ("style_classifier", "generate_and_classify") else []
    return ModelMetadata(kind=kind, **{**known, "styles": styles, **values})


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_as_the_contract_says(tmp_path, kind, backend):
    told = about(kind)
    text = model_config.describe(told, Settings(backend=backend, max_batch=12, instances=2))
    config = parse(text)
    assert config.name == contract.model_name(kind, "people") and config.max_batch_size == 12
    for ours, theirs in ((contract.inputs(told), config.input), (contract.outputs(told), config.output)):
        assert [t.name for t in ours] == [t.name for t in theirs]
        assert [list(t.dims) for t in ours] == [list(t.dims) for t in theirs]
        types = [model_config_pb2.DataType.Name(t.data_type).removeprefix("TYPE_") for t in theirs]
        assert types == [t.dtype.replace("BYTES", "STRING") for t in ours]
    assert [t.optional for t in contract.inputs(told)] == [t.optional for t in config.input]
    file = tmp_path / "config.pbtxt"
    file.write_text(text, encoding="utf-8")
    assert model_config.read_about(file) == told
    assert "queue_policy" not in text
    assert list(config.version_policy.specific.versions) == [1]
    if not config.HasField("ensemble_scheduling"):
        assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 12]
        assert config.instance_group[0].count == 2


def test_the_limits_are_in_the_description():
    config = parse(model_config.describe(about("generator"), Settings()))
    limits = json.loads(config.parameters["limits"].string_value)
    assert limits == {"z": [-100, 100], "truncation_psi": [-2, 2], "label": [0, 1]}


def test_onnxruntime_warms_up_each_preferred_batch_and_may_use_tensorrt():
    settings = Settings(backend="onnxruntime", tensorrt=True, precision="fp16", response_cache=True)
    config = parse(model_config.describe(about("generator"), settings))
    assert config.backend == "onnxruntime" and config.response_cache.enable
    assert [w.batch_size for w in config.model_warmup] == [1, 4, 8, 16]
    assert all(w.inputs["z"].zero_data and list(w.inputs["z"].dims) == [8] for w in config.model_warmup)
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator[0]
    assert accelerator.name == "tensorrt" and accelerator.parameters["precision_mode"] == "FP16"
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    free = parse(model_config.describe(about("style_classifier"), settings)).model_warmup[0].inputs["image"]
    assert list(free.dims) == [256, 256, 3]


def test_ensembles_pass_the_image_on():
    config = parse(model_config.describe(about("generate_and_score"), Settings()))
    paint, judge = config.ensemble_scheduling.step
    assert (paint.model_name, judge.model_name) == ("people", "people_discriminator")
    assert dict(paint.input_map) == {name: name for name in ("z", "truncation_psi", "label")}
    assert dict(judge.input_map) == {"image": "image", "label": "label"} and dict(judge.output_map) == {
        "logit": "logit"
    }
    assert config.platform == "ensemble"


def test_a_batch_of_one_is_preferred_where_it_is_the_maximum():
    assert model_config.preferred_batches(1) == [1] and model_config.preferred_batches(4) == [4]


def test_another_description_is_refused(tmp_path):
    file = tmp_path / "config.pbtxt"
    for text in ('name: "theirs"', "name {"):
        file.write_text(text)
        with pytest.raises(ValueError):
            model_config.read_about(file)


@pytest.mark.parametrize("size", contract.SIZES)
@pytest.mark.parametrize("value", [None, 0, "8"])
def test_metadata_of_a_generator_needs_its_sizes(size, value):
    told = about("seed_to_png")
    assert ModelMetadata.from_json(told.to_json()) == told
    text = json.dumps(json.loads(told.to_json()) | {size: value})
    with pytest.raises(ValueError, match=f"{size} of a seed_to_png must be a whole number above 0; got {value}"):
        ModelMetadata.from_json(text)


def test_an_ensemble_is_asked_for_all_of_its_outputs_or_by_no_name():
    score = about("generate_and_score")
    for names in ([], ["image", "logit"], ["logit", "image"]):
        contract.require_outputs(score, names)
    with pytest.raises(
        ValueError, match=r"generate_and_score must be asked for together, image and logit, .*; image is"
    ):
        contract.require_outputs(score, ["logit"])
    with pytest.raises(ValueError, match=r"must be some of image, probabilities; got video"):
        contract.require_outputs(about("generate_and_classify"), ["image", "video"])
    contract.require_outputs(about("generator"), ["image"])


def test_the_versions_that_are_served_are_in_the_description(tmp_path):
    old, new = about("generator", snapshot="old"), about("generator", snapshot="new")
    file = tmp_path / "config.pbtxt"
    file.write_text(model_config.describe(new, Settings(), 7, {5: old}), encoding="utf-8")
    found = model_config.read(file)
    assert found.metadata == new and found.backend == "python"
    assert found.versions == {
        5: dataclasses.replace(old, version=5),
        7: dataclasses.replace(new, version=7),
    }
    assert list(parse(file.read_text()).version_policy.specific.versions) == [5, 7]
    parts = {"people": 3, "people_discriminator": 4}
    file.write_text(model_config.describe(about("generate_and_score"), Settings(), 7, parts=parts), encoding="utf-8")
    assert model_config.read(file).parts == parts
    for text in ("[]", "{}", '{"new": {}}', '{"1": {}}'):
        with pytest.raises(ValueError):
            contract.served_versions(text)
