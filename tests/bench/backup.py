#!/usr/bin/env python3
"""Our store against restic and Borg (those that are installed), the same data in one run.

usage: backup.py BINDIR [--mib N | --quick] [--runs N] [--dir DIR] [--only restic,borg,bazil]

Work: a tree of real files, 1 GiB or --mib of it, and one tar of all of it are taken in; the tree again unchanged; the tar again with
another time and the same bytes; the tar with a byte inserted at its front and one line inserted into every hundredth of its text
files; and the tar is restored. Ours is what a person does: cp of the tar into the mount and out of it, rsync of the tree, with an
unmount behind it that stores all; theirs is `backup` and `restore`. Printed: median seconds, bytes that the store grew by (du), peak memory of the largest process.

The source lies in /dev/shm; caches are dropped (root) before a restore, and our volume is mounted anew.
"""
import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.getuid() == 0


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **kw)


def du(path):
    return int(subprocess.run(["du", "-s", "-B1", path], capture_output=True, check=True).stdout.split()[0])


def peak(argv, env=None):
    """Runs a command; peak MiB of it."""
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        os.execvpe(argv[0], argv, env or os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"bench: {argv}: status {status}")
    return usage.ru_maxrss // 1024


class Restic:
    name = "restic"

    def __init__(self, base, _bin):
        self.repo = os.path.join(base, "restic")
        self.env = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": self.repo,
                    "RESTIC_CACHE_DIR": os.path.join(base, "restic.cache")}
        sh("restic", "init", "-q", env=self.env)

    def take(self, path, _name):
        return peak(["restic", "backup", "-q", path], self.env)

    def restore(self, path, _name, dest):
        return peak(["restic", "restore", "-q", "latest", "--path", path, "--target", dest], self.env)

    def cold(self):
        pass

    def size(self):
        return du(self.repo)

    def close(self):
        pass


