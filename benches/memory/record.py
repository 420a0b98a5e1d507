"""Records a trace: what `mlxsupd` measured for an hour and more, while worker and machine went through quiet and trouble.

`make trace` builds everything and runs it as root. The trace goes to target/bench-memory/linux.trace, in the format of
tests/traces; RECORD_SCALE=0.1 makes everything ten times as short.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import time

from experiment import ENDINGS, MODEL, PROGRAMS, WORK, Settings, end, short_home
from machine import MIB, Group, Refused, Zram, check
from scenarios import config, neighbour_in, rule_fired, wall
from service import Service

STEP_S = 5
# What happens, for how many seconds: the neighbour is there, so many clients ask one request after the other.
DAY = [
    ("left alone", 480, False, 0),
    ("two clients", 720, False, 2),
    ("left alone beside the neighbour", 900, True, 0),
    ("two clients beside the neighbour", 720, True, 2),
    ("left alone beside the neighbour", 420, True, 0),
    ("the neighbour is gone, two clients", 420, False, 2),
    ("left alone", 300, False, 0),
]
# Told, and nothing done about it: the trace is to show what the worker would have suffered.
RULE = 'when = [{ metric = "worker.compressed", above = "128MiB", clear_below = "64MiB" }]\nfor = "10s"\naction = ["warn"]\ncooldown = "1m"'
QUESTIONS = ["What is the capital of France?", "Tell me the story of a lighthouse.", "Why is the sky blue? Explain it at length."]


class Recording:
    """Instants and what changed since the one before."""

    def __init__(self, service):
        self.service = service
        self.begun = time.time()
        self.known = {}
        self.lines = []

    def clock(self, at):
        seconds = max(0, round(at - self.begun))
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def remark(self, text, at=None):
        self.lines.append(f"# {self.clock(time.time() if at is None else at)} {text}")

    def take(self):
        memory = self.service.status()["memory"]
        changed = {}
        for metric in sorted(memory.keys() | self.known.keys()):
            value = rounded(memory.get(metric))
            if value != self.known.get(metric):
                changed[metric] = value
        self.known.update(changed)
        pairs = " ".join(f"{metric}={value}" for metric, value in changed.items())
        if pairs:
            self.lines.append(f"{self.clock(time.time())} {pairs}")


def rounded(value):
    """Four digits are more than any rule asks for."""
    return "-" if value is None else f"{value:.4g}"


class Neighbourless:
    """`neighbour_in` tells a watch what it does; nobody watches here."""

    neighbour = None

    @staticmethod
    def mark(*_):
        pass


def keep_asking(service, ending, seed, failures):
    dice = random.Random(seed)
    while not ending.is_set():
        answer = service.ask(dice.randrange(16, 160), dice.choice(QUESTIONS))
        if answer.failure is not None:
            failures.append(answer.failure)
        ending.wait(dice.uniform(1, 8))


def live(recording, seconds, clients, failures):
    """One part of the day."""
    ending = threading.Event()
    threads = [
        threading.Thread(target=keep_asking, args=(recording.service, ending, seed, failures)) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            recording.take()
            time.sleep(STEP_S)
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def record(service, group, settings, scale):
    recording, failures = Recording(service), []
    service.ask(settings.tokens)
    with contextlib.ExitStack() as beside:
        is_beside = False
        for what, seconds, neighbour, clients in DAY:
            if is_beside and not neighbour:
                beside.close()
            recording.remark(what)
            print(f"  {recording.lines[-1][2:]}, {seconds * scale:.0f} s", flush=True)
            if neighbour and not is_beside:
                beside.enter_context(neighbour_in(group, settings, Neighbourless))
            is_beside = neighbour
            live(recording, seconds * scale, clients, failures)
    for event in service.events():
        if rule_fired(event):
            recording.remark(f"told by the daemon itself: {event['message']}", wall(event["at"]))
    return recording, failures


def main():
    for number in ENDINGS:
        signal.signal(number, end)
    try:
        settings = Settings.from_environment()
        scale = float(os.environ.get("RECORD_SCALE", "1"))
        check(MODEL, [PROGRAMS / name for name in ("mlxsupd", "mlxsup-worker")])
        WORK.mkdir(parents=True, exist_ok=True)
        with Zram(settings.zram_mib * MIB), Group(settings.limit_mib * MIB) as group:
            with Service(PROGRAMS, short_home("trace-home"), config("off", RULE), group, MODEL) as service:
                recording, failures = record(service, group, settings, scale)
    except Refused as refused:
        print(f"no trace can be recorded here:\n{refused}", file=sys.stderr)
        return 2
    trace = WORK / "linux.trace"
    trace.write_text("\n".join(recording.lines) + "\n")
    print(f"recorded: {trace}, {len(recording.lines)} lines; requests that failed: {failures or 'none'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
