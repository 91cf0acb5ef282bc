"""A real archive, Orthanc, alone in a network namespace of its own, and the DICOMweb client that talks to it there.

Orthanc 1.10.1 listens on every address, whatever is configured, so that it and its clients run with a loopback only. This
file is also the client: ``python orthanc.py send FILE...``, ``fetch STUDY FOLDER``, ``known STUDY``.
"""

import ctypes
import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

PORT = 8042
DICOM_PORT = 4242
AE_TITLE = "ORTHANC"
CALLERS = {"VOXELRY": 11112, "NODE": 11113}
"""AE title -> port of those that Orthanc knows and sends to."""
CLONE_NEWNET = 0x40000000
PLUGINS = Path("/usr/share/orthanc/plugins")
SECONDS_TO_START = 60
AS_STORED = (("application/dicom", "*"),)
"""Transfer syntaxes that are taken back: any."""


def lacking() -> str:
    """Why no archive can be started here, empty where one can."""
    programs = [name for name in ("Orthanc", "unshare", "nsenter", "ip") if shutil.which(name) is None]
    if programs:
        return f"the archive Orthanc cannot be started: {', '.join(programs)} not installed"
    if not any(PLUGINS.glob("libOrthancDicomWeb*")):
        return "the archive Orthanc has no DICOMweb plugin (orthanc-dicomweb)"
    tried = subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "the archive Orthanc needs a network namespace, which may not be made here"


class Archive:
    """A running Orthanc.

    Args:
        folder: an empty folder for its database and log.
    """

    def __init__(self, folder: Path) -> None:
        settings = folder / "orthanc.json"
        settings.write_text(
            json.dumps(
                {
                    "Name": "voxelry tests",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "HttpPort": PORT,
                    "DicomServerEnabled": True,
                    "DicomAet": AE_TITLE,
                    "DicomPort": DICOM_PORT,
                    "DicomCheckCalledAet": True,
                    "DicomModalities": {
                        name.lower(): {"AET": name, "Host": "127.0.0.1", "Port": port} for name, port in CALLERS.items()
                    },
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "UnknownSopClassAccepted": True,
                    "Plugins": [str(PLUGINS)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        with (folder / "log").open("wb") as log:
            line = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec Orthanc "$0"', str(settings)]
            self.process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
        self._await()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def web(self) -> str:
        """Its DICOMweb services, for clients `inside`."""
        return f"http://127.0.0.1:{PORT}/dicom-web"

    @property
    def dimse(self) -> str:
        """Its DIMSE address, for clients `inside`."""
        return f"dicom://{AE_TITLE}@127.0.0.1:{DICOM_PORT}"

    @contextmanager
    def inside(self):
        """This thread, and those that it starts, are in the archive's network for as long as the block lasts."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(handle: int) -> None:
            if libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

        with (
            Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as own,
            Path(f"/proc/{self.process.pid}/ns/net").open() as other,
        ):
            enter(other.fileno())
            try:
                yield self
            finally:
                enter(own.fileno())

    def send(self, *files: Path) -> list[str]:
        """Store files (STOW-RS), and give the SOPInstanceUIDs that were refused."""
        return self._client("send", *map(str, files))

    def fetch(self, study: str, folder: Path) -> dict[str, Path]:
        """Retrieve a study (WADO-RS) into a folder: SOPInstanceUID -> file."""
        folder.mkdir()
        return {uid: Path(file) for uid, file in self._client("fetch", study, str(folder)).items()}

    def known(self, study: str) -> set[str]:
        """The SOPInstanceUIDs of a study (QIDO-RS)."""
        return set(self._client("known", study))

    def _await(self) -> None:
        for _ in range(SECONDS_TO_START):
            try:
                self._client("hello")
            except RuntimeError:
                if self.process.poll() is not None:
                    raise
                time.sleep(1)
            else:
                return
        self.stop()
        raise RuntimeError("Orthanc did not answer")

    def _client(self, *words: str):
        line = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", sys.executable, __file__, *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return json.loads(done.stdout.splitlines()[-1])


def _main(verb: str, *words: str) -> None:
    from urllib.request import urlopen

    from dicomweb_client.api import DICOMwebClient
    from pydicom import dcmread

    url = f"http://127.0.0.1:{PORT}"
    client = DICOMwebClient(url=f"{url}/dicom-web")
    if verb == "hello":
        with urlopen(f"{url}/system", timeout=10) as answer:
            result = json.load(answer)["Version"]
    elif verb == "send":
        refused = []
        for file in words:
            told = client.store_instances([dcmread(file)])
            refused += [str(item.ReferencedSOPInstanceUID) for item in told.get("FailedSOPSequence", [])]
        result = refused
    elif verb == "fetch":
        result = {}
        for number, data in enumerate(client.retrieve_study(words[0], media_types=AS_STORED)):
            file = Path(words[1]) / f"{number:03d}.dcm"
            data.save_as(file, enforce_file_format=True)
            result[str(data.SOPInstanceUID)] = str(file)
    else:
        result = [one["00080018"]["Value"][0] for one in client.search_for_instances(words[0])]
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
