"""NodeSettings: the file of the DICOM node: where it listens, who may call, which series go to which model, results to whom."""

from __future__ import annotations

import ssl
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from voxelry.base.files import read_yaml
from voxelry.base.schema import Frozen, parse
from voxelry.errors import ConfigError, nearest
from voxelry.formats.dicom.elements import text_of
from voxelry.formats.table import all_formats
from voxelry.pacs.pacs_address import PacsCaller, check_ae_title, parse_address, tls_context

_DICOM = ".dcm"


class NodeCaller(Frozen):
    """Who may call: an AE title, from an address or a network such as 10.1.0.0/16."""

    ae_title: str
    address: str

    @field_validator("address")
    @classmethod
    def _is_network(cls, value: str) -> str:
        ip_network(value, strict=False)
        return value

    def covers(self, address: str) -> bool:
        """Whether an IP address is one of its."""
        return ip_address(address.removeprefix("::ffff:")) in ip_network(self.address, strict=False)


class NodeTls(Frozen):
    """PEM files: our certificate, its key, and the authority by which callers and archives are believed."""

    certificate: Path
    key: Path | None = None
    authority: Path | None = None


class NodeRoute(Frozen):
    """Which series go to which model, and where its results go; what is None fits all.

    Attributes:
        modality: as in the header.
        description, body_part: of the series, with the wildcards * and ?; case does not count.
        series: which volume of a series that holds several, as `read` takes it, such as ``largest``.
        model: name of a model that is served.
        formats: names of DICOM formats.
        to: address of an archive, as `voxelry send` takes it.
    """

    modality: str | None = None
    description: str | None = None
    body_part: str | None = None
    series: str | None = None
    model: str
    formats: tuple[str, ...] = Field(default=("dicom-seg",), min_length=1)
    to: str

    def fits(self, header: Any) -> bool:
        """Whether an instance is of a series that goes this way.

        Args:
            header: its elements.
        """
        wanted = {"Modality": self.modality, "SeriesDescription": self.description, "BodyPartExamined": self.body_part}
        return all(
            pattern is None or fnmatchcase(text_of(header, keyword).casefold(), pattern.casefold())
            for keyword, pattern in wanted.items()
        )


class NodeSettings(Frozen):
    """The DICOM node.

    Attributes:
        ae_title: by which it is called, and calls.
        host, port: where it listens.
        callers: who may call.
        tls: encrypts what comes in; None does not.
        quiet: seconds without an instance after which a series is complete, once nobody is connected who sent some of it.
        archive: of whom is asked how many instances a series has, where its headers do not say; None for nobody.
        routes: the first that fits takes a series; one that none fits is refused.
    """

    ae_title: str = "VOXELRY"
    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)
    callers: tuple[NodeCaller, ...] = Field(min_length=1)
    tls: NodeTls | None = None
    quiet: float = Field(default=10.0, ge=0, le=3600)
    archive: str | None = None
    routes: tuple[NodeRoute, ...] = Field(min_length=1)

    def route_of(self, header: Any) -> NodeRoute | None:
        """The first route that fits an instance."""
        return next((route for route in self.routes if route.fits(header)), None)

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether who calls itself by a title may call from an address."""
        return any(each.ae_title == ae_title and each.covers(address) for each in self.callers)

    def knows(self, address: str) -> bool:
        """Whether anyone may call from an address."""
        return any(each.covers(address) for each in self.callers)

    def server_tls(self) -> ssl.SSLContext | None:
        """What encrypts connections to the node; where an authority is named, callers need a certificate of it.

        Raises:
            UsageError: a PEM file cannot be used.
        """
        if self.tls is None:
            return None
        context = tls_context(ssl.Purpose.CLIENT_AUTH, self.tls.certificate, self.tls.key, self.tls.authority)
        context.verify_mode = ssl.CERT_NONE if self.tls.authority is None else ssl.CERT_REQUIRED
        return context

    def caller(self, token: str | None) -> PacsCaller:
        """Who sends results.

        Args:
            token: bearer token for DICOMweb.
        """
        tls = self.tls
        if tls is None:
            return PacsCaller(self.ae_title, token)
        return PacsCaller(self.ae_title, token, tls.certificate, tls.key, tls.authority)


def read_node_settings(file: Path, models: tuple[str, ...]) -> NodeSettings:
    """The settings in a file.

    Args:
        file: YAML; PEM files are named from its folder.
        models: names of the models that are served.

    Raises:
        ConfigError: a key or value is wrong, or a route names a model that is not served.
        MissingFileError: no such file.
    """
    settings = parse(NodeSettings, read_yaml(file), str(file))
    check_ae_title(settings.ae_title)
    if settings.archive is not None:
        parse_address(settings.archive)
    for route in settings.routes:
        parse_address(route.to)
        if route.model not in models:
            raise ConfigError(f"{file}: no model '{route.model}' is served", remedy=nearest(route.model, models))
        written = [name for name, row in all_formats().items() if row.write_labels and row.ending.endswith(_DICOM)]
        for name in route.formats:
            if name not in written:
                raise ConfigError(f"{file}: '{name}' is no DICOM format", remedy=nearest(name, written))
    if settings.tls is None:
        return settings
    paths = {key: path and file.parent / path for key, path in dict(settings.tls).items()}
    return settings.model_copy(update={"tls": NodeTls(**paths)})
