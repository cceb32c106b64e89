"""The mark and the recipe of a generated picture, as its file holds them; a recipe is a dict of gan.data.recipe.Recipe.

The mark is IPTC's DigitalSourceType trainedAlgorithmicMedia, in XMP, which programs that ask for it read; of a picture
that shows a real image beside a generated one it is compositeWithTrainedAlgorithmicMedia. The recipe is JSON in the
same XMP, and a sentence in dc:description, in PNGs also in a text chunk. MP4 and GIF have it as a comment.

It stands alone: a Triton server's Python has Pillow and this file, and no Salon.
"""

import html
import json
from collections.abc import Sequence
from typing import Any

from PIL import PngImagePlugin

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
COMPOSITES = ("projection",)  # kinds of recipes whose pictures show a real image, too
NAMESPACE = "urn:salon:recipe:1.0/"
PNG_XMP = "XML:com.adobe.xmp"
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:salon="{namespace}"
    Iptc4xmpExt:DigitalSourceType="{mark}"
    xmp:CreatorTool="{tool}"
    salon:recipe="{recipe}">
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{sentence}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def mark(recipe: dict[str, Any]) -> str:
    """The DigitalSourceType of a recipe's picture."""
    return COMPOSITE if recipe["kind"] in COMPOSITES else TRAINED


def sentence(recipe: dict[str, Any]) -> str:
    """For a person to read."""
    kind, seeds, columns = recipe["kind"], recipe.get("seeds", []), recipe.get("columns", [])
    of = {"mix": "style mixing of", "image": "style mixing of" if columns else "image of"}.get(kind, f"{kind} of")
    rows = recipe.get("rows", [])
    parts = [f"{of} {_named(seeds, 'seed')}" if seeds else kind]
    if rows:
        parts = [f"{of} {_named(rows, 'row')} of ws {recipe.get('ws', '')[:12]}"]
    if columns:
        lent = f"seeds {_numbers(columns)}"
        if "columns_ws" in recipe:
            lent = f"rows {_numbers(columns)} of ws {recipe['columns_ws'][:12]}"
        parts.append(f"with layers {_numbers(recipe.get('layers', []))} of {lent}")
    if edits := recipe.get("edits"):
        amounts = ", ".join(f"{name} {amount:+g}" for name, amount in edits.items())
        parts.append(f"edited by {amounts} of directions {recipe.get('directions', '')[:12]}")
    for name, text in (("class_name", "class {}"), ("truncation_psi", "truncation psi {:g}"), ("model", "model {}")):
        if name in recipe:
            parts.append(text.format(recipe[name]))
    if "snapshot" in recipe:
        parts.append(f"snapshot {recipe['snapshot'][:12]}")
    made = "Generated" if mark(recipe) == TRAINED else "A real image beside one generated"
    return f"{made} by a trained model with Salon {recipe['salon']}: {', '.join(parts)}."


def packet(recipe: dict[str, Any]) -> str:
    """XMP with the mark, the recipe and the sentence."""
    texts = {"recipe": _json(recipe), "sentence": sentence(recipe), "tool": f"Salon {recipe['salon']}"}
    escaped = {name: html.escape(text) for name, text in texts.items()}
    return packet_frame(mark=mark(recipe), **escaped)


def packet_frame(
    recipe: str = "{recipe}", sentence: str = "{sentence}", tool: str = "{tool}", *, mark: str = TRAINED
) -> str:
    """XMP with the mark, around three escaped texts; by default around their names in braces, for others to fill in."""
    return _PACKET.format(namespace=NAMESPACE, mark=mark, recipe=recipe, sentence=sentence, tool=tool)


def comment(recipe: dict[str, Any]) -> str:
    """What files without XMP have: the sentence, the mark and the recipe, each on a line."""
    return f"{sentence(recipe)}\nDigitalSourceType: {mark(recipe)}\n{_json(recipe)}"


def save_options(recipe: dict[str, Any], format: str) -> dict[str, Any]:
    """What Pillow's save takes of it, for a file of the format jpeg, png, webp or gif."""
    if format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("Software", f"Salon {recipe['salon']}")
        info.add_itxt("Description", sentence(recipe))
        info.add_itxt(PNG_XMP, packet(recipe))
        return {"pnginfo": info}
    return {"comment": comment(recipe)} if format == "gif" else {"xmp": packet(recipe).encode()}


def _json(recipe: dict[str, Any]) -> str:
    return json.dumps(recipe, ensure_ascii=False)


def _named(numbers: Sequence[int], unit: str) -> str:
    return f"{unit if len(numbers) == 1 else unit + 's'} {_numbers(numbers)}"


def _numbers(numbers: Sequence[int]) -> str:
    # 0, 1, 2, 3, 7 -> 0-3, 7
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:12])
    return shown + (", ..." if len(runs) > 12 else "")
