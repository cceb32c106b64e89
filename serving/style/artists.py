"""Which artist a file's name names, as WikiArt forms names: `artist-name_title-of-the-work`.

A name alone cannot always tell: "rembrandt_the-night-watch" and "still_life-with-apples" have one form. So an artist
has two words or more, none of which is one of titles and of file names ("still-life", "photo-of"), or is one of those
whom WikiArt knows by one word. All 1,119 artists of the WikiArt lists are found by that.
"""

import re
from pathlib import Path

# All artists of one word in the WikiArt lists, and some whom the lists leave out.
_SINGLE_NAMES = """
afro arman balthus canaletto caravaggio cimabue corneille correggio dadamaino donatello duccio erro erte giorgione
giotto hiroshige mabuse masaccio menez michelangelo parmigianino pinturicchio pisanello raphael rembrandt tintoretto
titian toyen wols
"""
# In no name of the lists.
_NOT_IN_NAMES = """
an and anonymous art artwork at by drawing drawings for from image images img in landscape landscapes life of on or
painting paintings photo photograph photographs photos picture pictures portrait portraits scan scene self sketch study
test to train unknown untitled with without
"""
SINGLE_NAMES, NOT_IN_NAMES = frozenset(_SINGLE_NAMES.split()), frozenset(_NOT_IN_NAMES.split())
NOT_AT_BEGINNING = frozenset(("still", "the"))


def artist_of(name: str) -> str | None:
    """The artist whom a name begins with: "claude-monet_the-sea.jpg" -> "claude-monet"; None where none is sure."""
    artist = _beginning(name)
    words = artist.split("-")
    if len(words) == 1:
        return artist if artist in SINGLE_NAMES else None
    return None if words[0] in NOT_AT_BEGINNING or NOT_IN_NAMES & {*words} else artist


def may_name_artist(name: str) -> bool:
    """Whether a name has the form, though no artist is sure: "still_life-with-apples.jpg", but not "photo_12.jpg"."""
    _, _, title = Path(name).stem.partition("_")
    return bool(_beginning(name)) and artist_of(name) is None and any(c.isalpha() for c in title)


def artist_key(artist: str) -> str:
    """What is equal for one artist in lists and in names: "Claude_Monet", "Claude Monet" -> "claude-monet"."""
    return re.sub(r"[\s_-]+", "-", artist.strip()).casefold()


def _beginning(name: str) -> str:
    # What stands before the first "_", if it has the form of a name and something follows.
    artist, _, title = Path(name).stem.partition("_")
    fits = title and artist.islower() and " " not in artist and not any(map(str.isdecimal, artist))
    return artist if fits else ""
