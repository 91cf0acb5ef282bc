"""Certificates for tests of TLS: an authority of their own, made by openssl."""

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, issuer: Path | None = None) -> Path:
    """A PEM file with a certificate for 127.0.0.1 and its key; without an issuer it vouches for itself.

    Args:
        folder: where it goes.
        name: of whom.
        issuer: the PEM file of the authority.
    """
    file = folder / f"{name}.pem"
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    line += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / f"{name}.key")]
    line += ["-out", str(file)]
    if issuer is not None:
        line += ["-CA", str(issuer), "-CAkey", str(issuer), "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    file.write_text(file.read_text() + (folder / f"{name}.key").read_text())
    return file
