"""What the Python clients' checks share: how a check runs and reports, and what the daemon says about it.

A check is a function that raises when something is not as promised. One line is printed for each: ok, skip or FAIL, the
client, the check, the reason. Nothing here waits for a duration: `until` waits for a state.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
import uuid

STORY = [{"role": "user", "content": "Tell me a story about a sailor."}]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
# The token that ends an answer of the small model, made impossible: the answer goes on until something else ends it.
ENDLESS = {"max_tokens": 1900, "logit_bias": {"2": -100}}
# The longest any state is waited for, seconds. Reached only when something is broken, or the machine is very busy.
PATIENCE = 300


class Skip(Exception):
    """The check does not apply today; the text says why."""


def skip(reason):
    raise Skip(reason)


class Checks:
    """The checks of one client, in the order in which they are written down."""

    def __init__(self, client):
        self.client = client
        self.all = []

    def __call__(self, name):
        def keep(function):
            self.all.append((name, function))
            return function

        return keep

    def run(self):
        """Runs those whose name contains an argument of the command line, or all. Exits with 1 if one failed."""
        failed = False
        for name, function in self.all:
            if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                continue
            try:
                note = function()
                self.line("ok", name, note)
            except Skip as reason:
                self.line("skip", name, str(reason))
            except Exception as error:  # whatever it is, the other checks still run
                failed = True
                where = traceback.extract_tb(error.__traceback__)
                at = [frame for frame in where if "conformance" in frame.filename and "site-packages" not in frame.filename]
                place = f"{os.path.basename(at[-1].filename)}:{at[-1].lineno} " if at else ""
                self.line("FAIL", name, f"{place}{type(error).__name__}: {error}"[:600])
        sys.exit(failed)

    def line(self, outcome, name, note):
        note = " ".join(str(note).split()) if note else ""
        print(f"{outcome:<4}  {self.client:<8}  {name}{': ' if note else ''}{note}", flush=True)


def same(found, wanted, what=""):
    """Fails unless both are equal, showing both."""
    assert found == wanted, f"{what + ': ' if what else ''}found {found!r}, expected {wanted!r}"


def raises(kind, function):
    """The error of `kind` that `function` ends with."""
    try:
        got = function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}; it returned {got!r}"[:300])


class Service:
    """The running daemon, as seen from outside."""

    def __init__(self):
        self.home = os.environ["MLXSUP_HOME"]
        self.socket = os.path.join(self.home, "mlxsup.sock")
        self.ctl_path = os.environ["CONFORMANCE_CTL"]
        self.url = os.environ["CONFORMANCE_URL"]
        self.key = os.environ["CONFORMANCE_KEY"]
        self.model = os.environ["CONFORMANCE_MODEL"]
        self.context = int(os.environ["CONFORMANCE_CONTEXT"])

    def ctl(self, *words):
        """One verb of mlxsupctl, which must succeed."""
        done = subprocess.run([self.ctl_path, *words], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"mlxsupctl {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def status(self):
        # Its exit status tells whether the service serves; the facts come either way.
        done = subprocess.run([self.ctl_path, "status", "--json"], capture_output=True, text=True, timeout=PATIENCE)
        return json.loads(done.stdout)

    def until(self, what, condition):
        """Waits for a state: `condition` gets the status."""
        end = time.monotonic() + PATIENCE
        while True:
            status = self.status()
            if condition(status):
                return status
            assert time.monotonic() < end, f"waited {PATIENCE} s for: {what}; the last status was {json.dumps(status)}"
            time.sleep(0.1)

    def until_idle(self):
        """Serving, and no slot in use: what was cancelled has given its place back."""
        return self.until(
            "0 active",
            lambda now: now["state"] == "serving" and now["queue"]["active"] == 0 and now["queue"]["waiting"] == 0,
        )

    def until_waiting(self, count):
        return self.until(f"{count} waiting", lambda now: now["queue"]["waiting"] >= count)

    def drained(self):
        """While the block runs, new requests wait."""
        return Drained(self)

    def kill_worker(self):
        """`kill -9`, as the system does it when memory is short. Returns its generation."""
        worker = self.status()["worker"]
        os.kill(worker["pid"], signal.SIGKILL)
        return worker["generation"]

    def new_id(self):
        return f"conformance-{uuid.uuid4().hex[:16]}"

    def attempts(self, request_id, count=1):
        """The lines of requests.log about one id, once there are `count`: one for each attempt of the client."""
        path = os.path.join(self.home, "logs", "requests.log")
        end = time.monotonic() + PATIENCE
        while True:
            with open(path, encoding="utf-8") as log:
                lines = [dict(pair.split("=", 1) for pair in line.split()) for line in log if f" id={request_id} " in line]
            if len(lines) >= count:
                return lines
            assert time.monotonic() < end, f"waited {PATIENCE} s for {count} lines about {request_id}; there are {len(lines)}"
            time.sleep(0.05)

    def tried_once(self, request_id, status, code):
        """One attempt, with this outcome, and no second one."""
        lines = [(line["status"], line["code"]) for line in self.attempts(request_id)]
        same(lines, [(str(status), code)], "attempts in requests.log")


class Drained:
    def __init__(self, service):
        self.service = service

    def __enter__(self):
        self.service.ctl("drain")
        return self

    def __exit__(self, *_):
        self.service.ctl("resume")
        self.service.until("serving", lambda now: now["state"] == "serving")
