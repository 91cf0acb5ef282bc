"""A run that is killed again and again: a process trains, and dies by its own hand or its parent's.

    python killed.py FOLDER SEED KILLS TYPE

The parent imports once and forks; half of the children kill themselves at a chosen moment of writing a checkpoint, the others are
killed from outside, a random time after a random number of steps. The last one is let live. What each kill left is told in a line
of JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from helpers.training_cases import loop
from voxelry.networks import cost
from voxelry.training import checkpoint
from voxelry.training.checkpoint import CHECKPOINT_FILE, load_checkpoint

STEPS, MILESTONES = 160, 32
MOMENTS = ("half a checkpoint", "before the rename", "before the history")


def training(folder: Path, dtype: torch.dtype):
    """The run, from its last checkpoint where there is one; three voxels wide in its last stage."""
    torch.set_num_threads(1)
    cost.compute_dtype = lambda *_: dtype
    optimiser = {"ema": 0.9, "accumulate": 2}
    run = loop(folder, 3, steps=STEPS, validations=MILESTONES, optimiser=optimiser, patch_size=(12, 12, 12))
    assert run.dtype == dtype
    if (folder / CHECKPOINT_FILE).exists():
        run.restore(load_checkpoint(folder))
    return run


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(moment: str, count: int) -> None:
    """Die at the `count`-th checkpoint from now."""
    save, write, calls = torch.save, checkpoint._write_history, []

    def saving(content, sink):
        calls.append(sink)
        save(content, sink)
        if len(calls) == count and moment != "before the history":
            if moment == "half a checkpoint":
                os.ftruncate(sink.file.fileno(), sink.tell() // 2)
            die()

    def writing(state, folder):
        if len(calls) == count:
            die()
        write(state, folder)

    torch.save, checkpoint._write_history = saving, writing


def child(folder: Path, dtype: torch.dtype, moment: str | None, count: int, told: int) -> None:
    if moment is not None:
        die_while_writing(moment, count)
    training(folder, dtype).run(lambda _: os.write(told, b"."))
    os._exit(0)


def main(folder: Path, seed: int, kills: int, dtype: torch.dtype) -> None:
    training(folder / "nowhere", dtype)  # imports all that children need; nothing is written
    draw, left = random.Random(seed), []
    while True:
        last = len(left) == kills
        moment = None if last or draw.random() < 0.5 else draw.choice(MOMENTS)
        count, steps, seconds = draw.randint(1, 2), draw.randint(1, 14), draw.uniform(0, 0.05)
        tell, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(folder, dtype, moment, count, told)
        os.close(told)
        if moment is None and not last:
            for _ in range(steps):
                os.read(tell, 1)
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(tell)
        if os.WIFEXITED(status):
            break
        step = load_checkpoint(folder).step if (folder / CHECKPOINT_FILE).exists() else 0
        left.append({"moment": moment or "any", "step": step})
    sys.stdout.write(json.dumps({"kills": left, "status": os.WEXITSTATUS(status)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), getattr(torch, sys.argv[4]))
