"""The command `salon curate retrain`. Heavy imports wait until a command runs."""

from typing import Any

import click

from curation.retrain.request import REPEATS, SHORT, RetrainRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, json_option, seed_option, workers_option
from gan.data.strata import STRATA
from gan.runtime.console import result, say, table


@click.command(cls=Command)
@takes(RetrainRequest)
@click.option("--run", metavar="RUN", type=PATH, help="Run whose newest checkpoint all arms start from.")
@click.option("--manifest", metavar="DIR", type=PATH, help="The curation that is put to the test.")
@click.option(
    "--kimg", metavar="KIMG", type=FiniteRange(0, min_open=True), help="Training of each arm, thousands of images."
)
@click.option("--out", metavar="DIR", type=PATH, help="Folder for the arms, their evaluations and the report.")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset of the manifest. Default: the ZIP of its name.")
@click.option(
    "--holdout",
    metavar="SHARE",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of the images that is held out: they evaluate, and no arm learns from them.",
)
@click.option(
    "--holdout-of",
    type=click.Choice(["full", "kept"]),
    help="Images to hold out from: all, or those alone that the manifest keeps.",
)
@click.option(
    "--holdout-data",
    metavar="DATASET",
    type=PATH,
    help="Dataset that evaluates instead, and that the run has not seen: better where there is one.",
)
@click.option(
    "--strata",
    "strata_by",
    type=click.Choice(["auto", *STRATA, "none"]),
    help="Column of strata, which held-out images are balanced by, and recall is told by. auto: the first of label, "
    "style, genre.",
)
@click.option(
    "--repeats",
    metavar="N",
    type=WholeRange(1),
    help=f"Trainings of each arm; a verdict needs 2 or more. Default: {REPEATS} of arms up to {SHORT} kimg, else 1.",
)
@seed_option("Seed of the split, of the random arm, and of the order of the images.")
@click.option("--num-images", metavar="NIMG", type=WholeRange(4), help="Generated images of each arm to evaluate.")
@click.option("--extractor", metavar="NAME", help="Extractor for the metrics. Default: as salon eval run.")
@click.option("--weights", metavar="NAME=PATH", multiple=True, help="File of the extractor's weights.")
@click.option("--batch-gpu", metavar="NIMG", type=WholeRange(1), help="Most images in a forward pass. Default: all.")
@workers_option
@click.option("--cache", is_flag=True, help="Keep decoded pixels in a file beside the dataset: faster, larger.")
@click.option(
    "--device",
    metavar="NAME,...",
    help="Device: auto, cpu, cuda or cuda:N. On several, such as cuda:0,cuda:1,cuda:2, arms are trained side by side.",
)
@click.option("--dry-run", is_flag=True, help="Check the request, say what would be done, and stop.")
@json_option
def retrain(request: RetrainRequest, dry_run: bool, as_json: bool) -> None:
    """Test a curation: train on what it keeps, on everything, and on as many at random; evaluate all three.

    The same command goes on where it stopped. --repeats may be raised later.

    \b
    salon curate retrain --run runs --manifest curated.manifest --data paintings64.zip --kimg 500 --out retraining
    """
    from curation.retrain import run
    from curation.retrain.plan import RetrainPlan
    from curation.retrain.report import REPORT

    plan = RetrainPlan(request)
    described = plan.describe()
    if dry_run:
        result(f"The request is fine.\n{_plan(described)}", described, as_json)
        return
    say(_plan(described))
    outcome = run.retrain(plan)
    out, figures = request.out, outcome.figures
    if outcome.unfinished:
        names = ", ".join(outcome.unfinished)
        stopped = {"out": str(out), "finished": None, "arm": outcome.unfinished[0]}
        result(f"Stopped before the end of {names}. The same command goes on from here.", stopped, as_json)
    elif figures is not None:
        for note in figures["notes"]:
            say(f"Note: {note}")
        lines = [figures["sentence"], *figures["cost"], "", _values(figures), "", f"Report: {out / REPORT}"]
        result("\n".join(lines), {"out": str(out), **figures}, as_json)


def _plan(described: dict[str, Any]) -> str:
    held_out = described["held_out"]
    rows = [[arm, count, f"{described['kimg'] * 1000 / count:.1f}"] for arm, count in described["images"].items()]
    return "\n".join(
        [
            table(rows, ["arm", "images", "epochs"]),
            f"From {described['start_kimg']:g} kimg, {described['kimg']:g} kimg more for each arm, "
            + (f"{described['repeats']} times." if described["repeats"] > 1 else "once, which gives no verdict."),
            f"Evaluated by {held_out['images']} held-out images"
            + (", which the run has seen before the arms part" if held_out["base_has_seen_them"] else "")
            + (f", by {described['strata_by']}." if described["strata_by"] else "."),
        ]
    )


def _values(figures: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    for metric in figures["metrics"]:
        differences = [metric["differences"][name] for name in ("curated - full", "curated - random")]
        intervals = [f"{each['value']:+.3g} ({each['low']:+.3g} to {each['high']:+.3g})" for each in differences]
        values = [*metric["values"].values(), metric["noise"]]
        rows.append([metric["name"], *[f"{value['value']:.4g}" for value in values], *intervals])
    return table(rows, ["metric", "curated", "full", "random", "noise", "curated - full", "curated - random"])
