"""What the experiment borrows from the machine, and gives back: swap on a zram device, and a control group with a limit.

Both are context managers, so that they are undone however a run ends. Nothing here touches a device or a group that it did
not set up itself.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MIB = 1 << 20


class Refused(Exception):
    """A precondition is missing; the text says which and what to do."""


def check(model, programs):
    """Refuses, with everything that is missing at once."""
    missing = []
    if not sys.platform.startswith("linux"):
        raise Refused("real compression is measured through zram, which only Linux has; on a Mac watch `mlxsupctl top`")
    if os.geteuid() != 0:
        missing.append("root is needed for swap and a control group: run it by sudo, or in a virtual machine of yours")
    for tool in ("mkswap", "swapon", "swapoff"):
        if not any(os.access(f"{folder}/{tool}", os.X_OK) for folder in search_path()):
            missing.append(f"{tool} is missing: install util-linux (Debian: apt-get install mount util-linux)")
    if not model.is_file():
        missing.append(f"{model} is missing: make model")
    missing += [f"{program} is missing: make build" for program in programs if not os.access(program, os.X_OK)]
    if missing:
        raise Refused("\n".join(missing))


def search_path():
    return os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin"]


def run(*command):
    environment = {**os.environ, "PATH": ":".join(search_path())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"`{' '.join(map(str, command))}` failed: {done.stderr.strip()}")


class Zram:
    """Swap on a zram device that nobody uses, of the highest priority while it lasts."""

    def __init__(self, size_bytes):
        self.size_bytes = size_bytes
        self.device = None
        self.added = False

    def __enter__(self):
        try:
            self.device = self.unused()
            self.block = Path("/sys/block") / self.device
            (self.block / "disksize").write_text(str(self.size_bytes))
            run("mkswap", f"/dev/{self.device}")
            run("swapon", "--priority", "32767", f"/dev/{self.device}")
        except BaseException as error:
            self.give_back()
            if isinstance(error, OSError):
                raise Refused(f"zram cannot be set up: {error}") from error
            raise
        return self

    def __exit__(self, *_):
        self.give_back()

    def unused(self):
        """A device of size 0: one that nobody has set up. Else a new one, where the kernel makes them."""
        devices = sorted(Path("/sys/block").glob("zram*"))
        for device in devices:
            if (device / "disksize").read_text().strip() == "0":
                return device.name
        control = Path("/sys/class/zram-control/hot_add")
        if control.exists():
            number = control.read_text().strip()
            self.added = True
            return f"zram{number}"
        if not devices:
            raise Refused("there is no zram device: modprobe zram (a kernel without it needs CONFIG_ZRAM)")
        name = devices[0].name
        raise Refused(
            f"{name} is in use and the kernel offers no other; somebody else's swap stays as it is.\n"
            f"If a killed run left it behind: swapoff /dev/{name}; echo 1 > /sys/block/{name}/reset"
        )

    def give_back(self):
        device, self.device = self.device, None
        if device is None:
            return
        if any(line.split()[0] == f"/dev/{device}" for line in Path("/proc/swaps").read_text().splitlines()[1:]):
            run("swapoff", f"/dev/{device}")
        if (self.block / "disksize").read_text().strip() != "0":
            (self.block / "reset").write_text("1")
        if self.added:
            Path("/sys/class/zram-control/hot_remove").write_text(device.removeprefix("zram"))

    def algorithm(self):
        chosen = (self.block / "comp_algorithm").read_text()
        return chosen.partition("[")[2].partition("]")[0] or chosen.strip()


class Group:
    """A control group with a memory limit, of version 1 or 2, below the one we are in where that is allowed."""

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        self.path = None

    def __enter__(self):
        try:
            self.make()
        except OSError as error:
            self.give_back()
            raise Refused(f"no control group with a memory limit can be made here: {error}") from error
        return self

    def make(self):
        name = f"mlxsup-bench-{os.getpid()}"
        mount = Path("/sys/fs/cgroup")
        own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        first = next((path for controllers, path in own.items() if "memory" in controllers.split(",")), None)
        if first is not None:
            self.version = 1
            root = mount / "memory"
            parent = root / first.lstrip("/")
            # A container sees its own group as the root of the mount.
            self.path = (parent if parent.is_dir() else root) / name
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(self.limit_bytes))
            return
        self.version = 2
        if not (mount / "cgroup.controllers").is_file():
            raise Refused("there is no memory controller under /sys/fs/cgroup: mount cgroup2 there")
        # A group with processes of its own may have no limited children: the nearest one above that hands memory down.
        own_path = mount / own.get("", "/").lstrip("/")
        above = [path for path in (own_path, *own_path.parents) if path == mount or mount in path.parents]
        hands_down = [path for path in above if "memory" in (path / "cgroup.subtree_control").read_text().split()]
        parent = hands_down[0] if hands_down else mount
        if not hands_down:
            (mount / "cgroup.subtree_control").write_text("+memory")
        self.path = parent / name
        self.path.mkdir()
        (self.path / "memory.max").write_text(str(self.limit_bytes))

    def __exit__(self, *_):
        self.give_back()

    @property
    def processes(self):
        """The file that takes a process in by its number."""
        return self.path / "cgroup.procs"

    def used_bytes(self):
        return int((self.path / ("memory.usage_in_bytes" if self.version == 1 else "memory.current")).read_text())

    def give_back(self):
        path, self.path = self.path, None
        if path is None or not path.is_dir():
            return
        # Whoever is in it was put there by us: the neighbour, and a worker whose daemon is gone.
        for _ in range(100):
            pids = (path / "cgroup.procs").read_text().split()
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        for _ in range(50):
            try:
                return path.rmdir()
            except OSError:
                time.sleep(0.1)
        print(f"the control group is still busy; remove it later: rmdir {path}", file=sys.stderr)
