"""The WikiArt lists: small ones with all the irregularities, and the real ones where they are at hand."""

import os
import zipfile
from pathlib import Path

import pytest

from curation.prepare.archives import member_name
from curation.prepare.find_images import find
from curation.prepare.match_names import base_name, loose_name
from curation.prepare.wikiart import Painting, WikiArt, genre_counts
from gan.errors import RequestError

NONE: dict[str, tuple[str, ...]] = {}
STYLES = "0 Art_Nouveau\n1 Impressionism\n2 Post_Impressionism\n"
GENRES = "0 cityscape\n1 landscape\n2 still_life\n"
ARTISTS = "0 Claude_Monet\n1 Vincent_van_Gogh\n"


def write_lists(folder: Path) -> Path:
    """Lists as odd as the real ones."""
    files = {
        "Style/style_class.txt": STYLES,
        "Style/style_train.csv": "Impressionism/claude-monet_lilies.jpg,1\r\n"
        "Impressionism/joaquã\xadn-sorolla_beach.jpg,1\r\n"
        "Art_Nouveau_Modern/carl-larsson_a-late-riser(1).jpg,0\r\n"
        "Post_Impressionism/van-gogh_[untitled], o'keeffe.jpg,2\r\n",
        "Style/style_val.csv": "Impressionism/same-name.jpg,1\r\nPost_Impressionism/same-name.jpg,2\r\n"
        "Impressionism/claude-monet_lilies.jpg,1\r\n",
        "Genre/genre_class": GENRES,
        "Genre/genre_train.csv": "Impressionism/claude-monet_lilies.jpg,1\r\n",
        "Genre/genre_val.csv": "Impressionism/claude-monet_lilies.jpg,2\r\nImpressionism/same-name.jpg,1\r\n"
        "Impressionism/joaquã\xadn-sorolla_beach.jpg,x\r\n",
        "Artist/artist_class": ARTISTS,
        "Artist/artist_train": "(Path to image),, (Groundtruth class) \n\nImpressionism/claude-monet_lilies.jpg,,0\n",
        "Artist/artist_val": "(Path to image),, (Groundtruth class)\n\n"
        "Post_Impressionism/van-gogh_[untitled], o'keeffe.jpg,,1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture
def lists(tmp_path: Path) -> WikiArt:
    return WikiArt(write_lists(tmp_path))


def find_one(lists: WikiArt, file: str) -> Painting | None:
    (found,) = lists.find([file])
    return found.painting


def test_irregular_rows(lists: WikiArt) -> None:
    assert len(lists.paintings) == 6
    lilies = find_one(lists, "Impressionism/claude-monet_lilies.jpg")
    assert lilies and (lilies.style, lilies.genre, lilies.artist) == ("Impressionism", "landscape", "Claude_Monet")
    comma = find_one(lists, "Post_Impressionism/van-gogh_[untitled], o'keeffe.jpg")
    assert comma and comma.artist == "Vincent_van_Gogh" and comma.genre is None


def test_first_row_wins_and_the_others_are_counted(lists: WikiArt) -> None:
    assert [(c.kind, c.kept, c.other) for c in lists.conflicts] == [("genre", "landscape", "still_life")]
    assert lists.repeats == 1
    assert lists.malformed == 1


def test_latin_1_lists(tmp_path: Path) -> None:
    file = write_lists(tmp_path) / "Style/style_train.csv"
    file.write_bytes("Impressionism/joaquín-sorolla_beach.jpg,1\r\n".encode("latin-1"))
    assert find_one(WikiArt(tmp_path), "Impressionism/joaquín-sorolla_beach.jpg")


@pytest.mark.parametrize(
    "name",
    [
        "joaquã\xadn-sorolla_beach.jpg",
        "joaquín-sorolla_beach.jpg",
        "joaqui\u0301n-sorolla_beach.jpg",
        "JOAQUÃ\xadN-Sorolla_beach.JPG",
        "joaqun-sorolla_beach.jpg",
        "joaqun_sorolla-beach.jpg",
    ],
)
def test_names_are_found_in_any_encoding(lists: WikiArt, name: str) -> None:
    (found,) = lists.find([f"Impressionism/{name}"])
    assert found.painting and found.painting.path == "Impressionism/joaquã\xadn-sorolla_beach.jpg"
    assert found.by_path and found.loosely == (name != "joaquã\xadn-sorolla_beach.jpg")


def test_zip_member_without_the_utf8_flag(tmp_path: Path) -> None:
    name = "Impressionism/joaquã\xadn-sorolla_beach.jpg"
    entry = zipfile.ZipInfo(name.encode().decode("cp437"))
    assert entry.flag_bits & 0x800 == 0
    assert member_name(entry) == name
    flagged = zipfile.ZipInfo(name)
    flagged.flag_bits |= 0x800
    assert member_name(flagged) == name
    spoilt = zipfile.ZipInfo("caf\u00e9.jpg")  # cp437's own é is no UTF-8: the name stays
    assert member_name(spoilt) == "café.jpg"


def test_unflagged_zip_on_disk(tmp_path: Path) -> None:
    name = "Impressionism/joaquã\xadn-sorolla_beach.jpg".encode()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x" * len(name), b"")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"x" * len(name), name))
    (file,) = find([tmp_path / "a.zip"], tmp_path / "scratch").files
    assert file.name.encode() == name
    assert file.folder == "Impressionism"


def test_base_name_is_enough_where_it_is_unique(lists: WikiArt) -> None:
    names = ("claude-monet_lilies.jpg", "same-name.jpg", "unknown.jpg")
    lilies, same, unknown = lists.find([f"anywhere/{name}" for name in names])
    assert lilies.painting and not lilies.by_path and not lilies.loosely
    assert same.painting is None and same.ambiguous
    assert unknown.painting is None and not unknown.ambiguous
    found = find_one(lists, "Post_Impressionism/same-name.jpg")
    assert found and found.style == "Post_Impressionism"


def test_a_name_that_two_files_resemble_is_neither_s(lists: WikiArt) -> None:
    one, other = lists.find(["Impressionism/joaquín-sorolla_beach.jpg", "Impressionism/joaquún-sorolla_beach.jpg"])
    assert one.painting is None and other.painting is None
    exact, other = lists.find(["Impressionism/claude-monet_lilies.jpg", "Impressionism/claude-monet-lilies.jpg"])
    assert exact.painting and not exact.loosely and other.painting is None


@pytest.mark.parametrize("name", ["Art_Nouveau", "art nouveau", "ART-NOUVEAU", "Art_Nouveau_Modern"])
def test_style_by_class_or_by_folder(lists: WikiArt, name: str) -> None:
    (painting,) = lists.select({"style": (name,)})
    assert painting.path.startswith("Art_Nouveau_Modern/")


def test_or_within_an_option_and_between_options(lists: WikiArt) -> None:
    assert len(lists.select({"style": ("Impressionism", "Art_Nouveau")})) == 4
    assert len(lists.select({"style": ("Impressionism",), "genre": ("landscape",)})) == 2
    assert len(lists.select({"style": ("Impressionism",), "genre": ("landscape",), "artist": ("claude monet",)})) == 1
    assert len(lists.select(NONE)) == 6


def test_unknown_name_is_answered_with_near_ones(lists: WikiArt) -> None:
    with pytest.raises(RequestError, match=r"`style` must be .* got Impresionism instead: did you mean Impressionism"):
        lists.select({"style": ("Impresionism",)})
    with pytest.raises(RequestError, match="The names are cityscape, landscape, still_life"):
        lists.select({"genre": ("zzz",)})


def test_genre_counts_tell_those_without(lists: WikiArt) -> None:
    assert genre_counts(lists.paintings) == {"(none)": 4, "landscape": 2}


@pytest.mark.parametrize("name", ["Style/style_class.txt", "Genre/genre_val.csv", "Artist/artist_train"])
def test_missing_list_is_named(tmp_path: Path, name: str) -> None:
    (write_lists(tmp_path) / name).unlink()
    with pytest.raises(RequestError, match=f"lacks {Path(name).stem}"):
        WikiArt(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="`wikiart_csv` must be the folder"):
        WikiArt(tmp_path / "nothing")


def test_class_file_of_something_else(tmp_path: Path) -> None:
    (write_lists(tmp_path) / "Genre/genre_class").write_text("landscape\n")
    with pytest.raises(RequestError, match="must hold lines such as '0 landscape'; got 'landscape' instead"):
        WikiArt(tmp_path)


real = Path(os.environ.get("SALON_TEST_DATA", "/nonexistent")) / "data" / "wikiart_csv"
needs_lists = pytest.mark.skipif(not real.is_dir(), reason="SALON_TEST_DATA does not name the WikiArt lists")


@pytest.fixture(scope="module")
def real_lists() -> WikiArt:
    return WikiArt(real)


@needs_lists
def test_real_lists(real_lists: WikiArt) -> None:
    assert len(real_lists.paintings) == 81_446
    assert [len(real_lists.classes[kind]) for kind in ("style", "genre", "artist")] == [27, 10, 23]
    (conflict,) = real_lists.conflicts
    assert (conflict.path, conflict.kept, conflict.other) == (
        "Post_Impressionism/maurice-de-vlaminck_the-village.jpg",
        "cityscape",
        "landscape",
    )
    assert real_lists.malformed == 0


@needs_lists
def test_keys_of_the_real_names_do_not_collide(real_lists: WikiArt) -> None:
    assert len({loose_name(painting.path) for painting in real_lists.paintings}) == 81_446
    names = {base_name(painting.path) for painting in real_lists.paintings}
    assert sum(found.ambiguous for found in real_lists.find([f"x/{name}" for name in names])) == 1349


@needs_lists
def test_real_names_are_found_whatever_their_signs(real_lists: WikiArt) -> None:
    paintings = real_lists.paintings[::7]
    found = real_lists.find([painting.path.replace("-", "_") for painting in paintings])
    assert [one.painting for one in found] == paintings


@needs_lists
def test_genres_of_the_real_impressionism(real_lists: WikiArt) -> None:
    counts = genre_counts(real_lists.select({"style": ("impressionism",)}))
    assert list(counts.items()) == [
        ("landscape", 4365),
        ("genre_painting", 2669),
        ("portrait", 1899),
        ("cityscape", 1545),
        ("(none)", 1528),
        ("still_life", 431),
        ("nude_painting", 360),
        ("sketch_and_study", 244),
        ("religious_painting", 18),
        ("illustration", 1),
    ]
    assert sum(counts.values()) == 13_060


@needs_lists
def test_the_real_folder_art_nouveau_modern(real_lists: WikiArt) -> None:
    assert len(real_lists.select({"style": ("Art_Nouveau_Modern",)})) == 4334
