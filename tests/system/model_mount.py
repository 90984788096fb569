#!/usr/bin/env python3
"""The model-based test on a mounted volume: remounted, and with mountd, stored and keyd killed under it at any moment.

usage: model_mount.py BINDIR [OPS]
"""
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import harness
from harness import check

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ("model.py", "posix_case.py")


def model(node, seed, ops, *options):
    reference = os.path.join(node.home, f"reference{seed}")
    ours = os.path.join(node.home, "mnt", f"ours{seed}")
    node.sh(f"mkdir {reference} {ours}")
    env = dict(node.environment(), BAZIL_SEED=str(seed))
    r = subprocess.run([*node.user.prefix(), "/usr/bin/python3", "-B", node.bench.suite + "/model.py", "--dir", ours, "--reference", reference,
                        "--ops", str(ops), *options], capture_output=True, errors="surrogateescape", env=env, cwd="/", timeout=600)
    print(f"{r.stdout}{r.stderr}", flush=True)
    check(r.returncode == 0, f"the mount and the reference differ, BAZIL_SEED={seed}")
    node.sh(f"rm -r {reference} {ours}")


class Killer(threading.Thread):
    """Kills workers by their names, one after another or two at once, whatever they are doing."""

    # Who dies again and again is started again a second later: all of them must live now and then.
    FIRST, PAUSE = (0.0, 0.2), (0.05, 3.0)
    # The server takes a mount down when its mountd is killed twenty times in 30 seconds.
    MOUNTD_KILLS, MOUNTD_SECONDS = 17, 31

    def __init__(self, node, seed, roles):
        super().__init__()
        self.node, self.roles, self.rng = node, roles, random.Random(seed)
        self.kills = dict.fromkeys(roles, 0)
        self.mountd_kills = []
        self.done, self.error = threading.Event(), None

    def may_kill(self, role):
        if role != "mountd":
            return True
        now = time.monotonic()
        self.mountd_kills = [t for t in self.mountd_kills if now - t < self.MOUNTD_SECONDS]
        if len(self.mountd_kills) == self.MOUNTD_KILLS:
            return False
        self.mountd_kills.append(now)
        return True

    def strike(self):
        status = self.node.status()
        roles = self.rng.sample(self.roles, min(len(self.roles), self.rng.choice((1, 1, 1, 2))))
        for w in status["workers"]:
            # Nobody's pid: it is on its way up again.
            if w["role"] in roles and w["pid"] > 0 and self.may_kill(w["role"]):
                self.node.command(["kill", "-KILL", str(w["pid"])])
                self.kills[w["role"]] += 1

    def run(self):
        try:
            pause = self.FIRST
            while not self.done.wait(self.rng.uniform(*pause)):
                self.strike()
                pause = self.PAUSE
        except Exception as e:  # told by the thread that joins
            self.error = e

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()
        print("killed:", ", ".join(f"{num} {role}" for role, num in self.kills.items()), flush=True)
        if self.error:
            raise self.error
        check(sum(self.kills.values()) > 0, "nobody was killed")


def test(bench):
    bench.suite = os.path.join(bench.dir, "suite")
    os.mkdir(bench.suite, 0o755)
    for name in FILES:
        shutil.copy(os.path.join(HERE, name), bench.suite)
        os.chmod(os.path.join(bench.suite, name), 0o644)
    node = bench.node("node")
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt && bazil volume mount v mnt")
    mnt = os.path.join(node.home, "mnt")
    seed = int(os.environ.get("BAZIL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    ops = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    model(node, seed, ops)
    remount = f"{bench.bin}/bazil volume unmount v && {bench.bin}/bazil volume mount v {mnt}"
    model(node, seed + 1, ops, "--hook", remount, "--hook-every", str(max(ops // 5, 1)), "--hook-closed")
    for i, roles in enumerate((["mountd"], ["stored"], ["keyd"], ["mountd", "stored", "keyd"])):
        with Killer(node, seed + i, roles):
            model(node, seed + 2 + i, ops)
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
