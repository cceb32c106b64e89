"""Everything about a GPU in one run: whether it is right there, and how fast. From a source tree, without installing:

    PYTHONPATH=. python benchmarks/gpu.py
    PYTHONPATH=. python benchmarks/gpu.py --only operators,train --peer ada=PATH --json gpu.json
    PYTHONPATH=. python benchmarks/gpu.py --data paintings --out sheets
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --quick

Sections: operators (against float64), train (beside peers), launches (what an iteration asks of the host), sampling
(with CUDA graphs and without), rejection (candidates a second), neighbours (of 13,000 and 50,000 features), features,
fid (of 50,000 images, end to end), repeat (rejection sampling), resume (a killed training), learn (three minutes on
pictures). Each runs in a process of its own and prints as it ends; one that fails does not stop the others.

By estimate nine to ten minutes on an H100: 4 of them learn, 2 train, 1.5 fid, and half a minute or less for each other.
`--minutes 0.5 --images 10000` makes it six. PATH is a checkout of NVlabs/stylegan2-ada-pytorch; its time comes on top.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import click
import gpu_inference
import gpu_right
import gpu_speed
import torch
from gpu_setup import Setup

SECTIONS = {
    **{"operators": gpu_right.operators, "train": gpu_speed.train, "launches": gpu_speed.launches},
    **{"sampling": gpu_inference.sampling, "rejection": gpu_inference.rejection},
    **{"neighbours": gpu_inference.neighbours, "features": gpu_speed.features, "fid": gpu_speed.fid},
    **{"repeat": gpu_right.repeat, "resume": gpu_right.resume, "learn": gpu_right.learn},
}


def run(name: str, setup: Setup) -> dict:
    """A section in a process of its own -> its figures, with "failed" where it ended otherwise."""
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, "--section", json.dumps({"name": name, "file": file.name} | asdict(setup))]
        code = subprocess.run(command, check=False).returncode
        figures = json.loads(Path(file.name).read_text() or "{}")
    if code:
        figures["failed"] = code
    return figures | {"took": round(time.perf_counter() - start, 1)}


def section(text: str) -> None:
    """Run a section in this process, and leave its figures in the file that the request names."""
    request = json.loads(text)
    name, file = request.pop("name"), Path(request.pop("file"))
    setup = Setup(**{key: tuple(value) if isinstance(value, list) else value for key, value in request.items()})
    figures = SECTIONS[name](setup)
    file.write_text(json.dumps(figures))


def machine(device: str) -> dict:
    """What all of this ran on."""
    from gan.device.selection import describe, select

    described = describe(select(device))
    return {
        "device": described,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
    }


@click.command(help=__doc__)
@click.option("--only", metavar="SECTIONS", help="Some sections, with commas between them. Default: all.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--quick", is_flag=True, help="Tiny sizes, to see that everything runs; nothing is measured.")
@click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help="A peer beside Salon in `train`; repeat.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="LABEL:NAME=VALUE,...",
    help="Salon otherwise, too, in `train` and `launches`: names in capitals are environment variables, others "
    "arguments of gan.training.learner.Learner; repeat.",
)
@click.option("--data", metavar="FOLDER", help="Pictures for `learn`. Default: synthetic ones.")
@click.option("--minutes", default=3.0, show_default=True, help="Length of `learn`.")
@click.option("--images", default=50_000, show_default=True, help="Images of `fid`.")
@click.option("--weights", metavar="NAME=PATH", help="Extractor with its weights. Default: Inception where it is here.")
@click.option("--out", default="build/gpu", show_default=True, help="Folder for image grids.")
@click.option("--json", "file", metavar="FILE", help="All figures, written after each section.")
@click.option("--one", hidden=True, help="Measure one contender in this process (used by the script itself).")
@click.option("--section", "own", hidden=True, help="Run one section in this process (used by the script itself).")
def main(only: str | None, file: str | None, one: str | None, own: str | None, **options: object) -> None:
    if one or own:
        gpu_speed.one(one) if one else section(str(own))
        return
    setup = Setup(**options)  # type: ignore[arg-type]
    names = only.split(",") if only else list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        raise click.UsageError(f"--only must be some of {', '.join(SECTIONS)}; got {', '.join(sorted(unknown))}")
    for variant in setup.variants:
        if ":" not in variant or "=" not in variant:
            raise click.UsageError(f"--variant must be LABEL:NAME=VALUE,...; got {variant}")
    figures: dict = {"machine": machine(setup.device), "setup": asdict(setup), "sections": {}}
    print(", ".join(f"{key} {value}" for key, value in figures["machine"].items() if value), flush=True)
    for name in names:
        print(f"\n{name}: {SECTIONS[name].__doc__}", flush=True)
        found = figures["sections"][name] = run(name, setup)
        print(f"[{name}: {found['took']} s{', FAILED' if 'failed' in found else ''}]", flush=True)
        if file:
            Path(file).write_text(json.dumps(figures, indent=1) + "\n")
    wrong = [name for name, found in figures["sections"].items() if "failed" in found or found.get("right") is False]
    print(f"\n{sum(found['took'] for found in figures['sections'].values()):.0f} s in all")
    if wrong:
        raise SystemExit(f"not as it should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
