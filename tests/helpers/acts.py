"""Acts: a source of tasks for the toy worker."""

from typing import Any

from voxelry.cohort.supervisor import Task
from voxelry.cohort.worker_process import Message


class Acts:
    """A source of tasks, which records their ends and calls `when` after each."""

    def __init__(self, acts: list[str], when: Any = lambda _: None) -> None:
        self.waiting = [Task(str(number), {"act": act}) for number, act in enumerate(acts)]
        self.results: dict[str, Message] = {}
        self.deaths: dict[str, str] = {}
        self.when = when

    def next(self, worker: str) -> Task | None:
        return self.waiting.pop(0) if self.waiting else None

    def done(self, task: Task, message: Message, peak_memory: int) -> None:
        assert task.id not in self.results | self.deaths
        self.results[task.id] = message
        self.when(self)

    def died(self, task: Task, reason: str, peak_memory: int, is_memory: bool) -> None:
        assert task.id not in self.results | self.deaths
        self.deaths[task.id] = reason

    def beat(self, worker: str) -> None:
        pass
