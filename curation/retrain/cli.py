"""The command `salon curate retrain`. Heavy imports wait until a command runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, FiniteRange, WholeRange, json_option, seed_option
from gan.errors import RequestError
from gan.runtime.console import result, say, table

if TYPE_CHECKING:
    from curation.retrain.experiment import Arm, Experiment


@click.command(cls=Command)
@click.option("--run", required=True, metavar="RUN", type=PATH, help="Its newest checkpoint is where all arms start.")
@click.option("--manifest", required=True, metavar="DIR", type=PATH, help="The curation that is put to the test.")
@click.option(
    "--kimg",
    required=True,
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    help="Training of each arm, thousands of images.",
)
@click.option("--out", required=True, metavar="DIR", type=PATH, help="For the arms, their evaluations and the report.")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset of the manifest. Default: the ZIP of its name.")
@click.option(
    "--holdout",
    metavar="SHARE",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the images that judges, and that no arm learns from.",
)
@click.option(
    "--holdout-of",
    type=click.Choice(["full", "kept"]),
    default="full",
    show_default=True,
    help="Hold out from all images, or from those alone that the manifest keeps.",
)
@click.option(
    "--holdout-data",
    metavar="DATASET",
    type=PATH,
    help="Judge by this dataset instead, which the run has not seen: better where there is one.",
)
@click.option(
    "--strata",
    "strata_by",
    type=click.Choice(["auto", "label", "style", "genre", "artist", "none"]),
    default="auto",
    show_default=True,
    help="What the held-out images are balanced by, and recall is told by. auto: the first of label, style, genre.",
)
@click.option("--repeats", metavar="N", type=WholeRange(1), default=1, show_default=True, help="Trainings of each arm.")
@seed_option("Of split, random arm and order.")
@click.option(
    "--num-images",
    metavar="NIMG",
    type=WholeRange(4),
    default=10_000,
    show_default=True,
    help="Images that each arm paints to be judged.",
)
@click.option("--extractor", metavar="NAME", help="Network that judges. Default: as salon eval run.")
@click.option("--weights", metavar="NAME=PATH", multiple=True, help="File of the extractor's weights.")
@click.option("--batch-gpu", metavar="NIMG", type=WholeRange(1), help="Most images in a pass. Default: all.")
@click.option(
    "--workers",
    metavar="N",
    type=WholeRange(0, 256),
    default=1,
    show_default=True,
    help="Processes that load images.",
)
@click.option("--cache", is_flag=True, help="Keep decoded pixels in a file beside the dataset: faster, larger.")
@click.option(
    "--device",
    "names",
    metavar="NAME,...",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda or cuda:N. With several, such as cuda:0,cuda:1,cuda:2, arms are trained side by side.",
)
@click.option("--dry-run", is_flag=True, help="Check the request, say what would be done, and stop.")
@json_option
def retrain(
    data: Path | None,
    batch_gpu: int | None,
    workers: int,
    cache: bool,
    names: str,
    dry_run: bool,
    as_json: bool,
    **request: Any,
) -> None:
    """Test a curation: train on what it keeps, on everything, and on as many at random; judge all three.

    The same command goes on where it stopped. --repeats may be raised later.

    \b
    salon curate retrain --run runs --manifest curated.manifest --data paintings64.zip --kimg 500 --out retraining
    """
    from curation.retrain.experiment import Experiment
    from curation.retrain.multi_device import train_side_by_side
    from curation.retrain.plan import Plan, Request
    from curation.retrain.report import REPORT, write_report
    from curation.retrain.results import conclude
    from eval.evaluator import tell_default
    from gan import device as devices
    from gan.runtime import distributed
    from gan.runtime.files import write_json
    from gan.training.request import TrainingOptions

    beside = Path(request["manifest"]).with_suffix(".zip")
    if data is None and not beside.exists():
        raise RequestError(f"--data must name the dataset of --manifest {request['manifest']}; {beside} does not exist")
    side_by_side = names.split(",")
    target, *_ = [devices.select(name) for name in side_by_side]
    if distributed.world_size() > 1 < len(side_by_side):
        raise RequestError(f"--device must name one device under torchrun, which shares it out; got {names} instead")
    plan = Plan(Request(data=data or beside, **request))
    described = plan.describe()
    if dry_run:
        result(f"The request is fine.\n{_plan(described)}", described, as_json)
        return
    options = TrainingOptions(batch_gpu=batch_gpu, workers=workers, cache=cache)
    with distributed.joined(target):
        distributed.require_same(str(plan.identity), "request and dataset")
        experiment = Experiment(plan)
        experiment.prepare()
        judge = experiment.judge(target)
        deciding = experiment.deciding(judge)
        if plan.request.extractor is None:
            tell_default(plan.extractor)
        say(_plan(described))
        arms = experiment.arms()
        if len(side_by_side) > 1 and not train_side_by_side(experiment, arms, side_by_side, options):
            unfinished = [arm.name for arm in arms if not experiment.finished(arm)]
            where = {"out": str(experiment.out), "finished": None, "arm": unfinished[0]}
            result(
                f"Stopped in {', '.join(unfinished)}, and saved. The same command goes on from here.", where, as_json
            )
            return
        for position, arm in enumerate(arms):
            say(f"Arm {position + 1} of {len(arms)}: {arm.name}, {arm.images} images")
            if not experiment.train(arm, target, options):
                _stopped(experiment, arms, as_json)
                return
            experiment.evaluate(arm, judge)
        if not distributed.is_main():
            return
        figures = conclude(experiment, arms, deciding)
        write_json(experiment.out / "results.json", figures)
        write_report(figures, [experiment.entry(arm).pictures for arm in arms], experiment.out / REPORT)
    lines = [figures["sentence"], *figures["cost"], "", _values(figures), "", f"Report: {experiment.out / REPORT}"]
    result("\n".join(lines), {"out": str(experiment.out), **figures}, as_json)


def _stopped(experiment: "Experiment", arms: "Sequence[Arm]", as_json: bool) -> None:
    names = [arm.name for arm in arms if not experiment.finished(arm)]
    where = {"out": str(experiment.out), "finished": None, "arm": names[0]}
    result(f"Stopped before the end of {', '.join(names)}. The same command goes on from here.", where, as_json)


def _plan(described: dict[str, Any]) -> str:
    held = described["held_out"]
    rows = [[arm, count, f"{described['kimg'] * 1000 / count:.1f}"] for arm, count in described["images"].items()]
    return "\n".join(
        [
            table(rows, ["arm", "images", "epochs"]),
            f"From {described['start_kimg']:g} kimg, {described['kimg']:g} kimg more for each arm, "
            f"{described['repeats']} time{'s' if described['repeats'] > 1 else ''}.",
            f"Judged by {held['images']} held-out images"
            + (", which the run has seen before the arms part" if held["base_has_seen_them"] else "")
            + (f", by {described['strata_by']}." if described["strata_by"] else "."),
        ]
    )


def _values(figures: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    for metric in figures["metrics"]:
        values, found = metric["values"], metric["differences"]
        apart = [
            f"{found[name]['value']:+.3g} ({found[name]['low']:+.3g} to {found[name]['high']:+.3g})"
            for name in ("curated - full", "curated - random")
        ]
        rows.append([metric["name"], *[f"{value['value']:.4g}" for value in values.values()], *apart])
    return table(rows, ["metric", "curated", "full", "random", "curated - full", "curated - random"])
