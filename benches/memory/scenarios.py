"""What is done to the worker: idle beside a greedy neighbour, asked again, and watched by rules."""

import contextlib
import datetime
import random
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import MIB
from service import Service
from watch import INTERVAL_S, Watch

RULE = "cold-weights"
COOLDOWN_S = 15
# After the rule has acted: by then what it did shows.
LATER_S = 12


@dataclass
class Measured:
    """One scenario's numbers. Lists hold one value for each round."""

    name: str
    title: str
    answers: list = field(default_factory=list)
    warm_alone: list = field(default_factory=list)
    cold: list = field(default_factory=list)
    warm_beside: list = field(default_factory=list)
    compressed: list = field(default_factory=list)
    reported: list = field(default_factory=list)
    zram_bytes: list = field(default_factory=list)
    zram_logical: list = field(default_factory=list)
    footprint: list = field(default_factory=list)
    swap: list = field(default_factory=list)
    wired: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    # Rules only: (seconds from crossing to acting, what was compressed before, and at least within LATER_S after).
    noticed: list = field(default_factory=list)
    unnoticed: list = field(default_factory=list)
    events: list = field(default_factory=list)
    ledger: dict = field(default_factory=dict)

    @property
    def failed(self):
        return [answer for answer in self.answers if answer.failure is not None]


@contextlib.contextmanager
def neighbour_in(group, settings, watch):
    """The neighbour, once it is full. It ends with its input, whatever becomes of us."""
    watch.mark("neighbour", "the neighbour comes")
    program = [sys.executable, Path(__file__).with_name("neighbour.py")]
    command = ["/bin/sh", "-c", f'echo $$ > "{group.processes}" && exec "$@"', "neighbour"]
    sizes = [str(settings.neighbour_mib), str(settings.pace_mib)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command + program + sizes, start_new_session=True, **pipes)
    watch.neighbour = process
    try:
        if process.stdout.readline() != b"full\n":
            raise RuntimeError("the neighbour could not get its memory; lower BENCH_NEIGHBOUR_MIB")
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        watch.neighbour = None


def config(wired, rule, grace="2m"):
    """`rule` is the text of the rule's keys; without one the built-in rule only watches. A stream that is longer than
    `grace` goes on in the next worker."""
    return (
        f'[drain]\ngrace = "{grace}"\n'
        f'[worker.memory]\nwired_limit = "{wired}"\n'
        '[health]\ncanary_after_idle = "1h"\n'
        f'[[rule]]\nname = "{RULE}"\n{rule or "action = []"}\n'
    )


def idle_worker(name, title, wired, bench):
    """Warm, then again and again left alone beside the neighbour and asked for a first token."""
    settings, out = bench.settings, Measured(name, title)
    with Service(bench.programs, bench.home, config(wired, None), bench.group, bench.model) as service:
        service.ask(settings.tokens)
        for _ in range(settings.rounds):
            out.warm_alone.append(keep(out, service.ask(settings.tokens)))
        with Watch(service, bench.group) as watch, neighbour_in(bench.group, settings, watch):
            for _ in range(settings.rounds):
                bench.say(f"  idle for {settings.idle_s} s beside the neighbour")
                time.sleep(settings.idle_s)
                if watch.neighbour.poll() is not None:
                    raise RuntimeError("the neighbour was killed, probably for want of memory; run again, or lower BENCH_NEIGHBOUR_MIB")
                note(out, watch)
                watch.mark("ask", "asked")
                out.cold.append(keep(out, service.ask(settings.tokens)))
                watch.mark("answer", "answered")
                for _ in range(3):
                    out.warm_beside.append(keep(out, service.ask(settings.tokens)))
                say_round(out, bench)
        gather(out, service, watch)
    return out


def note(out, watch):
    for values, column in (
        (out.compressed, "kernel.worker"),
        (out.reported, "worker.compressed"),
        (out.zram_bytes, "system.compressed"),
        (out.zram_logical, "system.compressed_logical"),
        (out.swap, "system.swap_used"),
        (out.footprint, "worker.footprint"),
        (out.wired, "worker.wired"),
    ):
        values.append(watch.latest(column))


def say_round(out, bench):
    cold, warm = out.cold[-1].first_token_s, median_first_token(out.warm_beside[-3:])
    if cold is None or warm is None:
        return bench.say(f"  a request failed: {[answer.failure for answer in out.failed]}")
    bench.say(
        f"  compressed {out.compressed[-1] / MIB:.0f} MiB of {out.footprint[-1] / MIB:.0f}; "
        f"first token {cold:.2f} s, then {warm:.2f} s"
    )


def keep(out, answer):
    out.answers.append(answer)
    return answer


def median_first_token(answers):
    times = [answer.first_token_s for answer in answers if answer.first_token_s is not None]
    return statistics.median(times) if times else None


