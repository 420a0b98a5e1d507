"""The worker of `engine = "mlx_lm"`, with a real model. Run by `make test-mlx-lm`."""

import http.client
import json
import os
import pathlib
import re
import stat
import tempfile
import unittest

from bridge import EPOCH, FRANCE, NONCE, ROOT, SETTINGS, WORKER, Asking, Bridge, chat

LONG = "Write a long story about a ship."


class BridgeTest(unittest.TestCase):
    def start(self, **options):
        bridge = Bridge(**options)
        self.addCleanup(bridge.close)
        return bridge


def rust_fields(struct):
    """Names of the fields of a struct in the worker API: what the daemon parses."""
    text = pathlib.Path(ROOT, "worker/api/src/status.rs").read_text()
    body = re.search(r"pub struct %s \{(.*?)\n\}" % struct, text, re.S).group(1)
    return set(re.findall(r"pub (\w+):", body))


class Serving(unittest.TestCase):
    """What a ready worker answers; one process for all."""

    @classmethod
    def setUpClass(cls):
        cls.bridge = Bridge(clear_cache_after_tokens=30, memory_limit_bytes=3 << 30).ready()
        cls.addClassCleanup(cls.bridge.close)

    def test_the_status_is_what_the_daemon_parses(self):
        status = self.bridge.status()
        parts = {"WorkerStatus": status, "ModelFacts": status["model"], "EngineFacts": status["engine"],
                 "MemoryFacts": status["memory"], "Counters": status["counters"]}
        for struct, part in parts.items():
            self.assertEqual(set(part), rust_fields(struct), struct)
        protocol = pathlib.Path(ROOT, "worker/api/src/lib.rs").read_text()
        self.assertIn("PROTOCOL: u32 = %d;" % status["protocol"], protocol)
        self.assertEqual((status["pid"], status["generation"]), (self.bridge.process.pid, 3))
        self.assertEqual((status["nonce"], status["phase"], status["failure"]), (NONCE, "ready", None))
        self.assertRegex(status["fingerprint"], r"^mlx_lm:[0-9a-f]{32}$")
        self.assertEqual(status["bytes_done"], status["bytes_total"])
        model = status["model"]
        self.assertEqual((model["name"], model["architecture"], model["device"]), ("SmolLM2-135M-mlx", "llama", "cpu"))
        # 30 layers, keys and values, 3 heads of 64, four bytes each.
        self.assertEqual(model["kv_bytes_per_token"], 30 * 2 * 3 * 64 * 4)
        self.assertEqual(model["context_tokens"], 8192)
        self.assertGreater(model["weights_bytes"], 500 << 20)
        self.assertEqual(status["engine"]["slots"], SETTINGS["slots"])
        self.assertGreater(status["memory"]["footprint_bytes"], model["weights_bytes"])

    def test_only_the_owner_reaches_the_socket(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.bridge.socket).st_mode), 0o600)
        for table in ("tcp", "tcp6"):
            sockets = {os.readlink(entry) for entry in pathlib.Path("/proc/%d/fd" % self.bridge.process.pid).iterdir()}
            lines = pathlib.Path("/proc/net/" + table).read_text().splitlines()[1:]
            listening = {"socket:[%s]" % line.split()[9] for line in lines if line.split()[3] == "0A"}
            self.assertFalse(sockets & listening, "it listens on " + table)

    def test_a_plain_and_a_streamed_answer_are_the_same(self):
        before = self.bridge.status()
        plain = self.bridge.answer(FRANCE, max_tokens=20)
        self.assertIn("Paris", plain)
        stream = self.bridge.stream(FRANCE, max_tokens=20)
        self.assertEqual(stream.rest(), plain)
        self.assertTrue(stream.done, "no [DONE]")
        after = self.bridge.status()
        # One step a token at least, and the prompt's.
        tokens = after["counters"]["completion_tokens"] - before["counters"]["completion_tokens"]
        self.assertGreaterEqual(tokens, 14)
        self.assertGreater(after["engine"]["steps"] - before["engine"]["steps"], tokens)
        self.assertGreater(after["counters"]["prompt_tokens"], before["counters"]["prompt_tokens"])
        self.assertEqual(after["counters"]["requests"] - before["counters"]["requests"], 2)

    def test_the_other_paths_are_mlx_lms_own(self):
        code, text = self.bridge.ask("POST", "/v1/completions", {"prompt": "One, two, three,", "max_tokens": 3})
        self.assertEqual((code, json.loads(text)["object"]), (200, "text_completion"))
        code, text = self.bridge.ask("GET", "/v1/models")
        names = [model["id"] for model in json.loads(text)["data"]]
        self.assertEqual((code, names), (200, [os.path.realpath(SETTINGS["model"])]))
        self.assertEqual(self.bridge.ask("GET", "/health"), (200, '{"status": "ok"}'))
        self.assertEqual(self.bridge.ask("GET", "/nothing")[0], 404)

    def test_two_requests_run_at_once(self):
        # Named differently, and still in one batch.
        answers = [Asking(lambda name=name: self.bridge.answer(LONG, max_tokens=25, model=name)) for name in "ab"]
        self.bridge.until_active(2)
        first, second = [answer.get() for answer in answers]
        self.assertEqual(first, second)
        self.assertGreater(len(first), 20)

    def test_a_client_that_hangs_up_frees_its_place(self):
        cancelled = self.bridge.status()["counters"]["cancelled"]
        stream = self.bridge.stream(LONG, max_tokens=5000)
        self.assertTrue(stream.next())
        stream.hang_up()
        plain = self.bridge.connect("POST", "/v1/chat/completions", chat(LONG, max_tokens=5000))
        self.bridge.until_active(1)
        plain.close()
        self.bridge.until(lambda s: s["counters"]["cancelled"] == cancelled + 2, "both cancelled")
        self.bridge.until_active(0)
        self.assertIn("Paris", self.bridge.answer(FRANCE, max_tokens=20))

    def test_the_cache_is_cleared_by_command_and_after_a_long_answer(self):
        clears = self.bridge.status()["counters"]["cache_clears"]
        self.bridge.answer(FRANCE, max_tokens=20)
        self.bridge.until(lambda s: s["memory"]["mlx_cache_bytes"] > 0, "something in MLX's cache")
        code, memory = self.bridge.command("clear-cache")
        self.assertEqual((code, memory["mlx_cache_bytes"]), (200, 0))
        self.assertEqual(set(memory), rust_fields("MemoryFacts"))
        self.assertEqual(self.bridge.status()["counters"]["cache_clears"], clears + 1)
        self.bridge.answer(LONG, max_tokens=29)
        self.assertEqual(self.bridge.status()["counters"]["cache_clears"], clears + 1)
        self.bridge.answer(LONG, max_tokens=30)
        self.bridge.until(lambda s: s["counters"]["cache_clears"] == clears + 2, "cleared after 30 tokens")

    def test_saved_prompts_are_forgotten_by_command(self):
        self.bridge.answer(FRANCE, max_tokens=20)
        self.bridge.until(lambda s: s["memory"]["prefix_cache_bytes"] > 0, "a saved prompt")
        restored = self.bridge.status()["counters"]["restored_tokens"]
        self.bridge.answer(FRANCE, max_tokens=20)
        self.bridge.until(lambda s: s["counters"]["restored_tokens"] > restored, "a prompt that was not read again")
        code, memory = self.bridge.command("trim-prefix-cache")
        self.assertEqual((code, memory["prefix_cache_bytes"], memory["mlx_cache_bytes"]), (200, 0, 0))
        self.assertIn("Paris", self.bridge.answer(FRANCE, max_tokens=20))

    def test_limits_are_changed_by_command_only(self):
        gib = 1 << 30
        wanted = {"cache_limit_bytes": 1 << 20, "memory_limit_bytes": 2 * gib}
        code, memory = self.bridge.command("limits", json.dumps(wanted))
        self.assertEqual((code, memory["cache_limit_bytes"], memory["memory_limit_bytes"]), (200, 1 << 20, 2 * gib))
        self.bridge.answer(FRANCE, max_tokens=20)
        memory = self.bridge.command("limits", "{}")[1]
        self.assertLessEqual(memory["mlx_cache_bytes"], 1 << 20)  # MLX keeps to it
        for body in ('{"cache_limit_bytes": -1}', '{"wired_limit_bytes": 5}', "[]", "x"):
            code, error = self.bridge.command("limits", body)
            self.assertEqual((code, error["error"]["code"]), (400, "invalid_value"), body)
        code, memory = self.bridge.command("limits", json.dumps({"cache_limit_bytes": SETTINGS["cache_limit_bytes"],
                                                                 "memory_limit_bytes": 3 * gib}))
        self.assertEqual(memory["memory_limit_bytes"], 3 * gib)

    def test_only_the_latest_daemon_commands(self):
        for nonce, epoch in ((NONCE, EPOCH - 1), ("other", EPOCH), (NONCE, "x")):
            code, error = self.bridge.command("clear-cache", nonce=nonce, epoch=epoch)
            self.assertEqual((code, error["error"]["code"]), (409, "stale_command"), (nonce, epoch))
        self.assertEqual(self.bridge.ask("POST", "/control/clear-cache")[0], 409)
        self.assertEqual(self.bridge.command("unload")[0], 404)

    def test_one_model_nothing_from_the_network_and_no_prompt_in_the_log(self):
        code, text = self.bridge.ask("POST", "/v1/chat/completions", chat(FRANCE, adapters="/somewhere"))
        self.assertEqual(code, 400)
        self.assertIn("one model", text)
        image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/secret-word.png"}}]
        code, text = self.bridge.ask("POST", "/v1/chat/completions", chat(image))
        self.assertEqual(code, 400)
        self.assertIn("data URLs", text)
        self.assertEqual(self.bridge.ask("POST", "/v1/chat/completions", '{"prompt": "secret-word')[0], 400)
        self.bridge.answer("Say secret-word.", max_tokens=5)
        log = self.bridge.log()
        self.assertIn("withheld", log)
        self.assertNotIn("secret-word", log)
        self.assertNotIn("POST", log)


