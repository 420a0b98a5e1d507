"""Readings four times a second: what the daemon says, and what the kernel says about the same processes."""

import threading
import time
from pathlib import Path

INTERVAL_S = 0.25
METRICS = [
    "worker.footprint",
    "worker.compressed",
    "worker.wired",
    "system.compressed",
    "system.compressed_logical",
    "system.swap_used",
    "system.stall",
]
# What the kernel says: VmSwap of all workers together, of the serving one, and of the neighbour.
WITNESSED = ["kernel.workers", "kernel.worker", "kernel.neighbour"]


def swapped_bytes(pid):
    """VmSwap of a process; 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmSwap:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


class Watch:
    """A thread that fills `rows` until the end of the block. Times are the wall clock's, as in the daemon's events."""

    def __init__(self, service, group):
        self.service, self.group = service, group
        # Set while there is one.
        self.neighbour = None
        self.rows = []
        self.marks = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.read_on, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()

    def mark(self, kind, label):
        self.marks.append((time.time(), kind, label))

    def read_on(self):
        while not self.ending.wait(INTERVAL_S):
            try:
                self.rows.append(self.read())
            except (OSError, ValueError, KeyError):
                pass

    def read(self):
        status = self.service.status()
        memory, worker = status["memory"], status["worker"]
        row = {"at": time.time(), "state": status["state"]}
        row.update({metric: memory.get(metric) for metric in METRICS})
        process = self.neighbour
        neighbour = process.pid if process else None
        members = [pid for pid in self.group.processes.read_text().split() if int(pid) != neighbour]
        row["kernel.workers"] = sum(map(swapped_bytes, members))
        row["kernel.worker"] = swapped_bytes(worker["pid"]) if worker else 0
        row["kernel.neighbour"] = swapped_bytes(neighbour) if neighbour else 0
        row["rules"] = {rule["name"]: rule["state"] for rule in status["rules"]}
        return row

    def latest(self, column):
        values = [row[column] for row in self.rows[-8:] if row[column] is not None]
        return values[-1] if values else 0
