"""What the commands that compare features read: a dataset with its manifest, and an extractor."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from curation.score.request import FeatureRequest
from eval.features.extractor import Extractor, load_extractor
from gan.data.collection import Collection
from gan.device.selection import select
from gan.runtime import distributed
from gan.runtime.cluster import Cluster, connected


@contextmanager
def opened(request: FeatureRequest, *, only_kept: bool = True) -> Iterator[tuple[Collection, dict[str, Extractor]]]:
    """The images, `only_kept` or all, and the extractors of a request by what they see of an image.

    The processes that torchrun started are connected meanwhile.

    Raises RequestError when the dataset has no manifest, it keeps none, or there is no such extractor or device.
    """
    device = select("cpu" if request.engine == "ray" else request.device)
    extractors = {}
    for features, name in request.extractors().items():
        own = request.weights if features == "content" else None
        extractors[features] = load_extractor(name, weights=own, fetch=request.fetch, device=device)
    with distributed.joined(device):
        collection = Collection.open(request.dataset, request.manifest)
        collection.require_manifest()
        yield collection.of_kept() if only_kept else collection, extractors


def cluster_of(request: FeatureRequest) -> AbstractContextManager[Cluster | None]:
    """The cluster that computes; None: this machine."""
    return connected(request.address) if request.engine == "ray" else nullcontext()
