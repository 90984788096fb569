#!/usr/bin/env python3
"""A full disk: writers are told, nothing that was fsynced is lost, reading and deleting go on, what is deleted gives its room
back, and nothing dies. The data directory is on a small tmpfs, filled first through the mount, then by somebody else.
"""
import json
import os
import subprocess

import harness
from harness import check, say, wait_for

MEGABYTES = 288

# Files of random bytes, named by their digest, fsynced one after another until that fails. Prints the names that hold.
FILL = """
import errno, hashlib, os, sys
path, size, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(most):
    data = os.urandom(size)
    name = f"{path}/{i:05}-{hashlib.sha256(data).hexdigest()}"
    try:
        os.makedirs(path, exist_ok=True)
        fd = os.open(name, os.O_CREAT | os.O_WRONLY)
        try:
            at = 0
            while at < size:
                at += os.write(fd, data[at:])
            os.fsync(fd)
            print(name)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        if sys.argv[4] == "tidy" and os.path.exists(name):
            os.unlink(name)
        print("full")
        break
"""


def fill(node, path, size, most=10000, tidy="tidy"):
    """The names of the files that were fsynced, and whether the disk was full then. tidy: deletes the one that failed."""
    r = node.command(["python3", "-c", FILL, path, str(size), str(most), tidy], timeout=300)
    check(r.returncode == 0, f"{path}: {r.stdout[-300:]}{r.stderr[-1000:]}")
    names = r.stdout.split()
    is_full = bool(names) and names[-1] == "full"
    return names[:-1] if is_full else names, is_full


def verify(node, names):
    """Each has what its name says."""
    for i in range(0, len(names), 500):
        for line in node.sh("sha256sum " + " ".join(names[i:i + 500])).splitlines():
            found, name = line.split()
            check(name.split("-")[-1] == found, f"{name} has {found}")


def available(node):
    fs = os.statvfs(node.data_home)
    return fs.f_bavail * fs.f_frsize >> 20


def nothing_died(node):
    for w in node.status()["workers"]:
        check(w["restarts"] == 0 and w["state"] == "running", f"{w}\n{node.log_text()[-3000:]}")


def remount(node):
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")


def forget_history(node):
    node.bazil("volume", "retention", "v", "-keep-all=0", "-hourly=0", "-daily=0", "-weekly=0", "-monthly=0")


def gc(node):
    """Once retention has dropped what was before, which it begins with as soon as it is set."""
    forget_history(node)
    wait_for(lambda: json.loads(node.bazil("gc", "-dry-run", "-json"))["history"]["objects"] == 0, "history to go", 60)
    return json.loads(node.bazil("gc", "-now", "-json", timeout=300))


def room_again(node):
    """What stored sees of the room, it sees within a second or two."""
    wait_for(lambda: node.command(["mkdir", "mnt/room"]).returncode == 0, "room again", 20)
    node.sh("rmdir mnt/room")


def test_filled_through_the_mount(node):
    names, is_full = fill(node, "mnt/a", 5 << 20, tidy="")
    check(is_full and len(names) > 10, f"{len(names)} files, full: {is_full}")
    say(f"full after {len(names)} files, {available(node)} MiB left")
    more, is_full = fill(node, "mnt/b", 20000)
    check(is_full, "and it stays so")
    r = node.command(["mkdir", "mnt/never"])
    check("No space left" in r.stderr, r)
    verify(node, names + more)
    # What failed may be in memory alone: it is not lost without a word.
    r = node.bazil("volume", "unmount", "v", ok=False)
    if r.returncode != 0:
        check("the disk is full" in r.stderr and "-force" in r.stderr, r)
        say(f"not unmounted: {r.stderr.strip()}")
        node.bazil("volume", "unmount", "-force", "v")
    wait_for(lambda: node.bazil("volume", "mount", "v", "mnt", ok=False).returncode == 0, "the mount", 20)
    nothing_died(node)
    verify(node, names + more)
    nothing_died(node)
    node.sh("rm -rf mnt/b")
    node.bazil("volume", "unmount", "v")
    node.stop()
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    verify(node, names)
    before = available(node)
    gone, names = names[::2], names[1::2]
    node.sh("rm " + " ".join(gone))
    done = gc(node)
    say(f"{len(gone)} files deleted, {done['freed']['bytes'] >> 20} MiB freed: {before} MiB free before, {available(node)} after")
    check(available(node) > before + len(gone) * 5 * 0.7, f"the room did not come back: {done}")
    room_again(node)
    again, is_full = fill(node, "mnt/c", 1 << 20, 20)
    check(not is_full and len(again) == 20, "writing goes on")
    verify(node, names + again)
    nothing_died(node)
    return names + again


def test_filled_by_somebody_else(node, names):
    """Not a byte is left: what deletes lives on the reserve."""
    filler = node.data_home + "/filler"
    node.sh(f"head -c 1G /dev/zero >{filler}", ok=False)
    check(available(node) == 0, "not full")
    wait_for(lambda: fill(node, "mnt/d", 100000, 1)[1], "a writer to be told", 20)
    verify(node, names)
    r = node.command(["bash", "-c", f"echo more >>{names[-1]}"])
    check("No space left" in r.stderr, f"a file grows on a full disk: {r}")
    gone, names = names[:10], names[10:]
    node.sh("rm " + " ".join(gone))
    say("deleted with nothing left")
    remount(node)
    nothing_died(node)
    node.bazil("volume", "unmount", "v")
    node.stop()
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    verify(node, names)
    done = gc(node)
    say(f"{done['freed']['bytes'] >> 20} MiB freed, {available(node)} MiB free")
    check(done["freed"]["objects"] > 0 and available(node) > 10, f"the room did not come back: {done}")
    nothing_died(node)
    os.unlink(filler)
    room_again(node)
    again, is_full = fill(node, "mnt/e", 1 << 20, 20)
    check(not is_full, "writing goes on")
    verify(node, names + again)
    return names + again


def test(bench):
    harness.need_root()
    node = bench.node("one")
    os.mkdir(node.data_home)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,uid={node.user.uid},gid={node.user.gid},mode=0700",
                    "tmpfs", node.data_home], check=True)
    node.bazil("create", "-arena-size=16M")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt")
    node.bazil("volume", "mount", "v", "mnt")
    forget_history(node)
    names = test_filled_through_the_mount(node)
    names = test_filled_by_somebody_else(node, names)
    nothing_died(node)
    node.bazil("scrub", "-rate=4000")
    status = json.loads(node.bazil("store", "status", "-json"))
    check(not status["damaged_ranges"] and not status["damaged_objects"] and status["reserve_bytes"] > 0, status)
    node.bazil("store", "rebuild-index", "-force")
    remount(node)
    verify(node, names)
    say(f"{len(names)} files read as they were written")


harness.run(test)
