"""File patterns of a manifest: ids from file names, and files by pattern (``images/*/{id}_*.nii.gz``, ``images/{id}.*``)."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path

from voxelry.errors import ManifestError
from voxelry.formats.detection import header_beside
from voxelry.formats.table import claims_image, stem_of

ID = "{id}"
ANY_ENDING = ".*"
"""The end of a pattern that stands for every ending of the table of formats."""

Claim = Callable[[str], bool]
"""Takes a file name and tells whether its ending is one that is wanted."""

_TOKENS = re.compile(r"\{id\}|\*\*/|\*+")
_SHOWN = 5


def find_ids(pattern: str, root: Path, claim: Claim = claims_image) -> list[str]:
    """The ids for which a pattern names an existing file; hidden files are ignored.

    Args:
        pattern: relative to the root, with {id}. A ``*`` stands for any part of a name, ``**`` for any number of folders; where
            the pattern ends in ``.*``, files of every ending of an image count.
        root: the folder that it starts from.
        claim: which endings are wanted where the pattern does not say: `claims_image` or `claims_labels`.

    Returns:
        Ids in sorted order, each once.
    """
    return sorted({id for id, _ in matching_files(pattern, root, claim)})


def matching_files(pattern: str, root: Path, claim: Claim = claims_image) -> Iterator[tuple[str, Path]]:
    """Id and file of every file that a pattern fits; arguments as of `find_ids`."""
    folder, _, _ = re.split(r"\{id\}|\*", pattern, maxsplit=1)[0].rpartition("/")
    base, name_pattern = root / folder, pattern[len(folder) :].lstrip("/")
    free = name_pattern.endswith(ANY_ENDING)
    regex = _regex(name_pattern.removesuffix(ANY_ENDING) if free else name_pattern)
    for file in _visible(base, name_pattern):
        path = file.relative_to(base)
        match = regex.fullmatch((path.with_name(stem_of(path)) if free else path).as_posix())
        if match and (not free or _is_wanted(file, claim)):
            yield match["id"], file


def files_beside(pattern: str, root: Path) -> Iterator[Path]:
    """The visible files in the folders that a pattern names, whatever their names."""
    folder, separator, _ = pattern.rpartition("/")
    for file in _visible(root, f"{folder}{separator}*"):
        if file.is_file():
            yield file


def _visible(base: Path, pattern: str) -> list[Path]:
    """What a pattern fits below a folder, in order; only ``*`` and {id} are wildcards, and neither starts with a dot."""
    plain = "".join("*" if text == ID else text if text.startswith("*") else glob.escape(text) for text in _pieces(pattern))
    return [base / name for name in sorted(glob.glob(plain, root_dir=base, recursive=True))]  # noqa: PTH207 - Path's takes dots


def _pieces(pattern: str) -> list[str]:
    """A pattern cut into its wildcards and the texts between them."""
    cuts = [0, *(edge for match in _TOKENS.finditer(pattern) for edge in match.span()), len(pattern)]
    return [pattern[begin:end] for begin, end in pairwise(cuts) if begin < end]


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern as an expression, whose group ``id`` is the id."""
    text, is_first = "", True
    for piece in _pieces(pattern):
        if piece == ID:
            text += "(?P<id>[^/.][^/]*)" if is_first else "(?P=id)"
            is_first = False
        elif piece == "**/":
            text += "(?:[^/]+/)*"
        else:
            text += "[^/]*" if piece.startswith("*") else re.escape(piece)
    return re.compile(text)


class FileFinder:
    """Finds the one file of each pattern; folders are listed once, so that thousands of cases cost one listing.

    Args:
        where: the manifest's file, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._listings: dict[Path, dict[str, list[Path]]] = {}

    def find(self, path: Path, claim: Claim, besides: Collection[Path] = ()) -> Path:
        """The file that a path means: itself, or where it has a ``*`` the only file that fits.

        Args:
            path: path of a file that need not exist; with ``.*`` at its end the file's ending is one that is wanted.
            claim: which endings are wanted: `claims_image` or `claims_labels`.
            besides: files that are not meant, such as the masks beside the images.

        Returns:
            The file; the path as it is where there is none.

        Raises:
            ManifestError: several files fit.
        """
        files = [file for file in self._fitting(path, claim) if file not in besides]
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:_SHOWN]) + (" ..." if len(files) > _SHOWN else "")
            raise ManifestError(
                f"{self.where}: {len(files)} files fit {path}: {names}",
                remedy="Write the ending, or more of the name, into the pattern, or keep one.",
            )
        return files[0] if files else path

    def find_all(self, path: Path, claim: Claim) -> list[Path]:
        """Every file that a path with a ``*`` means, in order; as `find` otherwise."""
        return self._fitting(path, claim)

    def _fitting(self, path: Path, claim: Claim) -> list[Path]:
        free = path.name.endswith(ANY_ENDING)
        plain = path.with_name(path.name.removesuffix(ANY_ENDING)) if free else path
        if "*" in str(plain):
            files = _visible(Path(path.anchor), path.relative_to(path.anchor).as_posix())
            return [file for file in files if not free or (stem_of(file) and _is_wanted(file, claim))]
        if not free:
            return [path]
        return [file for file in self._listing(plain.parent).get(plain.name, ()) if _is_wanted(file, claim)]

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        """The visible files of a folder by their stems."""
        if folder not in self._listings:
            stems: dict[str, list[Path]] = {}
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if not file.name.startswith("."):
                    stems.setdefault(stem_of(file), []).append(file)
            self._listings[folder] = stems
        return self._listings[folder]


def _is_wanted(file: Path, claim: Claim) -> bool:
    """The ending is wanted, and the file is no second file of an image in two."""
    return claim(file.name) and header_beside(file) == file
