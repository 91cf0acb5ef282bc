"""AccessTokens: who may ask a server for what: bearer tokens, kept as hashes, each with its scopes."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import get_args

from pydantic import Field

from voxelry.base.files import no_such_file, read_yaml, write_yaml
from voxelry.base.schema import Frozen, parse
from voxelry.errors import ConfigError, UsageError, VoxelryError
from voxelry.serving.token_scopes import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)
_BYTES = 32
"""Random bytes of a token: nobody guesses it, so that a plain SHA-256 of it can be kept."""
_OTHERS = 0o022
"""Bits of a file's mode by which others could change it; reading hashes gives nobody a token."""


class TokenRow(Frozen):
    """A token as it is kept.

    Attributes:
        name: whose it is, as logs name it.
        hash: SHA-256 of the token, in hexadecimal.
        scopes: what it lets its holder ask for.
        created: when.
    """

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: date | None = None


class TokenFile(Frozen):
    """A file of tokens."""

    tokens: tuple[TokenRow, ...] = ()


@dataclass(frozen=True)
class Access:
    """What a token lets its holder do.

    Attributes:
        name: of the token.
        scopes: what may be asked for.
    """

    name: str
    scopes: frozenset[str]


class AccessTokens:
    """The tokens of a server: those of a file, read again when it changes, and one that was given.

    Args:
        token: one for all scopes; None for none.
        file: written by `make_token`; None for none.

    Raises:
        ConfigError: the file is wrong.
        UsageError: others than its owner can change the file.
    """

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        self._given = [] if token is None else [(_hash(token), Access("token", frozenset(SCOPES)))]
        self._file, self._changed = file, -1
        self._rows: list[tuple[bytes, Access]] = []
        self._refresh()

    @property
    def is_needed(self) -> bool:
        """Whether requests must carry one."""
        return bool(self._given) or self._file is not None

    def find(self, token: str) -> Access | None:
        """What a token lets its holder do; None for a wrong one. It takes as long for any of the same number of tokens.

        Args:
            token: as it came.
        """
        self._refresh()
        presented, match = _hash(token), None
        for kept, access in (*self._given, *self._rows):
            if hmac.compare_digest(kept, presented):
                match = access
        return match

    def _refresh(self) -> None:
        """Read the file where it changed; where it cannot be read any more, its tokens are worth nothing."""
        if self._file is None:
            return
        try:
            changed = self._file.stat().st_mtime_ns
            if changed == self._changed:
                return
            rows = [(bytes.fromhex(row.hash), Access(row.name, frozenset(row.scopes))) for row in read_tokens(self._file)]
        except (VoxelryError, OSError) as error:
            if self._changed == -1:
                raise no_such_file(self._file) if isinstance(error, FileNotFoundError) else error from None
            self._rows, self._changed = [], 0
        else:
            self._rows, self._changed = rows, changed


def read_tokens(file: Path) -> tuple[TokenRow, ...]:
    """The tokens of a file.

    Args:
        file: YAML.

    Raises:
        ConfigError: a key or value is wrong.
        MissingFileError: no such file.
        UsageError: others than its owner can change it.
    """
    rows = parse(TokenFile, read_yaml(file), str(file)).tokens
    if file.stat().st_mode & _OTHERS:
        raise UsageError(f"{file}: others can change this file of tokens", remedy=f"Run: chmod go-w {file}.")
    return rows


def make_token(file: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a token and keep its hash.

    Args:
        file: YAML file of tokens, which is made where there is none.
        name: whose it is; a token of that name is replaced.
        scopes: what it lets its holder ask for.

    Returns:
        The token, which is kept nowhere.

    Raises:
        ConfigError: a wrong name or scope.
        MissingFileError: the folder is not there.
    """
    token = secrets.token_urlsafe(_BYTES)
    row = {"name": name, "hash": _hash(token).hex(), "scopes": list(dict.fromkeys(scopes)), "created": date.today()}
    kept = [each.model_dump(mode="json") for each in (read_tokens(file) if file.exists() else ()) if each.name != name]
    added = parse(TokenRow, row, "the token").model_dump(mode="json")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: its folder does not exist", remedy=f"Make it: mkdir -p {file.parent}.")
    if not file.exists():
        file.touch(mode=0o600)
    write_yaml(file, {"tokens": [*kept, added]})
    file.chmod(0o600)
    return token


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
