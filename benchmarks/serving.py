"""Claims: the server adds less than 5 ms (p50) to an X-ray of 512 x 512 on loopback; 200 clients at once see 200 and 429 alone.

    python benchmarks/serving.py MODEL [--rounds 150] [--seconds 60] [--clients 200] [--together 1,4]

MODEL is a folder of a model of pictures. Overhead: the bare Predictor (read the file, predict) and the server in turn, either
first in half of the rounds, in one process; the figure is the median of the differences, with its bootstrapped 95 % interval. The
networks' time varies by more than the claim, so the same is told of a predictor that gives a prediction it has kept. Load:
clients in threads of another process, each asks again when it is answered (after 0.2 s where it was 429); counts of statuses,
percentiles of answers, and the server's resident memory over time. With --together, instead: answers a second to 8 clients by
size of batches.
"""

import argparse
import io
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import requests
from PIL import Image

import voxelry
from voxelry.serving.access_tokens import AccessTokens
from voxelry.serving.application import Application
from voxelry.serving.request_body import SegmentParameters
from voxelry.serving.segment_answer import answer_of
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_model import load_served
from voxelry.serving.server import ModelServer

MOST_MS = 5.0


def x_ray() -> bytes:
    """A smooth picture of 512 x 512 with noise, as PNG."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:512, :512] / 512
    grey = 120 + 80 * np.sin(6 * rows) * np.cos(5 * columns) + rng.normal(0, 6, (512, 512))
    content = io.BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def clients(url: str, body: bytes, count: int, seconds: float, results) -> None:
    """Ask from many threads until the time is over; statuses and seconds of each answer go to `results`."""
    end, rows, lock = time.monotonic() + seconds, [], threading.Lock()

    def ask() -> None:
        with requests.Session() as session:
            while time.monotonic() < end:
                began = time.perf_counter()
                try:
                    status = session.post(url, data=body, timeout=120).status_code
                except requests.RequestException as error:
                    status = type(error).__name__
                with lock:
                    rows.append((status, time.perf_counter() - began))
                if status == 429:
                    time.sleep(0.2)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(rows)


def overhead(served, url: str, body: bytes, file: Path, rounds: int) -> tuple[float, float, float]:
    """Milliseconds that the server adds: the median, and its 95 % interval; medians of each part are printed."""
    times: dict[str, list[float]] = {"bare": [], "server": [], "answer": []}

    def bare() -> None:
        began = time.perf_counter()
        prediction = served.predictor.predict(voxelry.read(file))
        middle = time.perf_counter()
        answer_of(prediction, SegmentParameters(), served.task)
        times["answer"].append(time.perf_counter() - middle)
        times["bare"].append(middle - began)

    with requests.Session() as session:

        def server() -> None:
            began = time.perf_counter()
            session.post(url, data=body, timeout=60).raise_for_status()
            times["server"].append(time.perf_counter() - began)

        for number in range(rounds + 5):
            for work in (bare, server)[:: 1 if number % 2 else -1]:
                work()
    milliseconds = {name: 1000 * np.array(values[5:]) for name, values in times.items()}
    print(" ".join(f"{name} {np.median(values):.2f} ms" for name, values in milliseconds.items()), end=", ")
    added = milliseconds["server"] - milliseconds["bare"]
    drawn = np.random.default_rng(0).choice(added, (2000, len(added)))
    return float(np.median(added)), *map(float, np.quantile(np.median(drawn, axis=1), [0.025, 0.975]))


@contextmanager
def kept_prediction(served, file: Path):
    """The model gives the same prediction again and again, in no time."""
    prediction = served.predictor.predict(voxelry.read(file))
    served.predictor.predict = lambda *_: replace(prediction)  # a copy, whose segments are not known yet
    yield
    del served.predictor.predict


@contextmanager
def serving(models, **changes):
    """A server of some models: its address."""
    address, listening = [], threading.Event()
    limits = ServeLimits(rate=1e6, burst=1e6, **changes)
    with tempfile.TemporaryDirectory() as folder:
        application = Application(models, Path(folder) / "jobs", limits)
        server = ModelServer(
            application, "127.0.0.1", 0, AccessTokens(), limits, lambda url: (address.append(url), listening.set())
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        listening.wait()
        yield address[0]
        server.handle_exit(15, None)
        thread.join()


def load(url: str, body: bytes, count: int, seconds: float) -> tuple[Counter, np.ndarray, list[float]]:
    """Statuses, sorted seconds of answers, and resident MiB over time, while clients of another process ask."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=clients, args=(url, body, count, seconds, results))
    process.start()
    memory, own = [], psutil.Process()
    while process.is_alive() and results.empty():
        memory.append(own.memory_info().rss / 2**20)
        time.sleep(seconds / 20)
    rows = results.get()
    process.join()
    return Counter(status for status, _ in rows), np.sort([taken for status, taken in rows if status == 200]), memory


def batches(models, body: bytes, sizes: list[int], seconds: float) -> None:
    """Requests a second by the size of batches, each twice, in turn."""
    for size in sizes * 2:
        with serving(models, together=size) as url:
            counts, times, _ = load(url, body, 8, seconds)
        rate = f"{len(times) / seconds:.2f} answers a second, p50 {np.median(times):.2f} s, p99 {np.quantile(times, 0.99):.2f} s"
        print(f"together {size}: {rate}, statuses {dict(counts)}, load {psutil.getloadavg()[0]:.1f}", flush=True)


def main() -> int:
    """Run both, or compare batches; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--together", type=lambda text: [int(size) for size in text.split(",")])
    given = parser.parse_args()
    models, body = load_served([given.model], "cpu"), x_ray()
    served = next(iter(models.values()))
    if given.together:
        batches(models, body, given.together, given.seconds)
        return 0
    with tempfile.TemporaryDirectory() as folder, serving(models) as url:
        file = Path(folder) / "x.png"
        file.write_bytes(body)
        with kept_prediction(served, file):
            print("kept prediction: added {:.2f} ms at p50 ({:.2f} to {:.2f})".format(*overhead(served, url, body, file, 300)))
        added = overhead(served, url, body, file, given.rounds)
        print("added {:.2f} ms at p50 ({:.2f} to {:.2f})".format(*added), f"(claim: below {MOST_MS:g})", flush=True)
        counts, seconds, memory = load(url, body, given.clients, given.seconds)
    print("statuses", dict(counts), f"{len(seconds) / given.seconds:.1f} answers a second")
    print("seconds of an answer: p50 {:.2f} p99 {:.2f} most {:.2f}".format(*np.quantile(seconds, [0.5, 0.99, 1])))
    print("resident MiB over time:", " ".join(f"{value:.0f}" for value in memory))
    holds = added[0] < MOST_MS and set(counts) <= {200, 429}
    verdict = "holds" if holds else "REFUTED"
    print(f"voxelry {voxelry.__version__}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}: {verdict}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
