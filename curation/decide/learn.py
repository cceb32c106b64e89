"""What `salon curate learn` does: from a reviewer's verdicts to a score of all images, and those to look at next."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import columns
from curation.child_manifest import write_child
from curation.decide import quotas, verdict_model
from curation.decide.prune import LOW
from curation.decide.request import LearnRequest
from curation.score.inputs import opened
from curation.score.methods import LEARNED, NEXT, RANKING, score_column
from eval.data.feature_cache import features_of
from gan import __version__
from gan.data import manifest
from gan.data.manifest import Manifest

COMMAND = "salon curate learn"


def learn(request: LearnRequest) -> dict[str, Any]:
    """Write a manifest with score_learned, the probability that the reviewer keeps an image, and next_to_review.

    What it learns from, and what it may propose: see `sides`. Returns the figures.
    Raises RequestError for too few verdicts, and for a request that does not fit the collection.
    """
    started = time.perf_counter()
    with opened(request, only_kept=False) as (collection, extractors):
        extractor = extractors["content"]
        rows = _rows(collection.require_manifest()).take(pa.array(collection.rows))
        kept = np.asarray(manifest.is_kept(rows))
        teaching, candidates = sides(rows)
        verdict_model.require_verdicts(kept[teaching])
        features = features_of(collection.dataset, collection.indices, extractor)
        x = verdict_model.inputs(features, default_score(rows))
        model = verdict_model.fit(x, teaching, kept[teaching], seed=request.seed)
        proposed = verdict_model.propose(x, model.keep, candidates, request.count)
        figures = {
            "images": len(rows),
            "verdicts": {"keep": int(kept[teaching].sum()), "drop": int((~kept[teaching]).sum())},
            "strength": model.strength,
            "held_out": verdict_model.held_out_figures(model.held_out, kept[teaching]),
            "kept": int(kept.sum()),
            "unlikely": int((kept & candidates & (model.keep < 0.5)).sum()),
            "proposed": len(proposed),
        }
        parent = collection.require_manifest()
        parameters = {"count": request.count, "seed": request.seed, "extractor": extractor.identity}
        digest = write_child(
            collection,
            request.out,
            {score_column(LEARNED): pa.array(model.keep), NEXT: _order(proposed, len(rows))},
            command=COMMAND,
            parameters={**parameters, "verdicts": figures["verdicts"]},
            learned={key: figures[key] for key in ("strength", "held_out")},
        )
    seconds = round(time.perf_counter() - started, 3)
    written = {"manifest": str(request.out), "hash": digest, "parent": parent.hash, "seconds": seconds}
    return {**figures, **written, "versions": {"salon": __version__, "scikit-learn": version("scikit-learn")}}


def sides(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of a manifest's rows [M] the places of those whose verdicts teach [n], and the mask [M] of those to ask about.

    All verdicts of persons teach, confirmed ones too, save dropped copies: these may be fine pictures. Images without
    such a verdict are asked about if they are kept, or were dropped for their rank.
    """
    judged, kept = columns.by_person(rows), np.asarray(manifest.is_kept(rows))
    copies = np.zeros(len(rows), bool)
    if "copy_of" in rows.column_names:
        copies = np.asarray(pc.is_valid(rows.column("copy_of")))
    low = np.asarray(pc.starts_with(pc.fill_null(rows.column("reason"), ""), LOW))
    return np.flatnonzero(judged & (kept | ~copies)), ~judged & (kept | low)


def default_score(rows: pa.Table) -> NDArray[np.float64] | None:
    """The rank [M] that salon curate prune goes by without methods; None where the rows have no such scores."""
    names = [score_column(method) for method in RANKING if score_column(method) in rows.column_names]
    return quotas.fuse([columns.floats(rows, name) for name in names]) if names else None


def _rows(parent: Manifest) -> pa.Table:
    # The columns that say who decided what, and the scores.
    wanted = ("name", "verdict", "reason", "reviewer", "copy_of", *map(score_column, RANKING))
    return pa.table({name: parent.column(name) for name in wanted if name in parent.schema.names})


def _order(proposed: NDArray[np.int64], count: int) -> pa.Array:
    # 1 for the image to be asked about first, null for those that are not proposed [M].
    order = np.zeros(count, np.int64)
    order[proposed] = np.arange(1, len(proposed) + 1)
    return pa.array(order, mask=order == 0)
