"""What a command asks for, checked and opened: the dataset, the extractors, and one call for each set of images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eval import metric_registry, thresholds
from eval.accepted_samples import accept
from eval.data.image_sources import SnapshotSource, open_source
from eval.data.reference import open_reference, strata
from eval.evaluate import RESULTS, Evaluation, evaluate
from eval.features import weights
from eval.features.extractor import EXTRACTORS, Extractor, load_extractor
from eval.features.registry import INCEPTION
from eval.generator_metrics import LPIPS, PathLength
from eval.request import require_same
from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime.console import say

OFFLINE = "efficientnet-lite0"  # comes with its weights
LPIPS_FILES = ("vgg16-397923af.pth", "lpips-vgg.pth")  # in weights.folder(), where --weights does not name them
CALIBRATION = 256  # images of the dataset that a precision other than fp32 must prove itself on


class Evaluator:
    """Judges sets of images by one dataset, in one way. Raises RequestError for a request that cannot be carried out.

    `files` maps names of networks to their weights; `bounds` are such as "fid<20"; `extractors` may be empty: Inception
    then, where its weights are, else what comes with its weights. `rejection` are options of
    eval.accepted_samples.accept, by which snapshots are judged with rejection too. Results of another request are
    replaced with `overwrite` alone.
    """

    def __init__(
        self,
        data: Path,
        device: torch.device,
        *,
        metrics: Sequence[str] = (),
        extractors: Sequence[str] = (),
        files: Sequence[str] = (),
        fetch: bool = False,
        preprocess: str | None = None,
        precision: str = "fp32",
        backend: str = "torch",
        batch_size: int = 16,
        manifest: Path | None = None,
        num_images: int | None = None,
        seed: int = 0,
        truncation_psi: float = 1.0,
        strata_by: str | None = None,
        ppl_space: str = "w",
        ppl_sampling: str = "end",
        ppl_crop: bool = False,
        bounds: Sequence[str] = (),
        rejection: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.device, self.batch_size, self.metrics = device, batch_size, list(metrics)
        self.num_images, self.seed, self.truncation_psi = num_images, seed, truncation_psi
        self.rejection, self.overwrite = rejection, overwrite
        if metrics:
            metric_registry.require_known(self.metrics)
        if rejection and not set(self.metrics) & set(metric_registry.OF_FEATURES):
            raise RequestError(f"--reject needs one of --metrics {','.join(metric_registry.OF_FEATURES)} to judge by")
        paths = parse_weights(files)
        names = list(dict.fromkeys(extractors)) or [default_extractor(paths)]
        for name in names:
            if name not in EXTRACTORS:
                raise RequestError(f"--extractor must be one of {', '.join(EXTRACTORS)}; got {name} instead")
        if unused := set(paths) - set(names) - set(LPIPS if "ppl" in self.metrics else ()):
            raise RequestError(f"--weights {min(unused)} is of no network that this evaluation uses")
        possible = [
            id for name in names for m in self.metrics for id in metric_registry.result_ids(m, name == INCEPTION)
        ]
        self.requirements = [thresholds.parse(text, list(dict.fromkeys(possible))) for text in bounds]
        self.paths = None
        if "ppl" in self.metrics:
            vgg, linear = (_lpips(name, paths.get(name), file) for name, file in zip(LPIPS, LPIPS_FILES, strict=True))
            self.paths = PathLength(vgg=vgg, linear=linear, space=ppl_space, sampling=ppl_sampling, crop=ppl_crop)
        self.real, described = open_reference(data, manifest)
        self.strata = strata(self.real, described, strata_by) if strata_by else None

        def load(name: str, precision: str) -> Extractor:
            return load_extractor(
                name,
                weights=paths.get(name),
                preprocess=preprocess,
                precision=precision,
                backend=backend,
                device=device,
                fetch=fetch,
            )

        self._by_default = not extractors
        self.extractors = [load(name, precision) for name in names]
        self._request = {
            "metrics": ",".join(self.metrics),
            "extractors": ", ".join(" ".join(extractor.identity.values()) for extractor in self.extractors),
            "strata": strata_by,
            "ppl": [ppl_space, ppl_sampling, ppl_crop] if self.paths else None,
            "rejection": rejection and {option: str(value) for option, value in rejection.items()},
            **{f"reference's {key}": value for key, value in self.real.identity.items()},
        }
        for extractor in self.extractors if precision != "fp32" else []:
            count = min(CALIBRATION, len(self.real))
            found = extractor.calibrate(list(self.real.pixels(0, count)), load(extractor.name, "fp32"))
            say(f"{extractor.key} moves the features of {count} images by {found:.1e} of their variance")

    def __call__(self, what: Path | Iterable[Pixels], out: Path) -> Evaluation | None:
        """Judge a snapshot, a folder or ZIP of images, or an iterator; see eval.evaluate.evaluate."""
        source = open_source(
            what,
            self.num_images,
            seed=self.seed,
            truncation_psi=self.truncation_psi,
            class_shares=self.real.class_shares(),
            device=self.device,
            batch_size=self.batch_size,
        )
        generator = {f"generator's {key}": value for key, value in source.identity.items()}
        request = {**self._request, "images": len(source), **generator}
        require_same(out / RESULTS, request, self.overwrite)
        self.tell_network()
        accepted = None
        if self.rejection and isinstance(source, SnapshotSource):
            accepted = accept(source, self.real, self.rejection, out)
        return evaluate(
            source,
            self.real,
            metrics=self.metrics,
            extractors=self.extractors,
            out=out,
            strata=self.strata,
            paths=self.paths,
            requirements=self.requirements,
            accepted=accepted,
            batch_size=self.batch_size,
            request=request,
        )

    def tell_network(self) -> None:
        """Say once, when the request is known to be sound, which network looks where none was named."""
        if self._by_default:
            tell_default(self.extractors[0].name)
        self._by_default = False


def parse_weights(texts: Sequence[str]) -> dict[str, Path]:
    """["NAME=PATH"] -> paths by name. Raises RequestError for anything else, or a name that comes twice."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in (*EXTRACTORS, *LPIPS):
            raise RequestError(
                f"--weights must be NAME=PATH with one of {', '.join((*EXTRACTORS, *LPIPS))}; got {text} instead"
            )
        if name in paths:
            raise RequestError(f"--weights must name the file of {name} once; got {paths[name]} and {path}")
        paths[name] = Path(path)
    return paths


def default_extractor(paths: Mapping[str, Path]) -> str:
    """Inception where its weights are given or found; else OFFLINE."""
    found = INCEPTION in paths or (weights.folder() / EXTRACTORS[INCEPTION].file.name).is_file()
    return INCEPTION if found else OFFLINE


def tell_default(extractor: str) -> None:
    """Say what it means that a network other than Inception was chosen."""
    if extractor == INCEPTION:
        return
    say(
        f"Note: the weights of {INCEPTION} are not here, so {extractor} sees the images, and the results are FD and "
        f"KD. For FID and KID put {EXTRACTORS[INCEPTION].file.name} ({EXTRACTORS[INCEPTION].file.url}) into "
        f"{weights.folder()}, or name it with --weights {INCEPTION}=PATH"
    )


def _lpips(name: str, given: Path | None, file: str) -> Path:
    path = given or weights.folder() / file
    if not path.is_file():
        raise RequestError(
            f"--metrics ppl needs the weights {name}: put {file} into {weights.folder()}, or name it with "
            f"--weights {name}=PATH"
        )
    return path
