"""Metrics that look into the generator: path length, from images that are never rounded to pixels, and separability.

Path lengths are kept in shards as features are; of several processes each measures its share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.data import feature_cache
from eval.data.feature_cache import folder_name, load_arrays, save_arrays, shard_count
from eval.data.reference import Reference
from eval.data.snapshot_source import SnapshotSource
from eval.metric_registry import BLOCKS, Result, identity_of
from eval.metrics import attributes
from eval.metrics.confidence_intervals import Vector, linear_jackknife
from eval.metrics.feature_stats import Features
from eval.metrics.lpips import Lpips
from eval.metrics.path_length import PERCENTILES, path_distances, path_length
from eval.metrics.result_key import Identity
from eval.metrics.separability import linear_separability
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress
from gan.runtime.files import sha256
from gan.sampling import generate as sampling


@dataclass(frozen=True, kw_only=True)
class PathLength:
    """What is measured, and by which weights of LPIPS; see eval.metrics.path_length."""

    vgg: Path
    linear: Path
    space: str = "w"
    sampling: str = "end"
    crop: bool = False

    def identity(self, n: int) -> Identity:
        """Of a result of n paths; no reference is in it."""
        return Identity(
            metric="ppl",
            extractor="lpips-vgg",
            preprocess="-".join([self.space, self.sampling, *(["crop"] if self.crop else [])]),
            precision="fp32",
            backend="torch",
            weights=f"{sha256(self.vgg)} {sha256(self.linear)}",
            reference="none",
            reference_n=0,
            n=n,
            options={"epsilon": 1e-4},
        )


def path_lengths(source: SnapshotSource, what: PathLength, out: Path, batch_size: int) -> Result | None:
    """Measure len(source) paths, the i-th from the seeds 2i and 2i + 1 after the source's first.

    All processes must call it; the main one gets the result.
    """
    identity = what.identity(len(source))
    folder = out / "features" / folder_name({"images": source.identity, "paths": identity.to_dict()})
    files = [folder / f"paths-{shard:05d}.npz" for shard in range(shard_count(len(source)))]
    waiting = [
        shard for shard in range(distributed.rank(), len(files), distributed.world_size()) if not files[shard].exists()
    ]
    lpips = Lpips.load(what.vgg, what.linear).to(next(source.G.parameters()).device) if waiting else None
    for shard in progress(waiting, "Path lengths", len(waiting), f"x {feature_cache.SHARD} paths"):
        assert lpips is not None
        first = shard * feature_cache.SHARD
        end = min(first + feature_cache.SHARD, len(source))
        seed = source.seed + 2 * first
        distances = path_distances(
            source.G,
            lpips=lpips,
            space=what.space,
            sampling=what.sampling,
            crop=what.crop,
            num_samples=end - first,
            seed=seed,
            batch_size=batch_size,
            classes=source.classes(range(seed, seed + 2 * (end - first), 2)),
        )
        save_arrays(files[shard], {"distances": distances})
    distributed.anyone(False)
    if not distributed.is_main():
        return None
    every: Vector = np.concatenate([load_arrays(file)["distances"] for file in files])
    estimate = path_length(every)
    # How a trimmed mean feels each of its values (Huber 1981): as far as the percentiles, not beyond.
    influence = np.clip(every, *np.percentile(every, PERCENTILES)) / (1 - 2 * PERCENTILES[0] / 100)
    replicates = linear_jackknife(estimate.value, influence, BLOCKS) if len(every) > 1 else None
    return Result(identity=identity, estimate=estimate, replicates=replicates)


def separability(source: SnapshotSource, reference: Reference, gen: Features, strata: Sequence[str | None]) -> Result:
    """Linear separability in W of the strata, which a classifier learns from the real images' features.

    Raises RequestError when there are fewer than two strata.
    """
    known = np.array([index for index, name in enumerate(strata) if name is not None], np.int64)
    if (count := len({strata[index] for index in known})) < 2:
        raise RequestError(f"`metrics` ls needs `strata` with two or more values; got {count}")
    names, classify = attributes.learn(reference.features.take(known), [str(strata[index]) for index in known])
    probabilities = np.concatenate([classify(block) for _, block in gen.blocks()])  # [N, names]
    seeds = source.seeds(0, len(source))
    latents = []
    for first in range(0, len(seeds), feature_cache.SHARD):
        some = seeds[first : first + feature_cache.SHARD]
        ws = sampling.map_seeds(source.G, some, source.classes(some), truncation_psi=source.truncation_psi)
        latents.append(ws[:, 0].cpu().numpy())  # [n, w_dim]
    score, _ = linear_separability(np.concatenate(latents), probabilities, names)
    identity = identity_of("ls", reference, len(source), {"space": "w", "attributes": names})
    return Result(identity=identity, estimate=score)
