"""Which versions of a generator's models belong together: those of one export, of one snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass

from gan.errors import RequestError, SalonError
from serving.contract import ENSEMBLES, ModelMetadata


@dataclass(frozen=True)
class ServedFamily:
    """Models of a generator that fit together, by kind; `metadata.version` is the version of each.

    `absent` are kinds that are served in other versions only, as while a server loads new ones.
    """

    models: Mapping[str, ModelMetadata]
    absent: frozenset[str] = frozenset()


def choose(name: str, served: Mapping[str, Mapping[int, ModelMetadata]], version: int | None = None) -> ServedFamily:
    """The models of the generator `name` in the newest version that all have, or in `version`.

    `served` are the versions of each kind. Models that have no version in common are taken in their newest ones where
    these are of one snapshot. Raises RequestError where the version is not served, SalonError where there is no way to
    take all of one snapshot.
    """
    # Ensembles are served in their newest version alone.
    plain = {kind: versions for kind, versions in served.items() if kind not in ENSEMBLES} or served
    common = set.intersection(*(set(versions) for versions in plain.values())) if plain else set()
    if version is not None and version not in common:
        known = ", ".join(map(str, sorted(common))) or "(none that all models have)"
        raise RequestError(f"`model_version` must be one of {known}, which are served of {name}; got {version} instead")
    wanted = version if version is not None else max(common, default=None)
    models = {
        kind: versions[max(versions) if wanted is None else wanted]
        for kind, versions in served.items()
        if wanted is None or wanted in versions
    }
    if len({metadata.snapshot for metadata in models.values()}) > 1:
        told = ", ".join(f"{kind} of {(metadata.snapshot or 'none')[:8]}" for kind, metadata in models.items())
        raise SalonError(f"the models of {name} are of several snapshots ({told}); export it again, and serve that")
    return ServedFamily(models, frozenset(served.keys() - models.keys()))