class Starting(BridgeTest):
    def test_not_ready_before_a_token_was_generated(self):
        bridge = self.start(faulty=True, wedged=True)
        status = bridge.until(lambda s: s["phase"] == "warming", "warming")
        self.assertEqual((status["engine"]["steps"], status["bytes_done"]), (0, status["bytes_total"]))
        self.assertFalse(bridge.has_said_ready())
        bridge.mend("wedge")
        bridge.ready()
        self.assertTrue(bridge.has_said_ready(), "the pipe is closed after the newline")
        self.assertEqual(os.read(bridge.pipe, 1), b"")
        status = bridge.status()
        self.assertEqual(status["phase"], "ready")
        self.assertGreater(status["engine"]["steps"], 1)
        self.assertEqual(status["counters"]["requests"], 0)

    def test_limits_are_set_before_the_weights_and_kept(self):
        bridge = self.start(faulty=True).ready()
        bridge.answer(FRANCE, max_tokens=20)
        bridge.answer(FRANCE, max_tokens=20, seed=1)  # not batched: mlx_lm's other way
        status, calls = bridge.status(), bridge.calls()
        weights = os.path.getsize(os.path.join(SETTINGS["model"], "model.safetensors"))
        limit = (40 << 30) // 100 * 95  # of a working set of 40 GiB; a reserve of 8 GiB out of 48 leaves more
        self.assertEqual(calls[:3], [["set_memory_limit", str(limit)],
                                     ["set_cache_limit", str(SETTINGS["cache_limit_bytes"])],
                                     ["set_wired_limit", str(weights)]])
        self.assertEqual({call[0] for call in calls[3:]}, {"load", "mlx_lm_asks"})
        self.assertGreaterEqual([call[0] for call in calls].count("mlx_lm_asks"), 2)
        memory = status["memory"]
        self.assertEqual(memory["wired_limit_bytes"], weights)
        self.assertEqual(memory["cache_limit_bytes"], SETTINGS["cache_limit_bytes"])
        self.assertEqual(memory["memory_limit_bytes"], limit)
        self.assertEqual(memory["recommended_working_set_bytes"], 40 << 30)

    def test_a_wired_limit_that_is_off_is_never_set(self):
        bridge = self.start(faulty=True, wired_limit="off", context=40).ready()  # shorter than the warm-up
        bridge.answer(FRANCE, max_tokens=2)
        self.assertNotIn("set_wired_limit", [call[0] for call in bridge.calls()])
        self.assertIsNone(bridge.status()["memory"]["wired_limit_bytes"])

    def test_a_hub_id_from_the_cache_and_a_context_that_bounds_prompt_and_answer(self):
        hub = tempfile.TemporaryDirectory()
        self.addCleanup(hub.cleanup)
        cached = pathlib.Path(hub.name, "models--some-owner--Small-Model")
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("abc123\n")
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / "abc123").symlink_to(SETTINGS["model"])
        bridge = self.start(model="some-owner/Small-Model", context=64, environment={"HF_HUB_CACHE": hub.name}).ready()
        self.assertEqual(bridge.status()["model"]["name"], "some-owner/Small-Model")
        code, text = bridge.ask("POST", "/v1/chat/completions", chat("word " * 64))
        self.assertEqual((code, json.loads(text)["error"]["code"]), (400, "context_length_exceeded"))
        self.assertRegex(text, r"maximum context length is 64 tokens. However, you requested \d+ tokens")
        code, text = bridge.ask("POST", "/v1/chat/completions", chat(LONG, max_tokens=500))
        reply = json.loads(text)
        self.assertEqual((code, reply["usage"]["total_tokens"]), (200, 64))
        self.assertEqual(reply["choices"][0]["finish_reason"], "length")
        self.assertEqual(bridge.status()["model"]["context_tokens"], 64)

    def test_a_model_that_is_not_there_says_how_to_get_it(self):
        bridge = self.start(model="some-owner/No-Such-Model")
        self.assertEqual(bridge.ended(), 1)
        self.assertIn("hf download some-owner/No-Such-Model", bridge.log())
        self.assertTrue(bridge.has_said_ready(), "the pipe is closed")
        self.assertEqual(os.read(bridge.pipe, 1), b"")

    def test_a_damaged_model_a_strange_socket_and_a_missing_gpu_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "config.json").write_text('{"model_type": "llama"}')
            pathlib.Path(folder, "model.safetensors").write_bytes(b"nothing")
            bridge = self.start(model=folder)
            self.assertEqual(bridge.ended(), 1)
            self.assertIn("mlx_lm_worker: cannot load the model `%s`: " % folder, bridge.log().splitlines()[-1])
        bridge = self.start(environment={"MLXSUP_SOCKET": WORKER})
        self.assertEqual(bridge.ended(), 1)
        self.assertIn("a file that is not a socket", bridge.log())
        self.assertTrue(os.path.exists(WORKER), "it must not take away what is not its own")
        bridge = self.start(device="gpu")
        self.assertEqual(bridge.ended(), 1)
        self.assertIn("no usable GPU", bridge.log())


