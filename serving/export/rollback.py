"""A version of a model repository again, as its newest one: by links to its files. Nothing is deleted."""

import json
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from serving.contract import ENSEMBLES, ModelMetadata
from serving.export import family
from serving.export.model_config import Settings
from serving.export.model_repository import Model, ModelRepository


def roll_back(out: Path, version: int) -> dict[str, Any]:
    """Publish the models of `version` in the repository `out` again -> figures.

    Raises RequestError when it has no record of this version, its files have changed, or what is served meanwhile needs
    models that it has not; nothing is published then.
    """
    repository = ModelRepository(out)
    repository.recover()
    file = family.record_file(out, version)
    if not file.exists():
        known = [str(row["version"]) for row in family.list_versions(out) if row["date"]]
        raise RequestError(
            f"`rollback` must be one of {', '.join(known) or '(none has a record)'}, the versions of {out} that have "
            f"a record; got {version} instead"
        )
    record = family.read_record(file)
    family.check_files(out, record)
    models = []
    for name, model in record["models"].items():
        about = ModelMetadata.from_json(json.dumps(model["metadata"]))
        files = None if about.kind in ENSEMBLES else out / name / str(version)
        models.append(Model(about, Settings(**model["settings"]), files))
    _check_served(repository, record["name"], models, version)
    new = repository.publish(models, version)
    figures = {"out": str(out), "version": new, "rollback": version, "snapshot": record["snapshot"]}
    return figures | {"models": [model.name for model in models]}


def _check_served(repository: ModelRepository, name: str, models: list[Model], version: int) -> None:
    # As salon export does with what it adds.
    kinds = [model.metadata.kind for model in models]
    served = repository.models()
    for other, about in served.items():
        if about.generator == name and about.kind not in kinds:
            raise RequestError(
                f"`rollback` {version} has no {other}, which is served now and would no longer fit: remove that "
                "folder first"
            )
    styles = [about.styles for about in served.values() if about.kind == "style_classifier"]
    styles += [model.metadata.styles for model in models if model.metadata.kind == "style_classifier"]
    for model in models:
        if model.metadata.kind == "generate_and_classify" and model.metadata.styles != (styles or [[]])[-1]:
            raise RequestError(
                f"`rollback` {version} gives the styles {', '.join(model.metadata.styles)}, which the classifier that "
                "is served now does not know; export again, with the classifier of then"
            )
    if "style_classifier" in kinds:
        repository.refuse_styles(name, kinds, styles[-1])
