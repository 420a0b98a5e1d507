"""Starts etc/mlx_lm_worker.py exactly as the daemon would, and talks to it."""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKER = os.path.join(ROOT, "etc", "mlx_lm_worker.py")
FAULTS = os.path.join(ROOT, "tests", "mlx_lm", "faults.py")
MODEL = os.path.join(ROOT, "target", "models", "SmolLM2-135M-mlx")
NONCE, EPOCH = "00112233445566778899aabbccddeeff", 7
# Generous: the machine may be busy with builds.
WITHIN_S = 120
FRANCE = "What is the capital of France?"

# As the daemon writes it, with a key that this worker does not know.
SETTINGS = {
    "model": MODEL, "device": "auto", "slots": 4, "context": None, "default_max_tokens": 64, "wired_limit": "auto",
    "cache_limit_bytes": 256 << 20, "memory_limit_bytes": None, "clear_cache_after_tokens": 0,
    "idle_keep_warm_ms": None, "lease_s": 900, "served_names": [], "of_a_later_release": 1,
}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("worker", timeout=WITHIN_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def chat(text, **more):
    return {"model": "any", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


class Bridge:
    """One worker process. Every wait is for a state and ends with an error that shows the worker's log."""

    def __init__(self, faulty=False, wedged=False, environment=None, **settings):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.folder.name, "worker-3.sock")
        self.log_path = os.path.join(self.folder.name, "worker.log")
        if wedged:
            self.fault("wedge")
        self.pipe, ready = os.pipe()
        environment = {**os.environ, "MLXSUP_READY_FD": str(ready), "MLXSUP_SOCKET": self.socket,
                       "MLXSUP_GENERATION": "3", "MLXSUP_NONCE": NONCE, "MLXSUP_EPOCH": str(EPOCH),
                       "MLXSUP_SETTINGS": json.dumps({**SETTINGS, **settings}), "FAULTS": self.folder.name,
                       **(environment or {})}
        command = [sys.executable, "-B"] + ([FAULTS] if faulty else []) + [WORKER]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[ready], start_new_session=True)
        os.close(ready)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.pipe)
        self.folder.cleanup()

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def calls(self):
        with open(os.path.join(self.folder.name, "calls")) as calls:
            return [line.split() for line in calls]

    def fault(self, name, text=""):
        """Begins a fault; the file appears whole."""
        path = os.path.join(self.folder.name, name)
        with open(path + ".part", "w") as file:
            file.write(text)
        os.rename(path + ".part", path)

    def mend(self, name):
        os.unlink(os.path.join(self.folder.name, name))

    # --- waiting ---

    def has_said_ready(self, within_s=0):
        return bool(select.select([self.pipe], [], [], within_s)[0])

    def ready(self):
        """Waits for the newline, and for nothing but it."""
        assert self.has_said_ready(WITHIN_S), "not ready in time\n" + self.log()
        said = os.read(self.pipe, 16)
        assert said == b"\n", "said %r\n%s" % (said, self.log())
        return self

    def until(self, holds, what):
        """Looks at the status until `holds` of it, and returns that status."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the worker ended\n" + self.log()
            with contextlib.suppress(FileNotFoundError, ConnectionError):
                status = self.status()
                if holds(status):
                    return status
            time.sleep(0.01)
        raise AssertionError("never: %s\n%s" % (what, self.log()))

    def until_active(self, count):
        return self.until(lambda s: s["engine"]["active"] == count, "%d active sequences" % count)

    def ended(self):
        """Waits for the end; returns the exit code."""
        return self.process.wait(WITHIN_S)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    # --- talking ---

    def connect(self, method, path, body=None, headers=None):
        connection = UnixConnection(self.socket)
        body = json.dumps(body) if isinstance(body, dict) else body
        try:
            connection.request(method, path, body, headers or {})
        except OSError:
            connection.close()
            raise
        return connection

    def ask(self, method, path, body=None, headers=None):
        """One whole exchange: status code and text."""
        with contextlib.closing(self.connect(method, path, body, headers)) as connection:
            response = connection.getresponse()
            return response.status, response.read().decode()

    def status(self):
        code, text = self.ask("GET", "/status")
        assert code == 200, text
        return json.loads(text)

    def command(self, name, body="", nonce=NONCE, epoch=EPOCH):
        headers = {"x-mlxsup-nonce": nonce, "x-mlxsup-epoch": str(epoch)}
        code, text = self.ask("POST", "/control/" + name, body, headers)
        return code, json.loads(text)

    def answer(self, text, **more):
        """The text of a plain chat answer."""
        code, reply = self.ask("POST", "/v1/chat/completions", chat(text, **more))
        assert code == 200, reply
        return json.loads(reply)["choices"][0]["message"]["content"]

    def stream(self, text, **more):
        return Stream(self, chat(text, stream=True, **more))


class Stream:
    """A streamed chat answer."""

    def __init__(self, bridge, body):
        self.connection = bridge.connect("POST", "/v1/chat/completions", body)
        self.response = self.connection.getresponse()
        self.pieces, self.done = [], False

    def next(self):
        """Reads up to the next piece of text; false at the end."""
        for line in iter(self.response.readline, b""):
            if line == b"data: [DONE]\n":
                self.done = True
            elif line.startswith(b"data: "):
                piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if piece:
                    self.pieces.append(piece)
                    return True
        return False

    def rest(self):
        while self.next():
            pass
        self.connection.close()
        return "".join(self.pieces)

    def hang_up(self):
        self.response.close()
        self.connection.close()


class Asking(threading.Thread):
    """Something asked in the background; `result` is what came of it, or the error."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.result = ask, None
        self.start()

    def run(self):
        try:
            self.result = self.ask()
        except Exception as error:  # the other end may die: that is what some tests are about
            self.result = error

    def get(self):
        self.join(WITHIN_S)
        assert not self.is_alive(), "no answer in time"
        return self.result
