"""The file that the demo runs."""

from pathlib import Path

import jinja2

from gan.data.images import refuse_images
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import atomic
from serving.pipeline import config

NAME = "demo.toml"
TARGET = "impressionism"  # a style of gan.data.synthetic_styles


def write(folder: Path, images: Path | None, shape: str | None = None) -> Path:
    """Write the demo's file into `folder`, for made-up paintings or for a folder of images -> its path.

    `shape` is that of curation.prepare.request.PrepareRequest.

    A file that is there stays as it is, unless nothing was made yet from its other images. Folders inside `images` are
    taken for styles; a style whose name holds that of TARGET, or else the first, is the one to check for. Raises
    RequestError when `images` is no folder or empty, or when `folder` holds images, or a demo of others.
    """
    styles: list[str] = []
    if images is not None:
        if not images.is_dir():
            raise RequestError(f"`data` must be a folder of images; got {images} instead")
        if not any(inside.is_file() for inside in images.rglob("*")):
            raise RequestError(f"`data` must be a folder of images; {images} is empty")
        styles = sorted(inside.name for inside in images.iterdir() if inside.is_dir())
    several = images is None or len(styles) > 1
    target = next((style for style in styles if TARGET in style.lower()), styles[0] if several and styles else TARGET)
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = None if images is None else str(images.resolve())
    text = environment.get_template("demo.toml.j2").render(
        images=source,
        styles=several,
        target=target if several else None,
        shape=shape,
        sized=shape is not None and "x" in shape,
    )
    file = folder / NAME
    if not file.exists():
        refuse_images(folder)
    before = config.load(file).get("images") if file.exists() else None
    if before != source and any((folder / "stages").glob("*.json")):
        raise RequestError(f"`out` {folder} holds a demo of {before or 'made-up paintings'}; choose another `out`")
    if before != source or not file.exists():
        with atomic(file) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text + "\n":
        say(f"{file} differs from what the demo would write, and stays as it is")
    return file