class Ending(BridgeTest):
    def test_a_dead_generation_thread_ends_the_process(self):
        bridge = self.start(faulty=True).ready()
        stream = bridge.stream(LONG, max_tokens=5000)
        self.assertTrue(stream.next())
        bridge.fault("raise", "the engine's last words")
        stream.rest()
        self.assertFalse(stream.done, "a broken stream must not look complete")
        self.assertEqual(bridge.ended(), 1)
        message = "mlx_lm_worker: mlx_lm's generation thread died: RuntimeError: the engine's last words"
        self.assertEqual(bridge.log().splitlines()[-1], message)
        self.assertFalse(os.path.exists(bridge.socket))

    def test_a_gpu_error_that_mlx_lm_survives_ends_the_process_unanswered(self):
        bridge = self.start(faulty=True).ready()
        bridge.fault("raise", "an ordinary error")
        # A seed keeps it out of the batch: there mlx_lm's thread survives.
        code, text = bridge.ask("POST", "/v1/chat/completions", chat(FRANCE, seed=1))
        self.assertEqual((code, json.loads(text)["error"]["code"]), (500, "engine_error"))
        self.assertEqual(bridge.status()["counters"]["failed"], 1)
        bridge.fault("raise", "[METAL] Command buffer execution failed: Insufficient Memory")
        answer = Asking(lambda: bridge.ask("POST", "/v1/chat/completions", chat(FRANCE, seed=1))).get()
        self.assertIsInstance(answer, (ConnectionError, http.client.BadStatusLine))
        self.assertEqual(bridge.ended(), 1)
        self.assertIn("died: RuntimeError: [METAL] Command buffer", bridge.log().splitlines()[-1])

    def test_the_status_answers_while_generation_is_wedged(self):
        bridge = self.start(faulty=True).ready()
        bridge.fault("wedge")
        answer = Asking(lambda: bridge.answer(FRANCE, max_tokens=20))
        bridge.until_active(1)
        first = bridge.until(lambda s: s["engine"]["pending_prefill_tokens"] > 30, "the prompt seen as pending")
        later = bridge.until(lambda s: (s["engine"]["last_step_age_ms"] or 0) >= 1000, "a second without a step")
        self.assertEqual(later["engine"]["steps"], first["engine"]["steps"])
        bridge.mend("wedge")
        self.assertIn("Paris", answer.get())
        # Wedged for good: the first signal waits for the answer, the second does not.
        bridge.fault("wedge")
        answer = Asking(lambda: bridge.answer(FRANCE, max_tokens=20))
        bridge.until(lambda s: s["engine"]["active"] + s["engine"]["waiting"] == 1, "a request taken")
        bridge.terminate()
        while os.path.exists(bridge.socket):  # taken away by the first signal
            self.assertIsNone(bridge.process.poll())
        bridge.terminate()
        self.assertEqual(bridge.ended(), 143)

    def test_sigterm_lets_the_answer_end(self):
        bridge = self.start().ready()
        stream = bridge.stream(LONG, max_tokens=30)
        self.assertTrue(stream.next())
        bridge.terminate()
        stream.rest()
        self.assertTrue(stream.done, "the answer was cut off")
        self.assertEqual(bridge.ended(), 0)
        self.assertFalse(os.path.exists(bridge.socket))
        self.assertEqual(bridge.log(), "")

    def test_sigterm_while_loading_ends_at_once(self):
        bridge = self.start(faulty=True, wedged=True)
        bridge.until(lambda s: s["phase"] == "warming", "warming")
        bridge.terminate()
        self.assertEqual(bridge.ended(), 0)

    def test_the_lease_ends_an_orphan_after_its_work(self):
        bridge = self.start(lease_s=2).ready()
        stream = bridge.stream(LONG, max_tokens=40)  # longer than the lease, and nobody asks for the status
        stream.rest()
        self.assertTrue(stream.done)
        self.assertEqual(bridge.ended(), 0)
        self.assertIn("whole lease", bridge.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
