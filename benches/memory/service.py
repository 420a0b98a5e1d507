"""A daemon with the real worker in a control group, and what clients and operators ask of it over its sockets."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

# Long enough for every worker that has to be loaded meanwhile.
PATIENCE_S = 120


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=PATIENCE_S):
        super().__init__("x", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass
class Answer:
    """How one streamed request went."""

    begun: float
    asked_at: float = field(default_factory=time.time)
    first_token_s: float | None = None
    total_s: float = 0.0
    tokens: int = 0
    text: str = ""
    generations: str = ""
    failure: str | None = None
    gaps: list = field(default_factory=list)

    @property
    def decode_per_s(self):
        took = self.total_s - (self.first_token_s or 0.0)
        return (self.tokens - 1) / took if self.tokens > 1 and took > 0 else None


class Service:
    """One daemon in a fresh home. `worker_group`, if any, is where its workers go; the daemon itself stays outside.
    `config` goes on inside `[worker]`."""

    def __init__(self, programs, home, config, worker_group, model):
        self.programs = programs
        self.home = home
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700, parents=True)
        text = f"[worker]\nmodel = {json.dumps(str(model))}\n"
        if worker_group is not None:
            # The worker steps into the group before it has any memory worth speaking of.
            step = f'echo $$ > "{worker_group.processes}" && exec "{programs / "mlxsup-worker"}"'
            text += f"command = {json.dumps(['/bin/sh', '-c', step])}\ncontext = 1024\n"
        (home / "mlxsup.toml").write_text(text + config)
        self.process = None

    def __enter__(self):
        self.errors = open(self.home / "mlxsupd.stderr", "wb")
        command = [self.programs / "mlxsupd", "--home", self.home]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLXSUP_")}
        # In a session of its own: a Ctrl-C at the terminal is for us, who end it in good order.
        self.process = subprocess.Popen(
            command, env=environment, stderr=self.errors, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            self.wait_until_serving()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self.errors.close()

    def wait_until_serving(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"mlxsupd ended: {(self.home / 'mlxsupd.stderr').read_text()[-2000:]}")
            try:
                if self.status()["state"] == "serving":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the worker is not ready after {PATIENCE_S} s; logs: {self.home / 'logs'}")

    def control(self, path, order=None):
        """Reads `path`, or posts an order to it and waits for what comes of it."""
        connection = OverSocket(self.home / "control.sock", timeout=10 if order is None else PATIENCE_S)
        try:
            connection.request("GET" if order is None else "POST", path, None if order is None else json.dumps(order))
            return connection.getresponse().read()
        finally:
            connection.close()

    def status(self):
        """What `mlxsupctl status --json` prints."""
        return json.loads(self.control("/v1/status"))

    def events(self):
        """What `mlxsupctl events --json` prints, oldest first."""
        return [json.loads(line) for line in self.control("/v1/events?limit=1000&follow=false").splitlines() if line]

    def ask(self, max_tokens, content="What is the capital of France? Tell me about its history."):
        """Streams one answer through the stable socket."""
        body = {
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "stream": True,
            "max_tokens": max_tokens,
            "stream_options": {"include_usage": True},
        }
        answer = Answer(begun=time.monotonic())
        connection = OverSocket(self.home / "mlxsup.sock")
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                answer.failure = f"{response.status} {response.read().decode(errors='replace')}"
                return answer
            self.read_stream(response, answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer.failure = repr(error)
        finally:
            answer.total_s = time.monotonic() - answer.begun
            connection.close()
        return answer

    @staticmethod
    def read_stream(response, answer):
        done, last = False, None
        while line := response.readline():
            line = line.decode().rstrip("\r\n")
            now = time.monotonic()
            if line.startswith(": mlxsup "):
                answer.generations = line.partition("generations=")[2]
            elif line.startswith("event: error"):
                answer.failure = response.readline().decode().strip()
            elif line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                chunk = json.loads(line[6:])
                if usage := chunk.get("usage"):
                    answer.tokens = usage["completion_tokens"]
                text = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                if text:
                    if answer.first_token_s is None:
                        answer.first_token_s = now - answer.begun
                    else:
                        answer.gaps.append(now - last)
                    last = now
                    answer.text += text
        if not done and answer.failure is None:
            answer.failure = "the stream ended without [DONE]"
