#!/usr/bin/env python3
"""mlx_lm.server as a worker of mlxsup: `engine = "mlx_lm"`.

Runs the real mlx_lm.server, unchanged, and adds what a supervisor needs:

    mlxsupd ── MLXSUP_* environment ──▶ this process ── one newline on MLXSUP_READY_FD ──▶ mlxsupd
    mlxsupd ── GET /status, POST /control/{clear-cache,trim-prefix-cache,limits} ──▶ answered here
    mlxsupd ── /v1/…, /health ──▶ answered by mlx_lm's own handler, on the same Unix socket

Three kinds of threads share one `Worker`. The generation thread is mlx_lm's: it alone loads, generates and is told to
change MLX. HTTP threads read published numbers and never touch MLX, so `/status` answers while generation is wedged.
The main thread waits for events and is the only one that ends the process. How mlx_lm is held: docs/mlx_lm.md.

Needs mlx and mlx_lm, nothing else. Exit: 0 stopped or lease over; 1 failed, and the last line on stderr says why; 2 not
started by mlxsupd; 143 told twice to stop.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import hashlib
import http.server
import json
import logging
import os
import pathlib
import queue
import signal
import socket
import socketserver
import stat
import sys
import threading
import time
import traceback
import types

# A daemon in the background never starts a download. Set before any import that reads them.
for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_name, "1")
try:
    import mlx.core as mx
except ImportError as error:
    sys.exit("mlx_lm_worker: %s; install it with: %s -m pip install mlx-lm" % (error, sys.executable))

PROTOCOL = 1
GIB = 1 << 30
DEFAULTS = {
    "model": "", "device": "auto", "slots": None, "context": None, "default_max_tokens": 8192, "wired_limit": "auto",
    "cache_limit_bytes": 512 << 20, "memory_limit_bytes": None, "clear_cache_after_tokens": 500,
    "idle_keep_warm_ms": None, "lease_s": 900,
}
# Files that shape tokens or template, where they exist: with the weights they make the fingerprint.
TEXT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
              "special_tokens_map.json", "chat_template.jinja", "chat_template.json")
WARM_UP = {"prompt": "One two three four five six seven eight nine ten. " * 4, "max_tokens": 2, "temperature": 0.0}
# How long a command may wait for the generation thread to come to the end of its step.
COMMAND_S = 30


def say(text):
    print("mlx_lm_worker: " + text, file=sys.stderr, flush=True)


class Limits:
    """MLX's three limits: set before any weight is read, and kept.

    mlx_lm sets the wired limit to the device's maximum at start and around every generation. The setters it finds are
    therefore replaced by ones that change nothing and report what is in force.
    """

    def __init__(self, settings, weights_bytes):
        device = (getattr(mx, "device_info", None) or mx.metal.device_info)()
        self.recommended = device.get("max_recommended_working_set_size")
        total = device.get("memory_size") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        reserve = max(8 * GIB, total // 100 * 12)
        self.memory = settings.memory_limit_bytes
        if self.memory is None and "total_memory" in device:  # a card with memory of its own
            self.memory = device["total_memory"] // 100 * 95
        elif self.memory is None:
            self.memory = max(total - reserve, total // 2)
            if self.recommended is not None:
                self.memory = min(self.memory, self.recommended // 100 * 95)
        self.cache = settings.cache_limit_bytes
        wanted = settings.wired_limit
        if self.recommended is None or wanted == "off":  # no such thing as wiring here, or not wanted: never called
            self.wired = None
        elif wanted == "auto":
            self.wired = max(0, min(self.recommended, weights_bytes, total - reserve))
        else:
            self.wired = min(wanted["bytes"], self.recommended)
        self._set_memory, self._set_cache = mx.set_memory_limit, mx.set_cache_limit

    def apply(self):
        self._set_memory(self.memory)
        self._set_cache(self.cache)
        if self.wired is not None:
            mx.set_wired_limit(self.wired)
        for name in ("wired", "cache", "memory"):
            for module in (mx, mx.metal):  # mx.metal has the deprecated names
                setattr(module, "set_%s_limit" % name, self._kept(name))

    def _kept(self, name):
        """A setter that takes what MLX's takes, changes nothing, and returns the limit in force as the previous one."""
        return lambda *_limit, **_options: getattr(self, name) or 0

    @staticmethod
    def checked(body):
        """The body of POST /control/limits."""
        for name, value in body.items():
            if name not in ("cache_limit_bytes", "memory_limit_bytes"):
                raise ValueError("`%s` is not known" % name)
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError("`%s` must be a number of bytes" % name)
        return body

    def change(self, cache_limit_bytes=None, memory_limit_bytes=None):
        """On the generation thread."""
        if cache_limit_bytes is not None:
            self._set_cache(cache_limit_bytes)
            self.cache = cache_limit_bytes
        if memory_limit_bytes is not None:
            self._set_memory(memory_limit_bytes)
            self.memory = memory_limit_bytes


