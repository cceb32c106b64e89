"""What a dataset's files are, as MLCommons Croissant 1.0: JSON-LD in the vocabulary of schema.org.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
ARCHIVE, TABLE, IMAGES = "archive", "images.jsonl", "image-files"
MIME = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_PATTERNS = {"jpeg": ["*.jpg", "*.jpeg"], "png": ["*.png"], "webp": ["*.webp"]}
_TERMS = (
    *("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
    *("replace", "separator", "source", "subField", "transform", "equivalentProperty", "samplingRate"),
)
_CONTEXT: dict[str, Any] = {  # the specification's, appendix 1
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_FIELDS = {
    "label": "Class of the image, by its name.",
    "style": "Style of the painting.",
    "genre": "Genre of the painting.",
    "artist": "Artist of the painting.",
    "verdict": "What curation decided: keep, drop or quarantine.",
}


def describe(
    *,
    name: str,
    description: str,
    license: str,
    creator: str,
    url: str,
    published: str,
    archive: Mapping[str, Any],
    table: Mapping[str, Any],
    formats: Sequence[str],
    columns: Sequence[str],
) -> dict[str, Any]:
    """The metadata. `archive` and `table` have name, size and sha256 of the ZIP and of the JSON Lines about its images,
    which have `columns` beside file_name; `formats` are those of the images.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": description,
        "license": license,
        "creator": {"@type": "Person", "name": creator},
        "url": url,
        "datePublished": published,
        "version": "1.0.0",
        "citeAs": f"{creator}: {name}, {published[:4]}. {url}",
        "distribution": [
            _file(ARCHIVE, archive, "application/zip"),
            _file(TABLE, table, "application/jsonlines"),
            {
                "@type": "cr:FileSet",
                "@id": IMAGES,
                "name": IMAGES,
                "containedIn": {"@id": ARCHIVE},
                "encodingFormat": [MIME[format] for format in formats],
                "includes": [pattern for format in formats for pattern in _PATTERNS[format]],
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "key": {"@id": "images/file_name"},
                "field": [
                    {
                        **_field("file_name", "Name of the image in the ZIP.", "sc:Text"),
                        "source": {"fileSet": {"@id": IMAGES}, "extract": {"fileProperty": "fullpath"}},
                        "references": {"fileObject": {"@id": TABLE}, "extract": {"column": "file_name"}},
                    },
                    {
                        **_field("image", "The image.", "sc:ImageObject"),
                        "source": {"fileSet": {"@id": IMAGES}, "extract": {"fileProperty": "content"}},
                    },
                    *(
                        {
                            **_field(column, _FIELDS[column], "sc:Text"),
                            "source": {"fileObject": {"@id": TABLE}, "extract": {"column": column}},
                        }
                        for column in columns
                    ),
                ],
            }
        ],
    }


def _file(id: str, file: Mapping[str, Any], mime: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": id,
        "name": file["name"],
        "contentUrl": file["name"],
        "contentSize": f"{file['size']} B",
        "encodingFormat": mime,
        "sha256": file["sha256"],
    }


def _field(name: str, description: str, kind: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": f"images/{name}", "name": name, "description": description, "dataType": kind}
