"""Which networks see the images, and which metrics each of them gives: the suite where a request names neither.

Its headline is DINOv2's: Stein et al. 2023 found its features nearest to what people see. FID stands beside it, for
comparison with the past. What has no weights here is left out, and the line that says so tells how to get them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.features import weights
from eval.features.registry import INCEPTION, NETWORKS, known_names, named_network
from eval.request import METRICS, EvaluationRequest, FeatureRequest
from gan.errors import RequestError
from gan.runtime.console import say

DINOV2 = "dinov2-vit-l-14"
OFFLINE = "efficientnet-lite0"  # comes with its weights
SUITE = {DINOV2: METRICS, INCEPTION: ("fid",)}
LPIPS = ("lpips-vgg", "lpips-linear")  # files of weights that are of no extractor

Suite = dict[str, tuple[str, ...]]  # metrics by network; the first network's are the headline


def choose(request: EvaluationRequest, files: Mapping[str, Path], besides: Sequence[str] = ()) -> Suite:
    """The networks of a request and the metrics of each. `files` are weights by name, as parse_weights gives them.

    Metrics that are named are of all networks; where no network is named, by Inception or in its place. Where no metric
    is named the headline has those `besides`, too. Raises RequestError for an unknown network, and weights of one that
    is not used.
    """
    alone = request.metrics and not request.extractors
    names = [default_extractor(files)] if alone else networks(request, files)
    require_used(files, [*names, *(LPIPS if "ppl" in request.metrics else ())])
    if request.metrics:
        return dict.fromkeys(names, request.metrics)
    whole = not request.extractors and len(names) == len(SUITE)
    chosen = {name: SUITE[name] if whole else METRICS for name in names}
    chosen[names[0]] += tuple(besides)
    return chosen


def networks(request: FeatureRequest, files: Mapping[str, Path]) -> list[str]:
    """The networks that a request names, or those of the suite that are here or may be fetched, or OFFLINE.

    Raises RequestError for an unknown one.
    """
    if not request.extractors:
        return [name for name in SUITE if request.fetch or _is_here(name, files)] or [OFFLINE]
    for name in request.extractors:
        named_network(name)
    return list(dict.fromkeys(request.extractors))


def default_extractor(files: Mapping[str, Path]) -> str:
    """The one network where there is to be one: Inception where its weights are given or found, else OFFLINE."""
    return INCEPTION if _is_here(INCEPTION, files) else OFFLINE


def require_used(files: Mapping[str, Path], names: Sequence[str]) -> None:
    """Raise RequestError for weights of a network that is not among `names`."""
    if unused := set(files) - set(names):
        raise RequestError(f"`weights` {min(unused)} is of no network that this evaluation uses")


def parse_weights(texts: Sequence[str]) -> dict[str, Path]:
    """["NAME=PATH"] -> paths by name. Raises RequestError for anything else, or a name that comes twice."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in (*known_names(), *LPIPS):
            raise RequestError(
                f"`weights` must be NAME=PATH with one of {', '.join((*known_names(), *LPIPS))}; got {text} instead"
            )
        if name in paths:
            raise RequestError(f"`weights` must name the file of {name} once; got {paths[name]} and {path}")
        paths[name] = Path(path)
    return paths


def tell_missing(used: Sequence[str], wanted: Sequence[str], parameter: str = "weights") -> None:
    """Say which of the networks `wanted` are not `used`, what that means for the results, and how to get their weights.

    `parameter` is what names files of weights. Says nothing where all are used.
    """
    missing = [name for name in wanted if name not in used]
    if not missing:
        return
    means = f"{' and '.join(used)} alone sees the images"
    if INCEPTION not in used and DINOV2 not in used:
        means = f"{used[0]} sees the images, and the results are FD and KD"
    files = " and ".join(f"{NETWORKS[name].file.name} ({NETWORKS[name].file.url})" for name in missing)
    named = " ".join(f"`{parameter}` {name}=PATH" for name in missing)
    say(
        f"Note: the weights of {' and '.join(missing)} are not here, so {means}. For {_gives(missing)} put {files} "
        f"into {weights.folder()}, or name {'it' if len(missing) == 1 else 'them'} with {named}"
    )


def _is_here(name: str, files: Mapping[str, Path]) -> bool:
    return name in files or (weights.folder() / NETWORKS[name].file.name).is_file()


def _gives(missing: Sequence[str]) -> str:
    # What results the missing networks would give.
    gives = {DINOV2: "FD, KD, precision and recall in the features that come nearest to people's judgement"}
    return ", and for ".join(gives.get(name, "FID and KID") for name in missing)
