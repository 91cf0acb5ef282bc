"""A worker without a network: does what each order says, for tests of the supervisor."""

import json
import os
import socket
import sys
import time

connection = socket.socket(fileno=int(sys.argv[-1]))
lines = connection.makefile("r")


def tell(**message: object) -> None:
    """Send one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


if "refuse" in sys.argv:
    tell(event="refused", error="no such model")
seconds = [part for word in sys.argv if word.startswith("seconds=") for part in word.partition("=")[2].split(",")]
if "die" in sys.argv:
    sys.exit("cannot start")
if "never" in sys.argv:
    time.sleep(1000)
tell(event="ready")
for line in lines:
    order = json.loads(line)
    if order["do"] == "stop":
        break
    if order["do"] == "measure":
        if (told := seconds[order["threads"] - 1]) == "die":
            sys.exit("cannot measure")
        tell(event="measured", seconds=float(told))
        continue
    if order["do"] == "keep":
        tell(event="ready")
        continue
    act = order["act"]
    tell(event="stage", id=order["id"], stage="predict")
    if "mortal" in sys.argv:
        os.kill(os.getpid(), 9)
    if act == "nap":
        time.sleep(0.2)
    if act == "segfault":
        os.kill(os.getpid(), 11)
    if act == "exit":
        sys.exit("codec gave up")
    if act == "hang":
        time.sleep(1000)
    if act == "hog":
        hog = b"x" * 400_000_000
        time.sleep(1000)
    if act == "once" and order["attempt"] == 1:
        os.kill(os.getpid(), 6)
    if act == "memory" and order["attempt"] == 1:
        tell(event="failed", id=order["id"], error="memory ran out", is_memory=True)
        continue
    if act == "error":
        tell(event="failed", id=order["id"], error="not an image")
        continue
    tell(event="done", id=order["id"], pid=os.getpid(), attempt=order["attempt"], alone=order["alone"])