class Source:
    """The model's folder: as given, or from the hub cache. Nothing is fetched."""

    def __init__(self, model):
        path = pathlib.Path(os.path.expanduser(model))
        if path.is_file():
            raise FileNotFoundError(
                "mlx_lm reads folders with config.json, and `%s` is a file; engine = \"native\" reads GGUF" % model)
        cache = pathlib.Path(os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"), "hub")
        cache = pathlib.Path(os.environ.get("HF_HUB_CACHE") or cache)
        self.name, self.folder = path.resolve().name, path.resolve()
        if not path.exists():
            self.name, cached = model, cache / ("models--" + model.replace("/", "--"))
            with contextlib.suppress(OSError):
                self.folder = cached / "snapshots" / (cached / "refs" / "main").read_text().strip()
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(
                "no model `%s`: neither a folder with config.json nor in the hub cache %s; give a folder, or fetch "
                "a hub id with: hf download %s" % (model, cache, "OWNER/NAME" if model[:1] in "/.~" else model))
        self.config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self.weights = sorted(self.folder.glob("model*.safetensors"))
        self.bytes = sum(file.stat().st_size for file in self.weights)

    def fingerprint(self):
        """Digest of texts, and of sizes, heads and samples of the weights: milliseconds even for 35 GB."""
        digest = hashlib.sha256()
        for name in TEXT_FILES:
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        for path in self.weights:
            size = path.stat().st_size
            digest.update(b"%s %d" % (path.name.encode(), size))
            with open(path, "rb") as file:
                digest.update(file.read(1 << 20))
                for sample in range(64):
                    file.seek(size * sample // 64)
                    digest.update(file.read(4096))
        return "mlx_lm:" + digest.hexdigest()[:32]

    def of_config(self, key):
        return self.config.get(key) or self.config.get("text_config", {}).get(key)


def cost_of_a_sequence(model, make_prompt_cache):
    """Bytes that one more token costs, and bytes that a sequence costs whatever its length; seen on one token."""
    cache = make_prompt_cache(model)
    model(mx.zeros((1, 1), dtype=mx.int32), cache=cache)
    mx.eval([layer.state for layer in cache])
    token = fixed = 0
    for layer in cache:
        keys = getattr(layer, "keys", None)
        if not isinstance(keys, mx.array):
            fixed += layer.nbytes
        elif getattr(layer, "max_size", None):  # a sliding window
            fixed += layer.nbytes // keys.shape[2] * layer.max_size
        else:
            token += layer.nbytes // keys.shape[2]
    return token, fixed


def footprint():
    """What the kernel charges this process: footprint, its graphics part, the compressed part of that."""
    if sys.platform == "darwin":  # task_info(TASK_VM_INFO) on our own task, fields at their fixed offsets
        system, words, count = ctypes.CDLL(None), (ctypes.c_int32 * 93)(), ctypes.c_uint32(93)
        task = ctypes.c_uint32.in_dll(system, "mach_task_self_")
        if system.task_info(task, 22, words, ctypes.byref(count)) == 0:
            filled = bytes(words)[: 4 * count.value]
            ends = [(at, at + 8) for at in (144, 272, 280)]
            return [int.from_bytes(filled[a:z], "little") if z <= len(filled) else None for a, z in ends]
    with contextlib.suppress(OSError, KeyError), open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
        return [sum(int(lines[name].split()[0]) << 10 for name in ("RssAnon", "VmSwap")), None, None]
    return [None, None, None]


class Worker:
    """What the threads share. A number has one writing thread, or changes under `lock`."""

    def __init__(self, environment):
        given = json.loads(environment["MLXSUP_SETTINGS"])
        given = {key: given[key] for key in DEFAULTS if given.get(key) is not None}
        self.settings = types.SimpleNamespace(**{**DEFAULTS, **given})
        self.socket = environment["MLXSUP_SOCKET"]
        self.ready_fd = int(environment["MLXSUP_READY_FD"]) if "MLXSUP_READY_FD" in environment else None
        self.generation = int(environment.get("MLXSUP_GENERATION", 0))
        self.nonce = environment.get("MLXSUP_NONCE", "")
        self.epoch = int(environment.get("MLXSUP_EPOCH", 0))
        self.lock = threading.Lock()
        self.events = queue.SimpleQueue()  # (what, detail) for the main thread
        self.commands = queue.SimpleQueue()  # (future, work) for the generation thread
        self.here = threading.local()  # .connection: whose request this HTTP thread serves
        self.device = self.limits = self.source = self.generator = self.model = self.failure = None
        self.fingerprint, self.phase, self.told_to_stop = "", "loading", False
        self.memory, self.bytes_done, self.slots = {}, 0, 0
        self.steps, self.last_step, self.active, self.pending, self.kv_bytes = 0, None, 0, 0, 0
        self.clear_due, self.kept_warm = False, 0.0
        self.in_flight, self.last_contact = 0, time.monotonic()
        tokens = ("prompt_tokens", "restored_tokens", "completion_tokens")
        self.counters = dict.fromkeys(("requests", *tokens, "cancelled", "failed", "cache_clears"), 0)

    # --- any thread ---

    def count(self, name, by=1):
        with self.lock:
            self.counters[name] += by

    @contextlib.contextmanager
    def request(self):
        with self.lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self.lock:
                self.in_flight -= 1

    def status(self):
        """WorkerStatus of worker/api, from published numbers alone."""
        age, waiting = self.last_step and time.monotonic() - self.last_step, max(0, self.in_flight - self.active)
        return {
            "protocol": PROTOCOL, "pid": os.getpid(), "generation": self.generation, "nonce": self.nonce,
            "fingerprint": self.fingerprint, "phase": self.phase, "failure": self.failure,
            "bytes_done": self.bytes_done, "bytes_total": self.source.bytes, "model": self.model,
            "engine": {"steps": self.steps, "last_step_age_ms": age and int(age * 1000), "slots": self.slots,
                       "pending_prefill_tokens": self.pending, "active": self.active, "waiting": waiting},
            "memory": self.memory, "counters": dict(self.counters),
        }

    def refusal(self, headers):
        """Why a command is not obeyed, or nothing: it must be meant for us and come from the latest daemon."""
        if not self.nonce:
            return None
        if headers.get("x-mlxsup-nonce") != self.nonce:
            return "the command is not meant for this worker: `x-mlxsup-nonce` is not its nonce"
        epoch = headers.get("x-mlxsup-epoch", "")
        if not epoch.isdigit():
            return "`x-mlxsup-epoch` must be the daemon's epoch"
        with self.lock:
            if int(epoch) < self.epoch:
                return "epoch %s has been replaced by %d; this daemon must not command any more" % (epoch, self.epoch)
            self.epoch = int(epoch)
        return None

    def measure(self):
        """Publishes the memory facts. MLX's counters are plain numbers that any thread may read."""
        charged, graphics, compressed = footprint()
        self.memory = {
            "mlx_active_bytes": mx.get_active_memory(), "mlx_cache_bytes": mx.get_cache_memory(),
            "mlx_peak_bytes": mx.get_peak_memory(), "wired_limit_bytes": self.limits.wired, "wired_bytes": None,
            "cache_limit_bytes": self.limits.cache,
            # Read back where MLX can say it; there is no such question for the other two.
            "memory_limit_bytes": getattr(mx, "get_memory_limit", lambda: self.limits.memory)(),
            "recommended_working_set_bytes": self.limits.recommended, "footprint_bytes": charged,
            "graphics_footprint_bytes": graphics, "graphics_compressed_bytes": compressed, "kv_bytes": self.kv_bytes,
            "prefix_cache_bytes": getattr(getattr(self.generator, "prompt_cache", None), "nbytes", None),
        }
        if self.phase == "loading":
            self.bytes_done = min(self.memory["mlx_active_bytes"], self.source.bytes)

    def keep_measuring(self):
        while True:
            self.measure()
            time.sleep(0.25 if self.phase == "loading" else 1.0)

    # --- the generation thread ---

    def loaded(self, arrays, token, fixed):
        precision, packed = str(arrays[0].dtype).split(".")[-1], self.source.config.get("quantization")
        if packed:
            packed = {"bits": "mixed", "group_size": "mixed", "mode": "affine", **packed}
            precision = "{bits}-bit {mode}, group {group_size}".format(**packed)
        longest = self.source.of_config("max_position_embeddings") or self.settings.context or 32768
        self.model = {
            "name": self.source.name, "architecture": str(self.source.of_config("model_type")), "precision": precision,
            "device": "gpu" if self.device == mx.gpu else "cpu",
            "weights_bytes": sum(array.nbytes for array in arrays), "kv_bytes_per_token": token,
            "fixed_bytes_per_sequence": fixed, "context_tokens": min(self.settings.context or longest, longest),
        }

    def step(self, generated=0):
        """One step of the engine has ended; now is the moment to tell MLX anything."""
        self.steps, self.last_step = self.steps + 1, time.monotonic()
        if generated:
            self.count("completion_tokens", generated)
        self.between_steps()

    def between_steps(self):
        while not self.commands.empty():
            reply, work = self.commands.get()
            try:
                work()
                self.measure()
                reply.set_result(self.memory)
            except Exception as error:  # a command that MLX refuses ends nobody's answer
                reply.set_exception(error)
        if self.clear_due:
            self.clear_due = False
            self.clear_cache()

    def clear_cache(self):
        mx.clear_cache()
        self.count("cache_clears")

    def trim_prefix_cache(self):
        self.generator.prompt_cache.trim_to(n_sequences=0)
        self.clear_cache()  # else the buffers would only have changed their name

    def idle(self):
        self.active = self.pending = self.kv_bytes = 0
        every_ms, now = self.settings.idle_keep_warm_ms, time.monotonic()
        if every_ms and self.device == mx.gpu and now - self.kept_warm > every_ms / 1000:
            mx.eval(mx.zeros(1) + 1)  # any use of the GPU renews the residency of all weights
            self.kept_warm = now


class TooLong(ValueError):
    """A prompt that leaves no room for an answer."""


class Refused(BaseException):
    """A request that cannot be taken. Not an Exception: to those mlx_lm answers 404 by itself."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# What is mixed in before mlx_lm's own classes; `worker` is filled in by `bridge`.


class GeneratorPart:
    """Before mlx_lm.server.ResponseGenerator: one model, counted answers, and a death that is noticed."""

    worker = None

    def _generate(self):
        try:
            mx.set_default_device(self.worker.device)
            super()._generate()
            self.worker.events.put(("ended", None))
        except BaseException as error:  # whatever it was, the process must not go on without this thread
            self.worker.events.put(("died", error))

    def generation_is_running(self):
        return self._generation_thread.is_alive()

    def _next_request(self, timeout=None):
        if timeout is not None:  # mlx_lm only waits here when nothing runs
            self.worker.idle()
        self.worker.between_steps()
        request = super()._next_request(timeout)
        if request is not None and not self.worker.active:
            self.worker.active = 1  # until the first step has counted
        return request

    def _tokenize(self, tokenizer, request, args):
        """mlx_lm knows no context length: what is too long is refused, and an answer ends where the context does."""
        tokenized, context = super()._tokenize(tokenizer, request, args), self.worker.model["context_tokens"]
        if self.worker.phase != "ready":  # the warm-up may be longer than a small `context`
            return tokenized
        if len(tokenized[0]) >= context:
            raise TooLong("This model's maximum context length is %d tokens. However, you requested %d tokens in the "
                          "messages; shorten them." % (context, len(tokenized[0])))
        args.max_tokens = min(args.max_tokens, context - len(tokenized[0]))
        return tokenized

    def generate(self, request, generation_args, progress_callback=None):
        asked = generation_args.model
        if asked.adapter is not None or asked.draft not in (None, "default_model"):
            raise Refused("invalid_value", "this worker serves one model; leave out `adapters` and `draft_model`")
        # One name for the one model: another would make mlx_lm drain the batch, or load something else.
        generation_args.model = type(asked)(model="default_model", draft="default_model", adapter=None)
        self.worker.count("requests")

        def progress(done, total):
            self._leave_if_alone()
            if progress_callback is not None:
                progress_callback(done, total)

        try:
            context, tokens = super().generate(request, generation_args, progress_callback=progress)
        except Exception as error:
            self._hold_if_broken(error)
            code = "context_length_exceeded" if isinstance(error, TooLong) else "invalid_value"
            raise Refused(code, str(error)) from error
        return context, self._counted(context, tokens)

    def _counted(self, context, tokens):
        count = 0
        try:
            for token in tokens:
                if count == 0:
                    known = max(0, getattr(context, "prompt_cache_count", 0))
                    self.worker.count("prompt_tokens", len(context.prompt) - known)
                    self.worker.count("restored_tokens", known)
                count += 1
                self._leave_if_alone()
                yield token
        except (ConnectionError, GeneratorExit):
            self.worker.count("cancelled")
            raise
        except Exception as error:
            self.worker.count("failed")
            self._hold_if_broken(error)
            raise
        finally:
            if 0 < self.worker.settings.clear_cache_after_tokens <= count:
                self.worker.clear_due = True

    def _leave_if_alone(self):
        """mlx_lm notices that a client hung up only when it writes; a plain answer would be generated to its end."""
        try:
            gone = self.worker.here.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            gone = False
        if gone:
            raise ConnectionAbortedError("the client hung up")

    def _hold_if_broken(self, error):
        """Where the engine itself is broken nothing is answered: the daemon must see the end of the process, because it
        gives unanswered requests to the next worker."""
        if "[METAL]" in str(error):  # MLX goes on after a GPU error, with memory that nobody vouches for
            self.worker.events.put(("died", error))
        elif self.generation_is_running():
            return
        threading.Event().wait()


class BatchPart:
    """Before mlx_lm.server.BatchGenerator: the steps of a batch, seen from its own thread."""

    worker = None

    def next(self):
        self._publish()  # a chunk of a long prompt may take long: what is pending must be seen before it
        read, generated = super().next()
        self._publish()
        if read or generated:
            self.worker.step(len(generated))
        return read, generated

    def _publish(self):
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # another mlx_lm keeps its books elsewhere
            queued = [segment for sequence in self._unprocessed_sequences for segment in sequence[1]]
            left = [total - done for _, done, total in self._currently_processing]
            self.worker.pending = sum(left) + sum(map(len, queued))
            self.worker.active = len(self._prompt_batch) + len(self._generation_batch) or min(1, len(queued))
            if self.worker.steps % 16 == 0:
                self.worker.kv_bytes = self.prompt_cache_nbytes


def counting(worker, stream_generate):
    """mlx_lm.server.stream_generate, its way for requests that cannot be batched, with its steps counted."""

    def generate(*arguments, prompt_progress_callback=None, **options):
        def progress(done, total):
            worker.pending = total - done
            worker.step()
            if prompt_progress_callback is not None:
                prompt_progress_callback(done, total)

        worker.active = 1
        for token in stream_generate(*arguments, prompt_progress_callback=progress, **options):
            worker.step(1)
            yield token

    return generate


class HandlerPart:
    """Before mlx_lm.server.APIHandler: what the daemon asks, and silence in the log."""

    worker = None

    def do_GET(self):
        self.worker.last_contact = time.monotonic()
        if self.path == "/status":
            self._reply(200, self.worker.status())
        else:
            super().do_GET()

    def do_POST(self):
        self.worker.last_contact = time.monotonic()
        if self.path.startswith("/control/"):
            self._command()
            return
        with self.worker.request():
            self.worker.here.connection = self.connection
            try:
                super().do_POST()
            except Refused as refused:
                self._refuse(400, "invalid_request_error", refused.code, str(refused))
            except ConnectionError:
                pass  # hung up: counted where it was noticed
            except Exception as error:
                self.server.handle_error(self.connection, self.client_address)
                # Of a plain answer that breaks mlx_lm has prepared "200" and sent nothing. A stream just ends.
                if getattr(self, "_headers_buffer", None):
                    self._headers_buffer = []
                    self._refuse(500, "server_error", "engine_error", "the engine failed: %s" % error)
            finally:
                self.worker.last_contact = time.monotonic()

    def _command(self):
        worker, invalid = self.worker, "invalid_request_error"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        stale = worker.refusal(self.headers)
        try:
            if stale:
                return self._refuse(409, invalid, "stale_command", stale)
            if self.path == "/control/clear-cache":
                work = worker.clear_cache
            elif self.path == "/control/trim-prefix-cache":
                work = worker.trim_prefix_cache
            elif self.path == "/control/limits":
                work = functools.partial(worker.limits.change, **Limits.checked(json.loads(body)))
            else:
                return self._refuse(404, invalid, "not_found", "no such command: %s" % self.path)
            reply = concurrent.futures.Future()
            worker.commands.put((reply, work))
            self._reply(200, reply.result(COMMAND_S))
        except concurrent.futures.TimeoutError:
            self._refuse(503, "server_error", "engine_busy", "the engine's step did not end within %d s" % COMMAND_S)
        except (ValueError, AttributeError, TypeError, OverflowError, RuntimeError) as error:
            self._refuse(400, invalid, "invalid_value", "the command was not understood: %s" % error)

    def _refuse(self, code, kind, name, message):
        self._reply(code, {"error": {"message": message, "type": kind, "param": None, "code": name}})

    def _reply(self, code, document):
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass  # the daemon keeps the log of requests


class UnixServer(http.server.ThreadingHTTPServer):
    """mlx_lm's server class on a Unix socket that only its owner reaches. No TCP port is opened."""

    address_family = socket.AF_UNIX
    allow_reuse_address = False
    request_queue_size = 128

    def server_bind(self):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.server_address).st_mode):
                raise OSError("cannot bind %s: there is a file that is not a socket" % self.server_address)
            os.unlink(self.server_address)  # stale: the daemon gives every generation a path of its own
        before = os.umask(0o177)
        try:
            socketserver.TCPServer.server_bind(self)
        finally:
            os.umask(before)
        self.server_name, self.server_port = "worker", 0

    def get_request(self):
        return self.socket.accept()[0], ("worker", 0)  # the handler wants a host and a port

    def handle_error(self, request, client_address):
        """Where it went wrong, and not the text: an error may quote a prompt."""
        kind, error, trace = sys.exc_info()
        if not isinstance(error, ConnectionError):
            place = traceback.extract_tb(trace)[-1]
            say("a request failed: %s in %s:%s" % (kind.__name__, place.filename, place.lineno))


