"""What int8 costs in Dice and gains in speed: a model exported by NNCF, beside PyTorch and OpenVINO in float32 and bfloat16.

    python benchmarks/int8.py MODEL CARD [--json FILE]

Exports MODEL as `openvino-int8` into a temporary folder (ranges from the training cases of CARD, Dice on its validation cases)
and prints what `self_test.json` states. Seconds are medians of 7 passes of one patch, with as many threads as processors; the
claim (a factor of 1.5 over the fastest of the others, at a loss of at most 0.01 of Dice) is printed with the outcome, and the
exit code is 1 where it does not hold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import voxelry as vx

FACTOR, LOSS = 1.5, 0.01


def main() -> None:
    """Export, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("card", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        exported = vx.export_model(
            arguments.model, Path(place) / "int8", format="openvino-int8", calibration=arguments.card, progress=print
        )
        facts = json.loads((exported.folder / "self_test.json").read_text())
    for name, seconds in facts["seconds"].items():
        print(f"{name:>18}: {seconds * 1000:8.1f} ms a patch")
    for name, (before, after) in facts["dice"].items():
        print(f"{name:>18}: Dice {before:.4f} in float32, {after:.4f} in int8")
    holds = facts["speedup"] >= FACTOR and facts["loss"] <= LOSS
    share = facts["agreement"]["share"]
    print(f"speedup {facts['speedup']:.2f} (claim {FACTOR}), loss {facts['loss']:.4f}, agreement {share:.4%}: {holds}")
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1))
    raise SystemExit(0 if holds else 1)


if __name__ == "__main__":
    main()
