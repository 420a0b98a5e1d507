"""The article's experiment: an idle worker in a machine that others want, unwired, wired, and watched by rules.

`make bench-memory` builds everything and runs it. Numbers come from the environment, BENCH_…: see `Settings`.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import report
import scenarios
from machine import MIB, Group, Refused, Zram, check

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target/bench-memory"
PROGRAMS = Path(os.environ.get("BENCH_PROGRAMS", ROOT / "target/release"))
MODEL = ROOT / "target/models/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass
class Settings:
    """Each is BENCH_ and its name in capitals."""

    limit_mib: int = 1400  # of the control group that worker and neighbour share
    neighbour_mib: int = 1250
    pace_mib: int = 64  # touched by the neighbour each second
    zram_mib: int = 4096
    rounds: int = 3
    idle_s: int = 40  # before each first token of scenarios 1 and 2
    tokens: int = 24  # of a timed answer
    threshold_mib: int = 128  # of the rule, scenarios 3 and 4
    dwell_s: int = 10
    watched_s: int = 150
    every_s: int = 60  # clients of scenarios 3 and 4 ask about so often
    only: str = ""  # names of scenarios, by commas

    @classmethod
    def from_environment(cls):
        settings = cls()
        for key in fields(cls):
            text = os.environ.get(f"BENCH_{key.name.upper()}")
            if text is not None:
                try:
                    setattr(settings, key.name, key.type(text))
                except ValueError:
                    raise Refused(f"BENCH_{key.name.upper()}={text}: a whole number is wanted") from None
        return settings


@dataclass
class Bench:
    """What every scenario gets."""

    settings: Settings
    programs: Path
    model: Path
    home: Path
    group: Group

    @staticmethod
    def say(text):
        print(text, flush=True)


SCENARIOS = {
    "unwired": lambda bench: scenarios.idle_worker("unwired", "nothing wired, no rule", "off", bench),
    "wired": lambda bench: scenarios.idle_worker("wired", 'wired_limit = "auto", no rule', "auto", bench),
    "canary": lambda bench: scenarios.watched_worker("canary", "nothing wired, rule: canary", '["canary"]', bench, False),
    "restart": lambda bench: scenarios.watched_worker("restart", "nothing wired, rule: restart", '["restart"]', bench, True),
}


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end(*_):
    """Unwinds, so that everything borrowed is given back; a second signal does not disturb that."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    print("giving everything back", file=sys.stderr, flush=True)
    sys.exit(130)


def short_home(name):
    """A folder for a daemon. Unix socket paths are limited; a deep checkout gets one elsewhere."""
    home = WORK / name
    return home if len(str(home)) <= 70 else Path(f"/tmp/mlxsup-bench-memory-{os.getuid()}-{name}")


def main():
    for number in ENDINGS:
        signal.signal(number, end)
    measured = []
    try:
        settings = Settings.from_environment()
        check(MODEL, [PROGRAMS / name for name in ("mlxsupd", "mlxsupctl", "mlxsup-worker")])
        with contextlib.ExitStack() as borrowed:
            WORK.mkdir(parents=True, exist_ok=True)
            lock = borrowed.enter_context(open(WORK / "lock", "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused("another run of it is under way in this checkout; wait for it") from None
            zram = borrowed.enter_context(Zram(settings.zram_mib * MIB))
            group = borrowed.enter_context(Group(settings.limit_mib * MIB))
            bench = Bench(settings, PROGRAMS, MODEL, short_home("home"), group)
            bench.say(report.facts(zram, group, settings))
            chosen = [name for name in settings.only.split(",") if name] or list(SCENARIOS)
            for number, name in enumerate(chosen, 1):
                bench.say(f"== {number} of {len(chosen)}: {name}")
                measured.append(SCENARIOS[name](bench))
                time.sleep(1)
    except Refused as refused:
        print(f"bench-memory cannot run here:\n{refused}", file=sys.stderr)
        return 2
    report.save(measured, WORK)
    return report.table(measured, settings)


if __name__ == "__main__":
    sys.exit(main())
