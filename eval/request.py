"""What was asked for, kept with the results: the same request goes on in a folder, another one replaces nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from gan.runtime.files import read_json


def require_folder(out: Path) -> None:
    """Raise RequestError when --out is a file."""
    if out.is_file():
        raise RequestError(f"--out must be a folder; got the file {out} instead")


def require_same(file: Path, request: Mapping[str, Any], overwrite: bool) -> None:
    """Raise RequestError when `file` holds the results of another request and --overwrite is not given."""
    if overwrite or not file.exists():
        return
    found = read_json(file)
    there = (found.get("request") if isinstance(found, dict) else None) or {}
    here = json.loads(json.dumps(request))
    if there != here:
        apart = [f"{key} is {there.get(key)} there, {here[key]} here" for key in here if there.get(key) != here[key]]
        why = "; ".join(apart) if there else "it does not say which"
        raise RequestError(f"--out would replace {file} of another request: {why}; choose another, or add --overwrite")