class Borg:
    name = "borg"

    def __init__(self, base, _bin):
        self.repo, self.num = os.path.join(base, "borg"), 0
        self.env = {**os.environ, "BORG_PASSPHRASE": "bench", "BORG_BASE_DIR": os.path.join(base, "borg.base"),
                    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        sh("borg", "init", "-e", "repokey-blake2", self.repo, env=self.env, stderr=subprocess.DEVNULL)
        self.last = {}

    def take(self, path, name):
        self.num += 1
        self.last[name] = f"{self.repo}::{name}{self.num}"
        return peak(["borg", "create", self.last[name], path], self.env)

    def restore(self, _path, name, dest):
        return peak(["sh", "-c", f"cd {dest} && exec borg extract {self.last[name]}"], self.env)

    def cold(self):
        pass

    def size(self):
        return du(self.repo)

    def close(self):
        pass


class Bazil:
    name = "bazil"

    def __init__(self, base, bindir):
        self.data, self.dir = os.path.join(base, "bazil.data"), os.path.join(base, "bazil")
        self.bazil = [os.path.join(bindir, "bazil"), "-data-dir=" + self.data]
        os.mkdir(self.dir)
        sh(*self.bazil, "create")
        self.server = subprocess.Popen([*self.bazil, "server", "run"], stdout=subprocess.PIPE, text=True)
        if "Listening" not in self.server.stdout.readline():
            raise SystemExit("bench: the server did not start")
        sh(*self.bazil, "volume", "create", "bench")
        self.cold(False)
        self.empty = self.size()

    def cold(self, is_mounted=True):
        if is_mounted:
            sh(*self.bazil, "volume", "unmount", "bench")
        sh(*self.bazil, "volume", "mount", "bench", self.dir)

    def take(self, path, name):
        if os.path.isdir(path):
            sh("rsync", "-a", "--inplace", "--whole-file", path, os.path.join(self.dir, name) + "/")
        else:
            os.makedirs(os.path.join(self.dir, name), exist_ok=True)
            sh("cp", "-a", path, os.path.join(self.dir, name))
        # sync(1) does not reach a FUSE file system: unmounting stores everything, durably.
        memory = self.memory()
        self.cold()
        return memory

    def restore(self, path, name, dest):
        sh("cp", "-a", os.path.join(self.dir, name, os.path.basename(path)), dest)
        return self.memory()

    def memory(self):
        status = json.loads(subprocess.run([*self.bazil, "server", "status", "-json"], capture_output=True, check=True).stdout)
        found = []
        for w in status["workers"]:
            with open(f"/proc/{w['pid']}/status", encoding="ascii") as f:
                found += [int(line.split()[1]) // 1024 for line in f if line.startswith("VmHWM")]
        return max(found)

    def size(self):
        return du(os.path.join(self.data, "store")) - getattr(self, "empty", 0)

    def close(self):
        sh(*self.bazil, "server", "stop")
        self.server.wait(30)


def make_tree(dest, mib):
    """Real files, at most so many MiB of them."""
    left = mib << 20
    for top in ("/usr/share/doc", "/usr/include", "/usr/lib/python3", "/usr/share/perl", "/usr/lib/gcc", "/usr/share", "/usr/lib",
                "/usr/bin"):
        for where, dirs, files in os.walk(top):
            dirs.sort()
            for f in sorted(files):
                path = os.path.join(where, f)
                target = dest + path
                try:
                    size = os.lstat(path).st_size
                except OSError:
                    continue
                if left < size or os.path.islink(path) or os.path.exists(target) or not os.path.isfile(path):
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                try:
                    shutil.copy2(path, target)
                except OSError:
                    continue
                left -= size


def make_tars(tree, first, second):
    """The second has one byte before everything and a line more in each hundredth text file."""
    num = 0
    with tarfile.open(first, "w") as a, open(second, "wb") as raw:
        raw.write(b"\n")
        with tarfile.open(fileobj=raw, mode="w|") as b:
            for where, dirs, files in os.walk(tree):
                dirs.sort()
                for f in sorted(files):
                    path = os.path.join(where, f)
                    info = a.gettarinfo(path, os.path.relpath(path, tree))
                    with open(path, "rb") as data:
                        content = data.read()
                    info.type, info.size = tarfile.REGTYPE, len(content)
                    a.addfile(info, io.BytesIO(content))
                    num += 1
                    if num % 100 == 0 and b"\n" in content:
                        at = content.index(b"\n", len(content) // 2) if b"\n" in content[len(content) // 2:] else 0
                        content = content[:at] + b"\none more line" + content[at:]
                        info.size = len(content)
                    b.addfile(info, io.BytesIO(content))


def drop_caches():
    os.sync()
    if ROOT:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3\n")


def one_run(store, source, out):
    rows, memory = {}, 0

    def step(what, fn):
        nonlocal memory
        before = store.size()
        os.sync()
        start = time.monotonic()
        memory = max(memory, fn())
        rows[what + " s"] = time.monotonic() - start
        rows[what + " MB"] = (store.size() - before) / 1e6

    tar = os.path.join(source, "data.tar")
    step("tar", lambda: store.take(tar, "tar"))
    os.utime(tar)
    step("same tar", lambda: store.take(tar, "tar"))
    os.rename(tar, tar + ".first")
    os.rename(os.path.join(source, "second.tar"), tar)
    step("edited tar", lambda: store.take(tar, "tar"))
    os.mkdir(out)
    store.cold()
    drop_caches()
    start = time.monotonic()
    memory = max(memory, store.restore(tar, "tar", out))
    rows["restore s"] = time.monotonic() - start
    found = subprocess.run(["find", out, "-name", "data.tar"], capture_output=True, text=True, check=True).stdout.strip()
    sh("cmp", found, tar)
    os.rename(tar, os.path.join(source, "second.tar"))
    os.rename(tar + ".first", tar)
    shutil.rmtree(out)
    tree = os.path.join(source, "tree")
    step("tree", lambda: store.take(tree, "tree"))
    step("tree again", lambda: store.take(tree, "tree"))
    rows["all MB"] = store.size() / 1e6
    rows["peak MiB"] = memory
    return rows


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bindir")
    p.add_argument("--mib", type=int, default=1024)
    p.add_argument("--quick", action="store_const", dest="mib", const=128)
    p.add_argument("--runs", type=int, default=2)
    p.add_argument("--dir", default="/var/tmp")
    p.add_argument("--only", default="restic,borg,bazil")
    args = p.parse_args()
    base = tempfile.mkdtemp(prefix="bazil-bench.", dir=args.dir)
    source = tempfile.mkdtemp(prefix="bazil-bench.", dir="/dev/shm")
    results = {}
    try:
        make_tree(os.path.join(source, "tree"), args.mib)
        make_tars(os.path.join(source, "tree"), os.path.join(source, "data.tar"), os.path.join(source, "second.tar"))
        print(f"tar of {os.path.getsize(source + '/data.tar') / 1e6:.0f} MB; {args.runs} runs, medians")
        for cls in (Restic, Borg, Bazil):
            if cls.name not in args.only.split(",") or (cls is not Bazil and not shutil.which(cls.name)):
                continue
            for run in range(args.runs):
                where = os.path.join(base, f"{cls.name}{run}")
                os.mkdir(where)
                store = cls(where, os.path.abspath(args.bindir))
                try:
                    results.setdefault(cls.name, []).append(one_run(store, source, os.path.join(source, "out")))
                finally:
                    store.close()
                shutil.rmtree(where, ignore_errors=True)
        names = list(results)
        print(f"{'':16}" + "".join(f"{n:>12}" for n in names) + "".join(f"{'/' + n:>10}" for n in names if n != "bazil"))
        for what in results[names[0]][0]:
            row = {n: statistics.median(r[what] for r in results[n]) for n in names}
            line = f"{what:16}" + "".join(f"{row[n]:12.2f}" for n in names)
            for n in names:
                if n != "bazil" and "bazil" in row:
                    line += f"{row['bazil'] / row[n]:10.2f}" if row[n] > 0.005 else " " * 10
            print(line)
        print("a ratio below 1 is in our favour")
    finally:
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)


sys.exit(main())
