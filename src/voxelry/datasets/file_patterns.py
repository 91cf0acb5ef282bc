"""File patterns of a manifest: ids from file names, and files with any ending (``images/{id}.*``)."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from pathlib import Path

from voxelry.errors import ManifestError
from voxelry.formats.detection import header_beside
from voxelry.formats.table import claims_image, stem_of

ANY_ENDING = ".*"
"""The end of a pattern that stands for every ending of the table of formats."""

Claim = Callable[[str], bool]
"""Takes a file name and tells whether its ending is one that is wanted."""


def check_pattern(pattern: str) -> str:
    """The pattern as it is.

    Raises:
        ValueError: ``*`` stands elsewhere than for the ending.
    """
    if "*" in pattern.removesuffix(ANY_ENDING):
        raise ValueError(f"'{pattern}' contains a *, which may only stand for the ending, as in 'images/{{id}}.*'")
    return pattern


def find_ids(pattern: str, root: Path) -> list[str]:
    """The ids for which a pattern of images names an existing file; hidden files are ignored.

    Args:
        pattern: relative to the root; where it ends in ``.*``, files of every ending of an image count.
        root: the folder that it starts from.

    Returns:
        Ids in sorted order, each once.
    """
    folder, _, _ = pattern.partition("{id}")[0].rpartition("/")
    base = root / folder
    name_pattern = pattern[len(folder) :].lstrip("/")
    free = name_pattern.endswith(ANY_ENDING)
    first, *others = (re.escape(text) for text in name_pattern.removesuffix(ANY_ENDING if free else "").split("{id}"))
    regex = re.compile(f"{first}(?P<id>[^/.][^/]*){'(?P=id)'.join(others)}")
    candidates = base.glob(glob.escape(name_pattern.removesuffix(ANY_ENDING)).replace("{id}", "*") + (ANY_ENDING if free else ""))
    files = (file for file in candidates if not free or _is_wanted(file, claims_image))
    paths = (file.relative_to(base).with_name(stem_of(file)) if free else file.relative_to(base) for file in files)
    return sorted({match["id"] for path in paths if (match := regex.fullmatch(path.as_posix()))})


class FileFinder:
    """Finds the one file of each pattern; folders are listed once, so that thousands of cases cost one listing.

    Args:
        where: the manifest's file, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._listings: dict[Path, dict[str, list[Path]]] = {}

    def find(self, path: Path, claim: Claim) -> Path:
        """The file that a path means: itself, or where it ends in ``.*`` the only file of that stem whose ending is wanted.

        Args:
            path: path of a file that need not exist.
            claim: which endings are wanted: `claims_image` or `claims_labels`.

        Returns:
            The file; the path as it is where there is none.

        Raises:
            ManifestError: several files fit.
        """
        if not path.name.endswith(ANY_ENDING):
            return path
        stem = path.name.removesuffix(ANY_ENDING)
        files = [file for file in self._listing(path.parent).get(stem, ()) if _is_wanted(file, claim)]
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise ManifestError(
                f"{self.where}: {len(files)} files fit {path}: {names}", remedy="Write the ending into the pattern, or keep one."
            )
        return files[0] if files else path

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
