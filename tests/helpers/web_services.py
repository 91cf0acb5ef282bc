"""HTTP services in this process: any answers, or DICOMweb over some files."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom import dcmread

JSON = "application/dicom+json"
BOUNDARY = "xxxx"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@contextmanager
def services(answer):
    """Their base address; `answer(method, path, body)` gives status, type and content, and each request is in the list."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(b"")

        def do_POST(self):
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body):
            requests.append((self.command, self.path, self.headers.get("Authorization")))
            status, kind, content, *headers = answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in [("Content-Type", kind), ("Content-Length", str(len(content))), *headers]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def dicomweb_of(files):
    """Answers of an archive that holds one study and one series: QIDO-RS, and WADO-RS of the series."""
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
    rows = [
        {data[name].tag.json_key: {"vr": data[name].VR, "Value": [str(data[name].value)]} for name in keywords}
        for data in headers
    ]
    parts = b"".join(
        b"\r\n--" + BOUNDARY.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() for file in files
    )
    series = f"/series/{headers[0].SeriesInstanceUID}"

    def answer(_, path, __):
        place, _, query = path.partition("?")
        if place.endswith(series):
            return 200, MULTIPART, parts + f"\r\n--{BOUNDARY}--".encode()
        if headers[0].StudyInstanceUID not in path:
            return 200, JSON, b"[]"
        listed = rows if place.endswith("/instances") else rows[:1]
        return 200, JSON, json.dumps([] if "offset=1" in query or f"offset={len(rows)}" in query else listed).encode()

    return answer
