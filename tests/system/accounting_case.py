#!/usr/bin/env python3
"""Random changes of a tree, and its recursive figures compared with a real walk. Run as the user of the mount.

usage: accounting_case.py DIR SEED SECONDS      the answer is JSON: how many changes and comparisons
"""
import json
import os
import random
import stat
import sys
import time


def walk(root):
    """Bytes, files, directories, newest ctime in ns, by looking at everything."""
    nbytes = files = ndirs = 0
    newest = os.lstat(root).st_ctime_ns
    for base, dirs, names in os.walk(root):
        for name in dirs + names:
            st = os.lstat(os.path.join(base, name))
            newest = max(newest, st.st_ctime_ns)
            if stat.S_ISDIR(st.st_mode):
                ndirs += 1
            else:
                files += 1
                nbytes += st.st_size if stat.S_ISREG(st.st_mode) else 0
    return nbytes, files, ndirs, newest


def figures(path):
    def get(name):
        return os.getxattr(path, "user.bazil." + name).decode()
    seconds, ns = get("rctime").split(".")
    return int(get("rbytes")), int(get("rfiles")), int(get("rdirs")), int(seconds) * 10**9 + int(ns)


class Tree:
    def __init__(self, root, rng):
        self.root, self.rng = root, rng

    def all(self):
        dirs, files = [self.root], []
        for base, ds, fs in os.walk(self.root):
            dirs += [os.path.join(base, d) for d in ds]
            files += [os.path.join(base, f) for f in fs]
        return dirs, files

    def new_name(self, dirs):
        return os.path.join(self.rng.choice(dirs), f"n{self.rng.randrange(10**9)}")

    def change(self):
        dirs, files = self.all()
        rng = self.rng
        kind = rng.randrange(14)
        if kind <= 2 or not files:
            with open(self.new_name(dirs), "wb") as f:
                f.write(os.urandom(rng.choice((0, 10, 5000, 200000))))
        elif kind <= 4 and len(dirs) < 200:
            os.mkdir(self.new_name(dirs))
        elif kind == 5:
            os.link(rng.choice(files), self.new_name(dirs), follow_symlinks=False)
        elif kind == 6:
            os.symlink("/nowhere", self.new_name(dirs))
        elif kind == 7:
            os.rename(rng.choice(files), self.new_name(dirs))
        elif kind == 8:
            os.rename(rng.choice(files), rng.choice(files))
        elif kind == 9:
            os.unlink(rng.choice(files))
        elif kind == 10 and len(dirs) > 1:
            d, to = rng.choice(dirs[1:]), self.new_name(dirs)
            if not to.startswith(d + "/"):
                os.rename(d, to)
        elif kind == 11 and len(dirs) > 1:
            try:
                os.rmdir(rng.choice(dirs[1:]))
            except OSError:
                pass
        elif kind == 12:
            path = rng.choice(files)
            if not os.path.islink(path):
                if rng.random() < 0.5:
                    os.truncate(path, rng.randrange(300000))
                else:
                    with open(path, "ab") as f:
                        f.write(b"x" * rng.randrange(1, 20000))
        else:
            path = rng.choice(dirs + files)
            if not os.path.islink(path):
                if rng.random() < 0.5:
                    os.chmod(path, 0o700 if os.path.isdir(path) else rng.choice((0o600, 0o644)))
                else:
                    os.setxattr(path, "user.t", b"%d" % rng.randrange(1000))
        return dirs


def main():
    root, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rng = random.Random(seed)
    tree = Tree(root, rng)
    end = time.monotonic() + seconds
    changes = compared = 0
    while time.monotonic() < end:
        for _ in range(rng.randrange(1, 12)):
            tree.change()
            changes += 1
        dirs, _ = tree.all()
        for path in {root, rng.choice(dirs), rng.choice(dirs)}:
            want, got = walk(path), figures(path)
            if want != got:
                sys.exit(f"{path}: a walk says {want}, the figures {got}, after {changes} changes, seed {seed}")
            compared += 1
    json.dump({"changes": changes, "compared": compared}, sys.stdout)


main()
