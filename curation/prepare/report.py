"""The figures of a preparation, and of a dataset, as text for a person."""

from typing import Any

from gan.image_shape import KINDS, ImageShape
from gan.runtime.console import in_options, table

BAR = 40  # characters of the longest bar
SHOWN = 3  # examples of quarantined images per reason
LOSSES = {  # what becomes of images that are of another shape
    "cropped": "{images:,} cropped, by {mean:.1%} of a side on average, {largest:.1%} at most",
    "stretched": "{images:,} stretched, {mean:.2f} times on average, {largest:.2f} at most",
    "padded": "{images:,} padded, by {mean:.1%} of a side on average, {largest:.1%} at most",
}


def preparation(figures: dict[str, Any]) -> str:
    """The printed report of `salon prepare`."""
    if "buckets" in figures:
        return "\n\n".join(_bucket(name, found) for name, found in figures["buckets"].items())
    quarantined = sum(figures["quarantined"].values())
    scenes = f"{figures['same_scene']:,} of the same scene, " if figures["same_scene"] else ""
    lines = [
        f"{figures['images']:,} images kept of {figures['found']:,} found: "
        f"{figures['duplicates']:,} duplicates, {scenes}{figures['unlabelled']:,} without a label, "
        f"{quarantined:,} quarantined; {figures['ignored']:,} other files ignored"
    ]
    if figures["crops"]:
        lines.append(f"{figures['crops']:,} images are crops of originals that are large enough")
    if videos := figures["videos_ignored"]:
        lines.append(in_options(f"{videos:,} videos ignored; `video_every`, the seconds between frames, reads them"))
    for reason, count in figures["quarantined"].items():
        examples = [entry["source"] for entry in figures["quarantined_images"] if entry["reason"] == reason]
        more = ", ..." if count > SHOWN else ""
        lines.append(f"  {reason}: {count:,} ({', '.join(examples[:SHOWN])}{more})")
    if figures["wikiart"]:
        counts = (f"{name.replace('_', ' ')} {count:,}" for name, count in figures["wikiart"].items())
        lines.append(f"WikiArt lists: {', '.join(counts)}")
    lines += ["Modes: " + ", ".join(f"{mode} {count:,}" for mode, count in figures["modes"].items()), ""]
    lines += ["Width : height of the originals", _bars(figures["aspects"])]
    lines += [*_fates(figures), "", *_chosen(figures)]
    for title, bars in (("Labels", figures["labels"]), ("Genres", figures["genres"])):
        if bars:
            lines += [title, _bars(bars), ""]
    notes = []
    if empty := figures["labels_empty"]:
        more = ", ..." if len(empty) > SHOWN else ""
        notes.append(f"{len(empty):,} classes have no image: {', '.join(empty[:SHOWN])}{more}")
    if figures["labels_unused"]:
        notes.append(f"{figures['labels_unused']:,} rows of the labels file match no image")
    if figures["labels_loosely"]:
        notes.append(f"{figures['labels_loosely']:,} images match a row of the labels file by a similar name alone")
    lines += [*notes, ""] if notes else []
    ratio = "" if figures["ratio"] is None else f", {figures['ratio']:.2f} times the size"  # videos are not counted
    lines.append(
        f"{_megabytes(figures['bytes_in'])} in -> {_megabytes(figures['bytes_out'])} out"
        f"{ratio}; {figures['seconds']:.1f} s, "
        f"{figures['images_per_second']:,.0f} images/s"
    )
    lines.append(f"Wrote {figures['archive']}" if figures["archive"] else "Dry run: nothing was written")
    return "\n".join(lines)


def genres(figures: dict[str, Any]) -> str:
    """The table of a selection from the WikiArt lists."""
    rows = [(name, f"{count:,}") for name, count in figures["genres"].items()]
    lines = [table([*rows, ("all", f"{figures['images']:,}")], ["genre", "images"])]
    lines.append(f"\n{figures['without_genre']:,} images have no genre in the lists")
    for conflict in figures["conflicts"]:
        lines.append("{path} is {kept} and {other} in the {kind} lists; counted as {kept}".format(**conflict))
    return "\n".join(lines)