class Withheld(logging.Handler):
    """mlx_lm logs request bodies it cannot read. Told is that and where, not what."""

    def emit(self, record):
        place = "%s from %s:%d" % (record.levelname.lower(), record.filename, record.lineno)
        say(place + " (text withheld: it may quote a request)")


def no_network(*_, **__):
    raise ValueError("images must come as data URLs: a worker fetches nothing from the network")


def bridge(worker, server, provider):
    """Takes the place of mlx_lm.server.run: the same parts, on our socket. Returns only by ending the process."""
    from mlx.utils import tree_flatten

    def mixed(part, base):
        return type(base.__name__, (part, base), {"worker": worker})

    server.BatchGenerator = mixed(BatchPart, server.BatchGenerator)
    server.stream_generate = counting(worker, server.stream_generate)
    server.urlopen = no_network
    server.scan_cache_dir = lambda: types.SimpleNamespace(repos=())  # so /v1/models names the one model it serves
    worker.slots = provider.cli_args.decode_concurrency
    load = provider._load

    def load_and_tell(*arguments, **options):
        load(*arguments, **options)
        worker.phase, worker.bytes_done = "warming", worker.source.bytes
        arrays = [array for _, array in tree_flatten(provider.model.parameters())]
        worker.loaded(arrays, *cost_of_a_sequence(provider.model, server.make_prompt_cache))
        mx.clear_cache()

    provider._load = load_and_tell
    handler, system = mixed(HandlerPart, server.APIHandler), server.get_system_fingerprint()
    httpd = UnixServer(worker.socket, lambda *a: handler(worker.generator, *a, system_fingerprint=system))
    # mlx_lm bounds saved prompts by number alone, and one may be gigabytes.
    room = max(GIB // 2, (worker.limits.memory - worker.source.bytes) // 4)
    saved = server.LRUPromptCache(provider.cli_args.prompt_cache_size, room)
    worker.generator = mixed(GeneratorPart, server.ResponseGenerator)(provider, saved)
    for work in (lambda: httpd.serve_forever(0.2), worker.keep_measuring, lambda: warm_up(worker)):
        threading.Thread(target=work, daemon=True).start()
    live(worker, httpd)


def warm_up(worker):
    """One request to ourselves: the first prefill and token, which compile kernels on some backends."""
    body = json.dumps(WARM_UP).encode()
    head = "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(worker.socket)
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if b" 200 " in answer[:16]:
        worker.events.put(("warm", None))
    else:
        worker.events.put(("died", RuntimeError("the warm-up failed: %r" % answer[-300:])))


def live(worker, httpd):
    """The main thread: waits for what ends the process, and ends it."""
    lease_s = worker.settings.lease_s
    while True:
        try:
            what, detail = worker.events.get(timeout=0.5)
        except queue.Empty:
            if not worker.generator.generation_is_running():
                broken(worker, None)  # it always says why it ends; this is for the day when it cannot
            # time.monotonic stands still while the machine sleeps.
            silent = time.monotonic() - worker.last_contact
            if worker.phase != "ready" or worker.in_flight or silent < lease_s:
                continue
            say("no daemon was heard for the whole lease of %s s; ending" % lease_s)
            what = "stop"
        if what == "warm":
            ready(worker)
        elif what == "stop":
            stop(worker, httpd)
        else:
            broken(worker, detail)


def ready(worker):
    worker.counters = dict.fromkeys(worker.counters, 0)  # the warm-up was nobody's request
    worker.last_contact = time.monotonic()  # loading may have taken longer than the lease
    worker.measure()
    worker.phase = "ready"
    if worker.ready_fd is not None:
        with contextlib.suppress(BrokenPipeError):  # the daemon that waited is gone; the next one reads the phase
            os.write(worker.ready_fd, b"\n")
        os.close(worker.ready_fd)


def stop(worker, httpd):
    """Takes nothing more, finishes what it has, and gives the memory back before it ends."""
    if worker.phase == "ready":
        with contextlib.suppress(OSError):
            os.unlink(worker.socket)
        httpd.shutdown()
        httpd.server_close()
        while worker.in_flight:
            with contextlib.suppress(queue.Empty):
                what, detail = worker.events.get(timeout=0.1)
                if what == "died":
                    broken(worker, detail)
        threading.Thread(target=worker.generator.stop_and_join, daemon=True).start()
        what = None
        while what != "ended":
            what, detail = worker.events.get()
            if what == "died":
                broken(worker, detail)
        gc.collect()
        mx.clear_cache()
    end(worker, 0)


def broken(worker, error):
    text = "%s: %s" % (type(error).__name__, str(error)[:1000]) if error is not None else "it came to its end"
    if worker.phase == "ready":
        say("mlx_lm's generation thread died: " + text)
    else:
        say("cannot load the model `%s`: %s" % (worker.settings.model, text))
        worker.phase, worker.failure = "failed", text
    end(worker, 1)


def end(worker, code):
    """At once: the destructors of MLX's statics crash under a thread that is still inside MLX."""
    if worker.generator is not None:  # before that the socket is not ours
        with contextlib.suppress(OSError):
            os.unlink(worker.socket)
    sys.stderr.flush()
    os._exit(code)


def main():
    try:
        worker = Worker(os.environ)
    except (KeyError, ValueError, TypeError) as error:
        say("%s %s is missing or wrong: mlxsupd starts this with MLXSUP_SOCKET, MLXSUP_SETTINGS and more in its "
            "environment; see docs/mlx_lm.md" % (type(error).__name__, error))
        return 2

    def on_signal(number, _frame):
        if worker.told_to_stop:
            os._exit(128 + number)
        worker.told_to_stop = True
        worker.events.put(("stop", None))

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if worker.ready_fd is not None:
        os.set_inheritable(worker.ready_fd, False)
    logging.getLogger().addHandler(Withheld(logging.WARNING))
    has_gpu = mx.default_device() == mx.gpu
    if worker.settings.device == "gpu" and not has_gpu:
        say("`device = \"gpu\"`, but this MLX has no usable GPU; set `device = \"auto\"` or \"cpu\"")
        return 1
    worker.device = mx.gpu if has_gpu and worker.settings.device != "cpu" else mx.cpu
    mx.set_default_device(worker.device)
    try:
        worker.source = Source(worker.settings.model)
        worker.fingerprint = worker.source.fingerprint()
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    worker.limits = Limits(worker.settings, worker.source.bytes)
    worker.limits.apply()

    arguments = ["--model", str(worker.source.folder), "--max-tokens", str(worker.settings.default_max_tokens)]
    if worker.device == mx.cpu:  # a chunk of mlx_lm's 2048 tokens would be half a minute without a sign of life
        arguments += ["--prefill-step-size", "256"]
    slots = worker.settings.slots
    if slots is not None:
        arguments += ["--decode-concurrency", str(slots), "--prompt-concurrency", str(min(slots, 8))]
    sys.argv = ["mlx_lm.server"] + arguments
    try:
        from mlx_lm import server  # only now: what it finds in mlx.core is what `apply` left there

        server.run = lambda _host, _port, provider, **_: bridge(worker, server, provider)
        server.main()
    except BaseException as error:  # with mlx_lm's thread alive the process would not end by itself
        say("%s: %s" % (type(error).__name__, error))
    end(worker, 1)


if __name__ == "__main__":
    sys.exit(main())
