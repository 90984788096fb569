#!/usr/bin/env python3
"""The model-based test on a mounted volume: remounted, and with mountd and stored killed under it.

usage: model_mount.py BINDIR [OPS]
"""
import os
import random
import shutil
import subprocess
import sys

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


def kill_command(node, role):
    """Kills a worker as its own user does; the next operations must not notice."""
    find = ("import json, sys; print(next(w['pid'] for w in json.load(sys.stdin)['workers'] "
            f"if w['role'] == '{role}'))")
    return f"kill -KILL $({node.bench.bin}/bazil server status -json | /usr/bin/python3 -c \"{find}\")"


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
    # A mountd that dies five times in half a minute is given up: four deaths in all.
    model(node, seed + 2, ops, "--hook", kill_command(node, "mountd"), "--hook-every", str(max(ops // 2, 1)))
    model(node, seed + 3, ops, "--hook", kill_command(node, "stored"), "--hook-every", str(max(ops // 4, 1)))
    both = kill_command(node, "stored") + " && " + kill_command(node, "mountd")
    model(node, seed + 4, ops, "--hook", both, "--hook-every", str(max(ops // 2, 1)))
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
