#!/usr/bin/env python3
"""The model-based test on a mounted volume: remounted, and with mountd, stored and keyd killed under it at any moment.

usage: model_mount.py BINDIR [OPS]
"""
import os
import random
import shutil
import subprocess
import sys

import harness
from harness import check
from kills import Killer

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
    seed = harness.seed()
    ops = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    model(node, seed, ops)
    remount = f"{bench.bin}/bazil volume unmount v && {bench.bin}/bazil volume mount v {mnt}"
    model(node, seed + 1, ops, "--hook", remount, "--hook-every", str(max(ops // 5, 1)), "--hook-closed")
    for i, roles in enumerate((["mountd"], ["stored"], ["keyd"], ["mountd", "stored", "keyd"])):
        # A mountd killed twenty times in 30 seconds is given up: this kills it 14 times in that, about.
        with Killer(node, roles, random.Random(seed + i), (0.3, 4.0), first=0.1) as killer:
            model(node, seed + 2 + i, ops)
        check(killer.kills > 0, f"no {roles} was killed")
        print(f"{killer.kills} kills of {', '.join(roles)}", flush=True)
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