def watched_worker(name, title, ladder, bench, at_once):
    """Nothing wired, the rule on, and clients that ask now and then. With `at_once` one of them has a stream running when the
    rule acts, and three ask in that very moment; else one asks a while later, to see what it was good for."""
    settings, out = bench.settings, Measured(name, title)
    mib = settings.threshold_mib
    rule = (
        f'when = [{{ metric = "worker.compressed", above = "{mib}MiB", clear_below = "{mib // 2}MiB" }}]\n'
        f'for = "{settings.dwell_s}s"\naction = {ladder}\ncooldown = "{COOLDOWN_S}s"'
    )
    with Service(bench.programs, bench.home, config("off", rule, grace="3s"), bench.group, bench.model) as service:
        service.ask(settings.tokens)
        for _ in range(settings.rounds):
            out.warm_alone.append(keep(out, service.ask(settings.tokens)))
        with Watch(service, bench.group) as watch, neighbour_in(bench.group, settings, watch):
            clients = Clients(service, out, watch, settings)
            until = time.monotonic() + settings.watched_s
            seen = 0
            while time.monotonic() < until:
                time.sleep(INTERVAL_S)
                fired = [event for event in service.events() if rule_fired(event)]
                for event in fired[seen:]:
                    bench.say(f"  {event['message']}")
                    if at_once:
                        clients.three_at_once(seen)
                    else:
                        clients.a_while_later()
                seen = len(fired)
                if at_once:
                    clients.just_before()
                clients.now_and_then()
            clients.wait()
        gather(out, service, watch)
    judge_noticing(out, settings)
    return out


class Clients:
    """Threads that ask; nobody waits for them until the end."""

    def __init__(self, service, out, watch, settings):
        self.service, self.out, self.watch, self.settings = service, out, watch, settings
        self.threads = []
        self.dice = random.Random(1)
        self.next_at = time.monotonic() + settings.every_s
        self.ahead = False

    def start(self, tokens, delay_s, into=None, question=None):
        def ask():
            time.sleep(delay_s)
            self.watch.mark("ask", "asked")
            answer = self.service.ask(tokens, *([question] if question else []))
            keep(self.out, answer)
            if into is not None:
                into.append(answer)

        thread = threading.Thread(target=ask)
        thread.start()
        self.threads.append(thread)

    def now_and_then(self):
        if time.monotonic() >= self.next_at:
            self.next_at = time.monotonic() + self.settings.every_s * self.dice.uniform(0.7, 1.3)
            self.start(self.settings.tokens, 0)

    def just_before(self):
        """One long stream, about two seconds before a rule that holds will act."""
        rules = [row["rules"].get(RULE) for row in self.watch.rows[-int((self.settings.dwell_s - 2) / INTERVAL_S) :]]
        holds = len(rules) > 8 and all(state == "pending" for state in rules)
        if holds and not self.ahead:
            self.start(3 * self.settings.tokens, 0, question="Tell me the story of a lighthouse.")
        self.ahead = holds

    def three_at_once(self, count):
        """One short request, timed, and two stories that last through whatever the rule has begun."""
        self.start(self.settings.tokens, 1.0, self.out.cold)
        for number in range(2):
            self.start(3 * self.settings.tokens, 0.3 * number, question=f"Tell me story number {2 * count + number}.")
        self.next_at = max(self.next_at, time.monotonic() + self.settings.every_s)

    def a_while_later(self):
        self.start(self.settings.tokens, LATER_S, self.out.cold)
        self.next_at = max(self.next_at, time.monotonic() + LATER_S + self.settings.every_s)

    def wait(self):
        for thread in self.threads:
            thread.join()


def rule_fired(event):
    return event["kind"] == "rule_fired" and event["message"].startswith(f"{RULE}: ")


def gather(out, service, watch):
    out.rows, out.marks = watch.rows, watch.marks
    out.events = service.events()
    out.ledger = service.status()["ledger"]


def wall(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def judge_noticing(out, settings):
    """From the kernel's own count crossing the threshold to the rule acting; and crossings that nothing came of."""
    threshold, clear = settings.threshold_mib * MIB, settings.threshold_mib // 2 * MIB
    fired = [wall(event["at"]) for event in out.events if rule_fired(event)]
    since, acted_at, armed = None, float("-inf"), True
    for row in out.rows:
        at, held = row["at"], row["kernel.worker"]
        if fired and fired[0] <= at:
            acted_at = fired.pop(0)
            out.marks.append((acted_at, "rule", RULE))
            if since is not None:
                after = [later["kernel.worker"] for later in out.rows if acted_at < later["at"] <= acted_at + LATER_S]
                out.noticed.append((acted_at - since, before, min(after, default=held)))
            since, armed = None, False
        if held < clear:
            since, armed = None, True
        elif armed and since is None and held > threshold:
            since = at
        before = held
        # A rule in its cooldown has noticed, and may not act yet.
        if since is not None and at > max(since + settings.dwell_s, acted_at + COOLDOWN_S) + 2:
            out.unnoticed.append(at - since)
            since, armed = None, False
