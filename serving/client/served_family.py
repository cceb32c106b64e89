"""What a server says that it serves, and which versions of a generator's models belong together: of one snapshot."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan.errors import RequestError, SalonError
from serving.client.transport import Transport
from serving.contract import ENSEMBLES, MAX_BATCH, PARAMETER, VERSIONS, ModelMetadata, model_name, served_versions


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


class Catalogue:
    """What a server says that it serves. `ask` makes a call of the transport's, with its retries."""

    def __init__(self, transport: Transport, ask: Callable[[Callable[[float], Any]], Any]) -> None:
        self._transport, self._ask = transport, ask

    def served(self, names: Collection[str] | None = None) -> dict[str, dict[int, ModelMetadata]]:
        """Ready versions of Salon's models by name: of all, or of those named."""
        # First the index: what is loaded after it is not taken, and what a description lacks that is older neither.
        found = {}
        for name, versions in ready_versions(self._ask(self._transport.index)).items():
            if names is None or name in names:
                metadata, known = self.read(name)
                if metadata is not None:
                    newest = max(versions)
                    known = known or {newest: dataclasses.replace(metadata, version=newest)}
                    found[name] = {version: known[version] for version in versions if version in known}
        return {name: versions for name, versions in found.items() if versions}

    def served_kinds(self, generator: str, kinds: Sequence[str]) -> dict[str, dict[int, ModelMetadata]]:
        """The same by kind, of a generator's models. Raises RequestError where a name belongs to another model."""
        names = {model_name(kind, generator): kind for kind in kinds}
        served = self.served(names)
        for name, versions in served.items():
            if versions[max(versions)].kind != names[name]:
                raise RequestError(
                    f"{self._transport.url} serves {name}, which is no {names[name]} of Salon's; choose another `model`"
                )
        return {names[name]: versions for name, versions in served.items()}

    def read(self, name: str) -> tuple[ModelMetadata | None, dict[int, ModelMetadata]]:
        """Metadata of a model's newest version, and of each that is served where the description says so.

        None: it is not of Salon's making. Raises SalonError for metadata that cannot be used.
        """
        config = self._ask(lambda timeout: self._transport.config(name, timeout))
        parameters, max_batch = config.get("parameters", {}), int(config.get("max_batch_size", MAX_BATCH))
        if PARAMETER not in parameters:
            return None, {}
        try:
            metadata = ModelMetadata.from_json(parameters[PARAMETER]["string_value"])
            known = served_versions(parameters[VERSIONS]["string_value"]) if VERSIONS in parameters else {}
        except ValueError as error:
            raise SalonError(f"{name} of {self._transport.url} cannot be used: {error}; export it again") from error
        served = {version: dataclasses.replace(about, max_batch=max_batch) for version, about in known.items()}
        return dataclasses.replace(metadata, max_batch=max_batch), served


def ready_versions(index: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Versions that are ready, by model, of a server's index."""
    versions: dict[str, list[int]] = {}
    for entry in index:
        if entry.get("state") == "READY":
            versions.setdefault(entry["name"], []).append(int(entry["version"]))
    return versions
