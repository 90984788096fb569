#!/usr/bin/env python3
"""Walks over a tree that is mounted anew and changes meanwhile, with stored and mountd killed: what the mount fetches ahead for a walk
(mountd/next_dir.h) never shows a name that is gone, nor hides one that is there.

usage: walks.py BINDIR; rounds: BAZIL_ROUNDS (8).
"""
import os
import random
import signal
import threading
import time

import harness
from harness import check
from kills import settle

DIRS = 200


class Tree:
    """What is in each directory; subdirectories end with a slash."""

    def __init__(self, rng, top):
        self.rng, self.top, self.dirs, self.num = rng, top, {top: set()}, 0
        os.mkdir(top)
        for n in range(DIRS):
            above = rng.choice(list(self.dirs)[-30:])
            path = os.path.join(above, f"d{n}")
            os.mkdir(path)
            self.dirs[above].add(f"d{n}/")
            self.dirs[path] = set()
            for _ in range(rng.randrange(12)):
                self.make(path)

    def make(self, path):
        self.num += 1
        with open(os.path.join(path, f"f{self.num}"), "w", encoding="ascii") as f:
            f.write("x" * self.rng.randrange(200))
        self.dirs[path].add(f"f{self.num}")

    def change(self):
        path, other = self.rng.choice(list(self.dirs)), self.rng.choice(list(self.dirs))
        files = sorted(n for n in self.dirs[path] if not n.endswith("/"))
        what = self.rng.random()
        if what < 0.4 or not files:
            self.make(path)
            return
        name = self.rng.choice(files)
        if what < 0.7:
            os.unlink(os.path.join(path, name))
        else:
            self.num += 1
            os.rename(os.path.join(path, name), os.path.join(other, f"f{self.num}"))
            self.dirs[other].add(f"f{self.num}")
        self.dirs[path].remove(name)

    def walk(self):
        return {path: set(files) | {d + "/" for d in dirs} for path, dirs, files in os.walk(self.top)}

    def check(self, when):
        found = self.walk()
        for path, names in self.dirs.items():
            check(found.get(path) == names, f"{when}: {path}: {(found.get(path) or set()) ^ names} should not differ")


def mount_anew(node):
    node.bazil("volume", "unmount", "v")
    node.sh("bazil volume mount v mnt")


def walked_while_changed(node, tree, rng, victim):
    stop = threading.Event()

    def change():
        while not stop.wait(rng.random() * 0.002):
            tree.change()
    changer = threading.Thread(target=change)
    killer = threading.Timer(rng.random() * 0.3, os.kill, (node.worker(victim)["pid"], signal.SIGKILL))
    changer.start()
    killer.start()
    for _ in range(2):
        tree.walk()
    killer.join()
    stop.set()
    changer.join(120)
    check(not changer.is_alive(), f"a change hangs after the death of {victim}")
    tree.check(f"{victim} was killed")
    settle(node)


def removed_before_listed(node, top):
    """A name goes while the page of its directory, too large to be loaded for one name, is on its way."""
    files = {str(n) for n in range(100)}
    paths = [os.path.join(top, str(n)) for n in range(40)]
    os.mkdir(top)
    for path in paths:
        os.mkdir(path)
        for name in files:
            with open(os.path.join(path, name), "wb"):
                pass
    mount_anew(node)
    os.listdir(top)
    os.listdir(paths[0])
    for path, following in zip(paths[1:], paths[2:]):
        os.listdir(path)
        os.unlink(os.path.join(following, "50"))
        check(set(os.listdir(following)) == files - {"50"}, f"{following}: a removed name is listed")


def test(bench):
    rng = random.Random(harness.seed())
    node = bench.mounted("node", user=harness.User())
    tree = Tree(rng, os.path.join(node.home, "mnt", "tree"))
    for n in range(int(os.environ.get("BAZIL_ROUNDS", "8"))):
        mount_anew(node)
        walked_while_changed(node, tree, rng, ("stored", "mountd")[n % 2])
        mount_anew(node)
        started = time.monotonic()
        tree.check("mounted anew")
        print(f"{len(tree.dirs)} directories walked in {time.monotonic() - started:.2f} s", flush=True)
    removed_before_listed(node, os.path.join(node.home, "mnt", "large"))
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
