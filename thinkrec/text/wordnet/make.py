"""Make the table again from WordNet's own files: python -m thinkrec.text.wordnet.make /usr/share/wordnet thinkrec/data/wordnet

Debian's package wordnet-base (1:3.0) has them. The same files give the same bytes.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from thinkrec.text.wordnet.table import EXCEPTIONS, PARTS_OF_SPEECH, SYNSETS

POS_FILE_NAMES = dict(zip(PARTS_OF_SPEECH, ("noun", "verb", "adj", "adv"), strict=True))
MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand; no part of the word


def make(source: Path, target: Path) -> None:
    """Write both files of the table from data.* and *.exc in `source`."""
    _write(target / SYNSETS, (f"{pos} {' '.join(words)}" for pos in PARTS_OF_SPEECH for words in _synsets(source, pos)))
    _write(target / EXCEPTIONS, (f"{pos} {line}" for pos, name in POS_FILE_NAMES.items() for line in _text(source / f"{name}.exc")))


def _synsets(source: Path, pos: str) -> Iterator[tuple[str, ...]]:
    """The words of each synset that the table keeps; of a synset of one word only that it is a word, and that once.

    Of several words ("comic_strip") it keeps only those that an irregular form ("comics") leads to; METEOR itself passes them over.
    """
    bases = {base for line in _text(source / f"{POS_FILE_NAMES[pos]}.exc") for base in line.split()[1:]}
    lines = [line for line in _text(source / f"data.{POS_FILE_NAMES[pos]}") if line[0].isdigit()]
    found = sorted({tuple(word for word in _words(line) if "_" not in word or word.lower() in bases) for line in lines} - {()})
    with_synonyms = {word for words in found if len(words) > 1 for word in words}
    return (words for words in found if len(words) > 1 or words[0] not in with_synonyms)


def _words(line: str) -> tuple[str, ...]:
    """A data line is: offset, file, type, number of words (hexadecimal), then a word and a sense number each."""
    parts = line.split()
    return tuple(MARKER.sub("", word) for word in parts[4 : 4 + 2 * int(parts[3], 16) : 2])


def _text(file: Path) -> list[str]:
    return file.read_text(encoding="ascii").splitlines()


def _write(file: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    file.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