def dataset(figures: dict[str, Any]) -> str:
    """The text of `salon dataset info`."""
    rows = [
        ("images", f"{figures['images']:,}"),
        ("shape", str(ImageShape(figures["width"], figures["height"], figures["channels"]))),
        *((f"{name} files", f"{f['files']:,}, {_megabytes(f['bytes'])}") for name, f in figures["formats"].items()),
        ("fingerprint", figures["fingerprint"]),
    ]
    if figures["manifest"]:
        verdicts = ", ".join(f"{name} {count:,}" for name, count in figures["manifest"]["verdicts"].items())
        fits = "" if figures["manifest"]["fits"] else " (of another dataset)"
        rows.append(("manifest", f"{figures['manifest']['path']}{fits}: {verdicts}"))
    lines = ["\n".join(f"{name:<12} {value}" for name, value in rows)]
    lines.append(f"\nClasses\n{_bars(figures['classes'])}" if figures["classes"] else "classes      none")
    if figures["montage"]:
        lines.append(f"Wrote {figures['montage']}")
    return "\n".join(lines)


def joined(figures: dict[str, Any]) -> str:
    """The text of `salon dataset join`."""
    return (
        f"Wrote {figures['manifest']}: {figures['images']:,} images of {figures['zips']:,} ZIPs, "
        f"{figures['rows']:,} rows. Hash {figures['hash'][:12]}"
    )


def _bucket(name: str, figures: dict[str, Any] | None) -> str:
    title = name.capitalize()
    if figures is None:
        return f"{title}: no images, and nothing was written"
    return f"{title}: {_shape(figures)}\n{preparation(figures)}"


def _shape(figures: dict[str, Any]) -> ImageShape:
    return ImageShape(figures["width"], figures["height"], figures["channels"])


def _fates(figures: dict[str, Any]) -> list[str]:
    """How the images came to be of one shape."""
    lines = []
    square, options = figures["width"] == figures["height"], figures["parameters"]
    if square:
        fate = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}[options["fit"]]
        count = figures["beyond_1.5_to_1"]
        share = f"{count / figures['images']:.1%}"
        lines.append(f"Beyond 1.5:1 in either direction: {count:,} ({share}), {fate} to a square")
    if square and "max_crop" not in options:
        return lines
    told = [text.format(**figures[name]) for name, text in LOSSES.items() if figures[name]["images"]]
    return [*lines, f"To {_shape(figures)}: {'; '.join(told) or 'nothing is lost'}"]


def _chosen(figures: dict[str, Any]) -> list[str]:
    """What the headers decided."""
    look = figures["look"]
    if look is None:
        return []
    lines = []
    kinds = {kind: count for kind, count in look["kinds"].items() if count}
    if set(kinds) != {KINDS[3]}:
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        lines.append(f"Channels: {KINDS[figures['channels']]}; of the files looked at {told or 'none'}")
    if look["shapes"]:
        rows = [(one["shape"], f"{one['cropped']:.1%}", f"{one['stretched']:.2f}") for one in look["shapes"]]
        of = f"{look['looked_at']:,} of {look['of']:,} files"
        lines.append(f"Shapes that lose least, by {of}: what cropping would cut off on average, or the mean stretch")
        lines.append(table(rows, ["shape", "cropped", "stretched"]))
        if look["cropped_in_buckets"] < look["shapes"][0]["cropped"]:
            lines.append(in_options(f"With `buckets`, each of its own shape, {look['cropped_in_buckets']:.1%}"))
    return [*lines, ""] if lines else []


def _bars(counts: dict[str, int]) -> str:
    if not counts:
        return ""
    largest, width = max(*counts.values(), 1), max(len(name) for name in counts)
    digits = len(f"{largest:,}")
    return "\n".join(
        f"  {name:<{width}}  {count:>{digits},}  {'#' * (-(-count * BAR // largest))}".rstrip()
        for name, count in counts.items()
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
