"""Directions that a server offers with a generator: read from the description of its mapping."""

import base64
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from gan.errors import RequestError, SalonError
from gan.sampling.directions import Directions
from serving.contract import DIRECTIONS, DIRECTIONS_FILE, ModelMetadata, model_name


def content_of(config: dict[str, Any], mapping: ModelMetadata) -> bytes:
    """The file of the directions of a version of a mapping, of the model's `config` as a Transport gives it.

    Raises SalonError where it is not the one that was exported, or not there, as when it is served no longer.
    """
    try:
        files = json.loads(config["parameters"][DIRECTIONS]["string_value"])
        (text,) = files.values() if mapping.version is None else [files[str(mapping.version)]]
        content = base64.b64decode(text, validate=True)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _unusable(mapping, "are not there") from error
    if hashlib.sha256(content).hexdigest() != mapping.directions:
        raise _unusable(mapping, "are not those that were exported")
    return content


def read(content: bytes, mapping: ModelMetadata) -> Directions:
    """Directions of such a file. Raises SalonError where it holds none of the generator's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DIRECTIONS_FILE
        path.write_bytes(content)
        try:
            return Directions.open(path, mapping.num_ws or 0, mapping.w_dim or 0)
        except RequestError as error:
            raise _unusable(mapping, "cannot be read") from error


def _unusable(mapping: ModelMetadata, state: str) -> SalonError:
    name = model_name(mapping.kind, mapping.generator) if mapping.generator else mapping.kind
    return SalonError(f"the directions of {name} {state}; export it again with directions, and serve that")
