"""SharedPasses: scans that are segmented at the same time, each in its own thread, go through a network in one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class _Wish:
    """Patches of a scan, ``(B, C, *patch)``, and their logits to be."""

    network: Network
    patches: Tensor
    logits: Future[Tensor] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What must be equal for two to be of one batch."""
        return (id(self.network), self.patches.shape[1:], self.patches.dtype, self.patches.device)


class SharedPasses:
    """Where the threads of several scans meet: when each that is not done waits for a network, one batch is run for all.

    Networks are run in the thread that calls `serve`, one batch at a time.

    Args:
        members: number of threads; each calls `leave` at its end.
    """

    def __init__(self, members: int) -> None:
        self._members = members
        self._wishes: list[_Wish] = []
        self._change = threading.Condition()

    def run(self, network: Network, patches_BC: Tensor) -> Tensor:
        """Logits of a member's patches.

        Args:
            network: the network; those of other members that are the same object share its pass.
            patches_BC: ``(B, C, *patch)``.

        Returns:
            ``(B, K, *patch)``; what the network raises is raised.
        """
        wish = _Wish(network, patches_BC)
        with self._change:
            self._wishes.append(wish)
            self._change.notify_all()
        return wish.logits.result()

    def leave(self) -> None:
        """A member is done."""
        with self._change:
            self._members -= 1
            self._change.notify_all()

    def serve(self) -> None:
        """Run what the members wish until the last has left."""
        while wishes := self._next():
            for alike in _groups(wishes):
                _grant(alike)

    def _next(self) -> list[_Wish]:
        """What all members that are left wait for; nothing where none is left."""
        with self._change:
            self._change.wait_for(lambda: len(self._wishes) >= self._members)
            wishes, self._wishes = self._wishes, []
        return wishes


def _groups(wishes: Sequence[_Wish]) -> Iterator[list[_Wish]]:
    """Wishes that one pass can grant, in the order of their first."""
    groups: dict[tuple[Any, ...], list[_Wish]] = {}
    for wish in wishes:
        groups.setdefault(wish.kind, []).append(wish)
    yield from groups.values()


def _grant(wishes: Sequence[_Wish]) -> None:
    """Run wishes of one kind as a batch; each alone, so that its own thread makes do, where the memory does not hold them all."""
    try:
        patches = [wish.patches for wish in wishes]
        logits_BK = wishes[0].network(torch.cat(patches) if len(patches) > 1 else patches[0])
        divided = logits_BK.split([len(each) for each in patches])  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError as error:
        if len(wishes) == 1:
            wishes[0].logits.set_exception(error)
        for wish in wishes if len(wishes) > 1 else ():
            _grant([wish])
    except BaseException as error:  # noqa: BLE001 - whoever waits gets it
        for wish in wishes:
            wish.logits.set_exception(error)
    else:
        for wish, logits in zip(wishes, divided, strict=True):
            wish.logits.set_result(logits)
