#!/usr/bin/env python3
"""Mounts with -auto: they come back after an orderly stop, a sudden death and an upgrade, and are forgotten by an unmount only."""
import os
import signal

import harness
from harness import check, mounts_below, wait_for

AUTO = 4


def mount_of(node, path):
    found = [m for m in node.status()["mounts"] if m["path"] == path]
    check(len(found) <= 1, f"listed twice: {found}")
    return found[0] if found else None


def is_up(node, path):
    return path in mounts_below(node.home) and (mount_of(node, path) or {}).get("state") == "mounted"


def comes_back(node, mnt):
    node.sh("echo kept >mnt/file && sync mnt/file")
    check(mount_of(node, mnt)["flags"] & AUTO, "status does not tell it")
    check("at every start" in node.bazil("server", "status"), "nor in words")
    node.stop()
    check(not mounts_below(node.home), "a stop unmounts")
    node.start()
    wait_for(lambda: is_up(node, mnt), "the mount after a stop")
    check(node.sh("cat mnt/file") == "kept\n", "another volume")

    os.kill(node.server.pid, signal.SIGKILL)
    node.server.wait(10)
    node.start()
    wait_for(lambda: is_up(node, mnt), "the mount after a sudden death")
    check(node.sh("cat mnt/file") == "kept\n", "another volume after a sudden death")

    node.bazil("server", "upgrade")
    wait_for(lambda: is_up(node, mnt), "the mount after an upgrade")
    check(node.sh("cat mnt/file") == "kept\n", "another volume after an upgrade")


def waits_for_its_directory(node, mnt):
    """As when it is on a disk that comes later: it is tried again, and told."""
    node.stop()
    os.rename(mnt, mnt + ".away")
    node.start()
    wait_for(lambda: (mount_of(node, mnt) or {}).get("state") == "waiting" and mount_of(node, mnt)["why"], "that it waits")
    check("waiting" in node.bazil("server", "status"), "status tells it")
    os.rename(mnt + ".away", mnt)
    wait_for(lambda: is_up(node, mnt), "the mount when its directory has come", 40)
    # Down by itself it stays down, but is not forgotten.
    node.sh(f"fusermount3 -u {mnt}")
    wait_for(lambda: (mount_of(node, mnt) or {}).get("state") == "down", "that it is down")
    node.stop()
    node.start()
    wait_for(lambda: is_up(node, mnt), "the mount that was unmounted from outside")


def is_forgotten(node, mnt):
    node.bazil("volume", "unmount", "v")
    check(mount_of(node, mnt) is None, "unmounted, and still listed")
    node.stop()
    node.start()
    check(not mounts_below(node.home) and mount_of(node, mnt) is None, "mounted again though it was unmounted")
    # One that is up already need only be noted, and one that is not up can be forgotten.
    node.bazil("volume", "mount", "v", mnt)
    check(not mount_of(node, mnt)["flags"] & AUTO, "noted without -auto")
    node.bazil("volume", "mount", "-auto", "v", mnt)
    check(mount_of(node, mnt)["flags"] & AUTO, "not noted")
    node.fails("volume", "mount", "-auto", "-read-only", "v", mnt, says="mounted there already")
    node.stop()
    os.rename(mnt, mnt + ".away")
    node.start()
    wait_for(lambda: (mount_of(node, mnt) or {}).get("state") == "waiting", "that it waits")
    node.bazil("volume", "unmount", mnt)
    check(mount_of(node, mnt) is None, "forgotten, and still listed")
    node.fails("volume", "unmount", mnt, says="nothing of this server")
    os.rename(mnt + ".away", mnt)


def refuses(node, mnt):
    node.fails("volume", "mount", "-auto", "-at=-1h", "v", mnt, status=2, says="-auto")
    node.sh("mkdir \"$(printf 'two\\nlines')\"")
    odd = os.path.join(node.home, "two\nlines")
    node.bazil("volume", "mount", "-auto", "v", odd)
    node.stop()
    node.start()
    wait_for(lambda: (mount_of(node, odd) or {}).get("state") == "mounted", "the mount whose path has a line break")
    check(node.sh("cat two*/file") == "kept\n", "another volume on it")
    node.bazil("volume", "unmount", "v")
    # With the volume goes the note.
    node.bazil("volume", "create", "gone")
    node.sh("mkdir gone")
    node.bazil("volume", "mount", "-auto", "gone", os.path.join(node.home, "gone"))
    node.sh("fusermount3 -u gone")
    wait_for(lambda: mount_of(node, os.path.join(node.home, "gone"))["state"] == "down", "that the server has seen the unmount")
    node.bazil("volume", "remove", "-force", "gone")
    node.stop()
    node.start()
    check(mount_of(node, os.path.join(node.home, "gone")) is None, "it is to be mounted though the volume is gone")


def survives_a_rebuild(node, mnt):
    """The log has it: an index that is made anew knows it."""
    node.bazil("volume", "mount", "-auto", "v", mnt)
    node.stop()
    os.unlink(os.path.join(node.data_dir, "store", "index"))
    node.start()
    wait_for(lambda: is_up(node, mnt), "the mount after a rebuild", 30)
    check(node.sh("cat mnt/file") == "kept\n", "another volume after a rebuild")


def test(bench):
    node = bench.node("auto")
    mnt = os.path.join(node.home, "mnt")
    node.bazil("create")
    node.sh("mkdir mnt")
    node.start()
    node.bazil("volume", "create", "v")
    node.bazil("volume", "mount", "-auto", "v", mnt)
    comes_back(node, mnt)
    waits_for_its_directory(node, mnt)
    is_forgotten(node, mnt)
    refuses(node, mnt)
    survives_a_rebuild(node, mnt)
    node.stop()
    node.start()
    wait_for(lambda: is_up(node, mnt), "the mount at the end")


harness.run(test)
