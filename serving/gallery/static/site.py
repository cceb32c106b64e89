"""A snapshot -> a folder of files that is a gallery on any host of static pages: its page generates the images."""

import base64
import json
import os
import shutil
from pathlib import Path
from string import Template
from typing import Any

from gan import snapshot
from gan.data import xmp
from gan.data.classes import class_name
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.runtime import page
from gan.runtime.files import atomic, refuse_existing, sha256
from gan.sampling.directions import MOST, Directions
from gan.sampling.latents import MAX_SEED
from gan.snapshot import Snapshot
from serving.contract import PSI_RANGE
from serving.gallery.static import networks, runtime
from serving.gallery.static.request import StaticGalleryRequest

INDEX, WORKER, ICON, RUNTIME = "index.html", "worker.js", "gallery.svg", "onnxruntime"
NAMES = {INDEX, WORKER, ICON, RUNTIME, *networks.FILES.values()}  # all that the folder has
SCRIPTS = ("gallery_static.js", "gallery_static_controls.js")
WORKER_SCRIPTS = ("gallery_random.js", "gallery_png.js", "gallery_worker.js")
_OURS, _GALLERY = "serving.gallery.static", "serving.gallery"


def write(request: StaticGalleryRequest) -> dict[str, Any]:
    """Write the folder `request.static`, whole or not at all -> figures.

    Raises RequestError for a request that does not fit the snapshot or would replace what is there, SalonError where
    ONNX Runtime for browsers cannot be downloaded, or a graph does not compute what PyTorch does.
    """
    out = request.static
    _check_place(out, request.overwrite)
    source = snapshot.find(request.snapshot)
    digest = sha256(source.path)
    directions = _moves(_open_directions(request.directions, source, digest), request.directions)
    scripts = runtime.find(request.runtime)
    aside = out.with_name(f".{out.name}.{os.getpid()}.replaced")
    try:
        with atomic(out) as temporary:
            figures = _fill(temporary, source, digest, directions, scripts)
            if out.exists():
                out.rename(aside)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return {"static": str(out), "snapshot": str(source.path), **figures}


def _fill(folder: Path, source: Snapshot, digest: str, directions: dict[str, Any], scripts: Path) -> dict[str, Any]:
    folder.mkdir()
    shutil.copytree(scripts, folder / RUNTIME)
    runtime.copy_licenses(folder / RUNTIME)
    precision = networks.write(source, digest, folder)
    (folder / ICON).write_text(page.read(_GALLERY, ICON), encoding="utf-8")
    (folder / WORKER).write_text(_worker(), encoding="utf-8")
    about = _about(source, digest, folder) | directions
    (folder / INDEX).write_text(_index(about), encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    names = [each["name"] for each in about["directions"]]
    return {"sha256": digest, "weights": precision, "directions": names, "bytes": size}


def _check_place(out: Path, overwrite: bool) -> None:
    inside = sorted(file.name for file in out.iterdir()) if out.exists() else []
    if others := [name for name in inside if name not in NAMES]:
        raise RequestError(f"`static` must be a folder of the gallery's own; {out} holds {others[0]}: choose another")
    refuse_existing([out] if inside else [], overwrite, parameter="static")


def _open_directions(file: Path | None, source: Snapshot, digest: str) -> Directions | None:
    # Of the snapshot itself: another generator of the same shape has other directions.
    if file is None:
        return None
    network = source.config.network
    directions = Directions.open(file, network.num_ws, network.w_dim)
    if directions.snapshot not in (None, digest):
        raise RequestError(
            f"`directions` must be of this snapshot, {digest[:12]}; {file} is of {directions.snapshot[:12]} instead"
        )
    return directions


def _about(source: Snapshot, digest: str, folder: Path) -> dict[str, Any]:
    # What the page and its worker know of the generator.
    network = source.config.network
    recipe = Recipe(
        kind="image",
        noise_mode="const",
        precision="fp32",
        snapshot=digest,
        dataset=source.config.dataset,
        kimg=source.cur_nimg / 1000,
    ).to_dict()
    del recipe["kind"]  # and seeds, which the page adds
    # Addresses that change with what the files hold: hosts let browsers keep old ones for a while.
    graphs = {kind: _address(folder, name) for kind, name in networks.FILES.items()}
    binary = f"{RUNTIME}/{runtime.BINARY}.gz"
    files = {"worker": _address(folder, WORKER), "runtime": _address(folder, binary), **graphs}
    return {
        **{name: getattr(network, name) for name in ("z_dim", "w_dim", "num_ws")},
        **{"width": network.shape.width, "height": network.shape.height, "channels": network.image_channels},
        "classes": [class_name(index, source.classes) for index in range(network.num_classes)],
        "psi": PSI_RANGE,
        "max_seed": MAX_SEED,
        "most": MOST,
        "recipe": recipe,
        "xmp": {"packet": xmp.packet_frame(), "keyword": xmp.PNG_XMP},
        "files": files,
        "bytes": sum((folder / name).stat().st_size for name in (binary, *networks.FILES.values())),
    }


def _moves(directions: Directions | None, file: Path | None) -> dict[str, Any]:
    # What the page and its worker know of directions.
    if directions is None or file is None:
        return {"directions": []}
    rows = [
        {
            "name": each.name,
            "vector": base64.b64encode(each.vector.astype("<f4").tobytes()).decode(),
            "sigma": each.sigma,
            "first": each.first,
            "last": each.last,
        }
        for each in directions.entries.values()
    ]
    return {"directions": rows, "directions_file": sha256(file)}


def _address(folder: Path, name: str) -> str:
    return f"{name}?v={sha256(folder / name)[:8]}"


def _worker() -> str:
    imported = f'import * as ort from "./{RUNTIME}/{runtime.SCRIPT}";\n'
    return "\n".join([imported, *(page.read(_OURS, name) for name in WORKER_SCRIPTS)])


def _index(about: dict[str, Any]) -> str:
    style = "".join(
        page.read(package, name)
        for package, name in ((page.PACKAGE, "page.css"), (_GALLERY, "gallery.css"), (_OURS, "gallery_static.css"))
    )
    script = page.read(page.PACKAGE, "page.js") + "".join(page.read(_OURS, name) for name in SCRIPTS)
    policy = (
        "default-src 'none'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
        f"form-action 'none'; style-src {page.allowed(style)}; script-src {page.allowed(script)}"
    )
    text = json.dumps(about, ensure_ascii=False).replace("<", "\\u003c")  # no name can end the script element
    return page.html(
        "Salon",
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<link rel="icon" href="{ICON}" type="image/svg+xml">\n<style>{style}</style>',
        body=Template(page.read(_OURS, "gallery_static.html")).substitute(title="Salon", script=script, about=text),
    )
