"""Runs the worker with mlx_lm made to fail on demand; the worker's own file is as shipped.

FAULTS names a folder. While it has a file `wedge`, the model's forward pass does not return; while it has a file
`raise`, the forward pass raises RuntimeError with the file's text. Calls that matter to the memory limits are written
to `calls`, and MLX reports a recommended working set, as on a Mac: a reason for mlx_lm to change the wired limit.
"""

import os
import runpy
import sys
import time

import mlx.core as mx

GIB = 1 << 30
folder = os.environ["FAULTS"]
calls = open(os.path.join(folder, "calls"), "a", buffering=1)


def recorded(name, function):
    def call(*arguments, **options):
        calls.write("%s %s\n" % (name, arguments[0] if arguments else ""))
        return function(*arguments, **options)

    return call


device_info = mx.device_info
mx.device_info = lambda *_: {**device_info(), "max_recommended_working_set_size": 40 * GIB, "memory_size": 48 * GIB}
for name in ("set_wired_limit", "set_cache_limit", "set_memory_limit", "load"):
    setattr(mx, name, recorded(name, getattr(mx, name)))

import mlx_lm.models.llama as llama  # noqa: E402

# By its name in sys.modules: mlx_lm.generate is also a function. Both ways of generating ask through it.
generate = sys.modules["mlx_lm.generate"]
ask = getattr(generate, "maybe_set_recommended_wired_limit", None)
if ask is not None:
    generate.maybe_set_recommended_wired_limit = recorded("mlx_lm_asks", ask)
forward = llama.Model.__call__


def faulty(self, *arguments, **options):
    while os.path.exists(os.path.join(folder, "wedge")):
        time.sleep(0.01)
    if os.path.exists(os.path.join(folder, "raise")):
        with open(os.path.join(folder, "raise")) as file:
            raise RuntimeError(file.read())
    return forward(self, *arguments, **options)


llama.Model.__call__ = faulty
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
