#!/usr/bin/env python3
"""The POSIX suite on mounted volumes: an ordinary user's own mount, root's mount, and an ordinary user's directory on it.

usage: posix_mount.py BINDIR [-k PATTERN]
"""
import os
import shutil
import subprocess
import sys

import harness
from harness import check

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ("posix.py", "posix_case.py", "posix_data.py", "posix_fsx.py", "posix_meta.py", "posix_names.py", "posix_matrix.py", "tree.py")
PYTHON = "/usr/bin/python3"

# A small tree of everything that a remount must keep.
LEAVE = """
import os, sys
os.chdir(sys.argv[1])
os.makedirs("kept/sub/deep")
for i, size in enumerate((0, 1, 4095, 4097, 70000, 3000000)):
    with open(f"kept/f{i}", "wb") as f:
        f.write(bytes([i]) * size)
    os.utime(f"kept/f{i}", ns=(i, 10**18 + i))
    os.chmod(f"kept/f{i}", 0o600 + i)
    os.setxattr(f"kept/f{i}", "user.i", b"%d" % i)
os.link("kept/f3", "kept/sub/link")
os.symlink("../f4", "kept/sub/symlink")
os.mkfifo("kept/sub/fifo")
with open("kept/sparse", "wb") as f:
    f.truncate(1 << 40)
    f.seek(1 << 39)
    f.write(b"middle")
os.utime("kept/sub/deep", ns=(1, 10**18 + 99))
"""
LOOK = """
import hashlib, os, sys, tree
top = sys.argv[1]
for path, entry in sorted(tree.describe(top).items()):
    print(path, entry)
for i in range(6):
    with open(f"{top}/f{i}", "rb") as f:
        print(i, hashlib.sha256(f.read()).hexdigest())
with open(f"{top}/sparse", "rb") as f:
    print(os.lseek(f.fileno(), 0, os.SEEK_DATA) >> 20, os.pread(f.fileno(), 10, 1 << 39))
"""


def copy_suite(bench):
    """To where every user can read it."""
    bench.suite = os.path.join(bench.dir, "suite")
    os.mkdir(bench.suite, 0o755)
    for name in FILES:
        shutil.copy(os.path.join(HERE, name), bench.suite)
        os.chmod(os.path.join(bench.suite, name), 0o644)


def python(node, user, *argv):
    env = dict(node.environment(), PYTHONPATH=node.bench.suite)
    if "BAZIL_SEED" in os.environ:
        env["BAZIL_SEED"] = os.environ["BAZIL_SEED"]
    return subprocess.run([*user.prefix(), PYTHON, "-B", *argv], capture_output=True, errors="surrogateescape", env=env, cwd="/", timeout=900)


def kept(node, mnt):
    r = python(node, node.user, "-c", LOOK, mnt + "/kept")
    check(r.returncode == 0, f"what was kept cannot be read: {r.stdout}{r.stderr}")
    return r.stdout


def matrix(node, user, directory):
    """What ext4 does and the mount does not, for all single calls. Needs an ext4 to ask."""
    native = os.path.join(node.bench.dir, f"native-{node.name}-{user.uid}")
    os.mkdir(native, 0o755)
    os.chown(native, user.uid, user.gid)
    kind = subprocess.run(["stat", "-f", "-c", "%T", native], capture_output=True, text=True).stdout.strip()
    if kind != "ext2/ext3":
        print(f"not compared with a native file system: {native} is on {kind}, not on ext4")
        return True
    r = python(node, user, node.bench.suite + "/posix_matrix.py", native, directory)
    print(f"uid {user.uid} in {directory}:\n{r.stdout}{r.stderr}", flush=True)
    return r.returncode == 0


def run_on(node, users, *options):
    """The suite for each (user, directory below the mount), a remount after each. Returns for whom it failed."""
    mnt = os.path.join(node.home, "mnt")
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt")
    node.bazil("volume", "mount", *options, "v", mnt)
    r = python(node, node.user, "-c", LEAVE, mnt)
    check(r.returncode == 0, r.stderr)
    before = kept(node, mnt)
    failed = []
    for user, below in users:
        directory = os.path.join(mnt, below)
        if below:
            os.mkdir(directory, 0o755)
            os.chown(directory, user.uid, user.gid)
        r = python(node, user, node.bench.suite + "/posix.py", directory, *sys.argv[2:])
        print(f"uid {user.uid} in {directory}:\n{r.stdout}{r.stderr}", flush=True)
        if r.returncode != 0 or (not sys.argv[2:] and below == "" and not matrix(node, user, directory)):
            failed.append(user.uid)
        node.bazil("volume", "unmount", "v")
        node.bazil("volume", "mount", *options, "v", mnt)
        after = kept(node, mnt)
        check(after == before, f"a remount changed the tree:\n{before}\n{after}")
    left = sorted(node.sh("ls -A mnt").split())
    check(left == sorted(["kept"] + [below for _, below in users if below]), f"the suite left something: {left}")
    node.bazil("volume", "unmount", "v")
    node.stop()
    return failed


def test(bench):
    copy_suite(bench)
    user = bench.ordinary_user()
    failed = run_on(bench.node("ordinary", user), [(user, "")])
    if os.getuid() == 0:
        root = harness.User()
        failed += run_on(bench.node("root", root), [(root, ""), (user, "theirs")], "-allow-other")
    check(not failed, f"the suite failed for uid {failed}")


harness.run(test)
