"""The steps from a folder of images to a judged generator: prepare, train, evaluate, curate."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from curation.auto.auto import auto
from curation.auto.request import AutoRequest
from curation.prepare.pipeline import collect
from curation.prepare.request import PrepareRequest
from eval.evaluator import Evaluator
from eval.metrics.confidence_intervals import Estimate
from eval.request import EvaluationRequest
from eval.training_hook import hook
from gan.data.collection import Collection
from gan.data.images import Pixels
from gan.device.selection import select
from gan.training.carry_out import carry_out
from gan.training.request import TrainingOptions, TrainingRequest
from salon.generator import Generator
from salon.requests import AnyPath, parted, request_of

Figures = dict[str, Any]  # those of the command


def prepare(sources: AnyPath | Sequence[AnyPath], out: AnyPath, **fields: Any) -> Figures:
    """Make a dataset, the ZIP `out`, of folders, ZIPs, tars, Parquet files or videos -> the figures of the report.

    `fields` are those of curation.prepare.request.PrepareRequest, such as resolution, shape, labels. Raises
    RequestError for a request that cannot be meant, and where no image can be used.
    """
    given = [sources] if isinstance(sources, str | PathLike) else sources
    known = [str(source) if "://" in str(source) else Path(source) for source in given]
    return collect(request_of(PrepareRequest, fields, sources=tuple(known), out=out))


def train(data: AnyPath, out: AnyPath, *, device: str = "auto", **fields: Any) -> Figures:
    """Train StyleGAN2 on a dataset, or go on where the same call stopped -> the figures of the run.

    `out` is the folder of runs. `fields` are those of gan.training.request.TrainingRequest, such as preset, mirror and
    manifest, and of TrainingOptions, such as total_kimg, the length in thousands of images. Raises RequestError for a
    request that cannot be carried out.
    """
    of_run, of_options = parted(fields, TrainingRequest, TrainingOptions)
    request = request_of(TrainingRequest, of_run, data=data, out=out)
    options = request_of(TrainingOptions, of_options)
    summary = carry_out(request, options, select(device), make_hook=hook).summary
    assert summary is not None  # of a dry run alone
    return summary


def evaluate(
    images: AnyPath | Generator | Iterable[Pixels],
    data: AnyPath,
    out: AnyPath,
    *,
    manifest: AnyPath | None = None,
    device: str = "auto",
    **fields: Any,
) -> Mapping[str, Estimate]:
    """Evaluate images against a dataset -> each metric's value with its 95 % interval, by its name such as fd or kd.

    `images` are of a snapshot, a run, a folder or a ZIP, of a Generator, or an iterator of uint8 [H, W, C] with
    num_images given. `out` is the folder of results.json and report.html. `fields` are those of
    eval.request.EvaluationRequest, such as metrics and num_images. Raises RequestError for a request that cannot be
    carried out, and where `out` holds results of another.
    """
    collection = Collection.open(Path(data), None if manifest is None else Path(manifest))
    evaluator = Evaluator(collection, request_of(EvaluationRequest, fields), select(device))
    if isinstance(images, Generator):
        images = images.snapshot.path
    evaluation = evaluator(Path(images) if isinstance(images, str | PathLike) else images, Path(out))
    assert evaluation is not None  # of one process
    return {result.id: result.estimate for result in evaluation.results}


def curate(dataset: AnyPath, out: AnyPath, **fields: Any) -> Figures:
    """Check, score and prune a dataset with defaults -> figures; `out` is the manifest to train by.

    `fields` are those of curation.auto.request.AutoRequest, such as manifest, keep, strata and labels. No image is
    changed. Raises RequestError for a request that does not fit the dataset.
    """
    return auto(request_of(AutoRequest, fields, dataset=dataset, out=out))
