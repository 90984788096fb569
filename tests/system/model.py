#!/usr/bin/env python3
"""A model-based test: the same random operations on a directory and on a reference, whose results must be the same.

usage: model.py --dir A --reference B [--ops N] [--seconds S] [--hook CMD --hook-every N [--hook-closed]] [--check-every N]

B is an empty directory of a native file system, A one of the file system under test. After each operation the results
(data, errno) and the attributes of what it touched are compared, and the whole trees now and then and at the end. The
hook is run by the shell every N operations; --hook-closed closes all files first (for a remount). BAZIL_SEED repeats a
run. Exit status 1, the operation and the last ones before it if the two differ.
"""
import argparse
import errno
import hashlib
import mmap
import os
import random
import stat
import subprocess
import sys
import time

from posix_case import EXCHANGE, KEEP_SIZE, NOREPLACE, PUNCH_HOLE, ZERO_RANGE, fallocate, renameat2

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
WHOLE_MAX = 16 * MB  # larger files are compared at their stretches of data
OLD = 1_400_000_000 * 10**9  # times before this were set by an operation
NAMES = ["a", "b", "c", "dd", "e.txt", "f f", "\udcff\udcfe", "é", "n" * 255]
MODES = [0o600, 0o644, 0o640, 0o755, 0o700]
HANDLES = 6


class Side:
    """One of the two trees. Each operation is a method; paths are relative to its top."""

    def __init__(self, top):
        self.top = top
        self.fds = [None] * HANDLES

    def at(self, path):
        return os.path.join(self.top, path) if path else self.top

    def close_all(self):
        for i, fd in enumerate(self.fds):
            if fd is not None:
                os.close(fd)
                self.fds[i] = None

    # --- names ---

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def unlink(self, path):
        os.unlink(self.at(path))

    def rename(self, a, b, flags):
        renameat2(self.at(a), self.at(b), flags)

    def link(self, a, b):
        os.link(self.at(a), self.at(b), follow_symlinks=False)

    def symlink(self, target, path):
        os.symlink(target, self.at(path))

    def mkfifo(self, path):
        os.mkfifo(self.at(path), 0o640)

    def readlink(self, path):
        return os.readlink(self.at(path))

    def list(self, path):
        kind = {True: 1, False: 0}
        with os.scandir(self.at(path)) as found:
            return sorted((e.name, kind[e.is_dir(follow_symlinks=False)], kind[e.is_symlink()]) for e in found)

    # --- contents by name ---

    def create(self, path, data, flags):
        fd = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | flags, 0o644)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def read(self, path, size, offset):
        fd = os.open(self.at(path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def truncate(self, path, size):
        os.truncate(self.at(path), size)

    def map_write(self, path, offset, data):
        fd = os.open(self.at(path), os.O_RDWR | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            if size == 0 or size > WHOLE_MAX:
                return 0
            with mmap.mmap(fd, size) as m:
                offset %= size
                data = data[:size - offset]
                m[offset:offset + len(data)] = data
            return len(data)
        finally:
            os.close(fd)

    def copy(self, a, b, at_a, at_b, size):
        fa = os.open(self.at(a), os.O_RDONLY | os.O_NONBLOCK)
        try:
            fb = os.open(self.at(b), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644)
            try:
                done = 0
                while done < size:
                    n = os.copy_file_range(fa, fb, size - done, at_a + done, at_b + done)
                    if n == 0:
                        break
                    done += n
                return done
            finally:
                os.close(fb)
        finally:
            os.close(fa)

    # --- contents by a handle, which outlives the name ---

    def open(self, handle, path, flags):
        fd = os.open(self.at(path), flags | os.O_NONBLOCK, 0o600)
        if self.fds[handle] is not None:
            os.close(self.fds[handle])
        self.fds[handle] = fd

    def close(self, handle):
        fd, self.fds[handle] = self.fds[handle], None
        os.close(fd)

    def h_write(self, handle, offset, data):
        return os.pwrite(self.fds[handle], data, offset)

    def h_append(self, handle, data):
        os.lseek(self.fds[handle], 0, os.SEEK_END)
        return os.write(self.fds[handle], data)

    def h_read(self, handle, offset, size):
        return os.pread(self.fds[handle], size, offset)

    def h_truncate(self, handle, size):
        os.ftruncate(self.fds[handle], size)

    def h_fallocate(self, handle, mode, offset, size):
        fallocate(self.fds[handle], mode, offset, size)

    def h_fsync(self, handle, data_only):
        (os.fdatasync if data_only else os.fsync)(self.fds[handle])

    def h_stat(self, handle):
        st = os.fstat(self.fds[handle])
        return st.st_mode, st.st_size if stat.S_ISREG(st.st_mode) else 0, st.st_nlink

    # --- attributes ---

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def utimens(self, path, atime, mtime):
        os.utime(self.at(path), ns=(atime, mtime), follow_symlinks=False)
        st = os.lstat(self.at(path))
        # A link that the path itself leads through is read by lstat, which moves its atime (relatime).
        return None if stat.S_ISLNK(st.st_mode) else st.st_atime_ns, st.st_mtime_ns

    def setxattr(self, path, name, value, flags):
        os.setxattr(self.at(path), name, value, flags, follow_symlinks=False)

    def getxattr(self, path, name):
        return os.getxattr(self.at(path), name, follow_symlinks=False)

    def removexattr(self, path, name):
        os.removexattr(self.at(path), name, follow_symlinks=False)

    def sync_dir(self, path):
        fd = os.open(self.at(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # --- for the comparison ---

    def attributes(self, path):
        try:
            st = os.lstat(self.at(path))
        except OSError as e:
            return errno.errorcode[e.errno], 0
        fields = [oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid]
        if not stat.S_ISDIR(st.st_mode):
            fields.append(st.st_size)
        return fields, st.st_mtime_ns


def stretches(fd, size):
    """Where to look at a large sparse file: around every change between data and hole."""
    found, at = [(0, 100), (size - 100, 100)], 0
    while len(found) < 200:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        found.append((max(0, at - 100), min(end - at + 200, WHOLE_MAX)))
        at = end
    return found


def contents(path, where=None):
    """A digest. where: offsets and sizes to look at, filled in when it is an empty list."""
    fd = os.open(path, os.O_RDONLY)
    try:
        digest = hashlib.sha256()
        size = os.fstat(fd).st_size
        if size <= WHOLE_MAX:
            digest.update(os.pread(fd, size + 1, 0) if size < MB else b"".join(iter(lambda: os.read(fd, MB), b"")))
            return digest.hexdigest()
        if not where:
            where.extend(stretches(fd, size))
        for offset, length in where:
            digest.update(os.pread(fd, length, offset))
        return digest.hexdigest()
    finally:
        os.close(fd)


class Model:
    def __init__(self, args, seed):
        self.sides = (Side(args.dir), Side(args.reference))
        self.rng = random.Random(seed)
        self.seed = seed
        self.args = args
        self.log = []
        self.num = {}
        self.paths = [""]
        self.kinds = [getattr(self, n) for n in dir(self) if n.startswith("do_")]
        weights = {"do_h_write": 12, "do_h_read": 8, "do_open": 8, "do_create": 10, "do_rename": 9, "do_read": 6, "do_mkdir": 5, "do_unlink": 4,
                   "do_list": 4, "do_h_append": 5, "do_h_truncate": 4, "do_link": 4, "do_truncate": 3, "do_h_fsync": 3, "do_copy": 4}
        self.weights = [weights.get(k.__name__, 2) for k in self.kinds]

    # --- choices ---

    def name(self):
        return self.rng.choice(NAMES)

    def path(self):
        """Mostly one that is there; else a name in a directory that was."""
        if self.rng.random() < 0.65:
            return self.rng.choice(self.paths)
        return self.new()

    def new(self):
        base = self.rng.choice(self.paths)
        if base.count("/") > 5:
            base = ""
        return os.path.join(base, self.name()) if base else self.name()

    def handle(self):
        used = [i for i, fd in enumerate(self.sides[0].fds) if fd is not None]
        return self.rng.choice(used) if used else None

    def offset(self):
        return self.rng.choice((0, 1, 4095, 4096, self.rng.randrange(10 * KB), self.rng.randrange(300 * KB), self.rng.randrange(5 * MB)))

    def data(self):
        size = self.rng.choice((0, 1, 10, 100, 1000, 4096, 4097, self.rng.randrange(20 * KB), self.rng.randrange(600 * KB)))
        kind = self.rng.random()
        if kind < 0.6:
            return self.rng.randbytes(size)
        return bytes([self.rng.randrange(256)]) * size if kind < 0.9 else bytes(size)

    def size(self):
        if self.rng.random() < 0.03:
            return self.rng.choice((GB + 1, 100 * GB, 1 << 40))
        return self.offset()

    # --- operations: (method, arguments, paths touched) ---

    def do_mkdir(self):
        p = self.new()
        return "mkdir", (p, self.rng.choice([0o755, 0o700])), [p, os.path.dirname(p)]

    def do_rmdir(self):
        p = self.path()
        return ("rmdir", (p,), [p, os.path.dirname(p)]) if p else None

    def do_unlink(self):
        p = self.path()
        return ("unlink", (p,), [p, os.path.dirname(p)]) if p else None

    def do_rename(self):
        a, b = self.path(), self.path()
        flags = self.rng.choice((0, 0, 0, NOREPLACE, EXCHANGE))
        return ("rename", (a, b, flags), [a, b, os.path.dirname(a), os.path.dirname(b)]) if a and b else None

    def do_link(self):
        a, b = self.path(), self.path()
        return "link", (a, b), [a, b]

    def do_symlink(self):
        p = self.new()
        return "symlink", (self.rng.choice(("a", "../b", "nowhere", "x" * 300, self.path())) or "dd", p), [p]

    def do_mkfifo(self):
        p = self.new()
        return "mkfifo", (p,), [p]

    def do_readlink(self):
        return "readlink", (self.path(),), []

    def do_list(self):
        return "list", (self.path(),), []

    def do_create(self):
        p = self.new() if self.rng.random() < 0.6 else self.path()
        return "create", (p, self.data(), self.rng.choice((0, os.O_TRUNC, os.O_TRUNC, os.O_EXCL, os.O_APPEND))), [p]

    def do_read(self):
        return "read", (self.path(), self.rng.randrange(300 * KB), self.offset()), []

    def do_truncate(self):
        p = self.path()
        return "truncate", (p, self.size()), [p]

    def do_map_write(self):
        p = self.path()
        return "map_write", (p, self.offset(), self.data()), [p]

    def do_copy(self):
        a, b = self.path(), self.path()
        size = self.rng.choice((1, 5000, self.rng.randrange(100 * KB), self.rng.randrange(3 * MB)))
        at_a, at_b = self.offset(), self.offset()
        if a == b and abs(at_a - at_b) < size:
            return None
        return "copy", (a, b, at_a, at_b, size), [b]

    def do_open(self):
        handle = self.rng.randrange(HANDLES)
        p = self.path()
        return "open", (handle, p, self.rng.choice((os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_APPEND, os.O_RDONLY,
                                                    os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_NOFOLLOW))), [p]

    def do_close(self):
        handle = self.handle()
        return None if handle is None else ("close", (handle,), [])

    def on_handle(self, method, *arguments):
        handle = self.handle()
        return None if handle is None else (method, (handle, *arguments), [])

    def do_h_write(self):
        return self.on_handle("h_write", self.offset(), self.data())

    def do_h_append(self):
        return self.on_handle("h_append", self.data())

    def do_h_read(self):
        return self.on_handle("h_read", self.offset(), self.rng.randrange(400 * KB))

    def do_h_truncate(self):
        return self.on_handle("h_truncate", self.size())

    def do_h_fallocate(self):
        mode = self.rng.choice((0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE))
        return self.on_handle("h_fallocate", mode, self.offset(), self.rng.choice((0, 1, 4096, self.rng.randrange(MB))))

    def do_h_fsync(self):
        return self.on_handle("h_fsync", self.rng.random() < 0.5)

    def do_h_stat(self):
        return self.on_handle("h_stat")

    def do_chmod(self):
        p = self.path()
        return "chmod", (p, self.rng.choice(MODES) | 0o700), [p]

    def do_utimens(self):
        p = self.path()
        return "utimens", (p, self.rng.randrange(OLD), self.rng.randrange(OLD)), [p]

    def do_setxattr(self):
        p = self.path()
        value = self.rng.randbytes(self.rng.choice((0, 1, 20, 300)))
        return "setxattr", (p, f"user.x{self.rng.randrange(4)}", value, self.rng.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))), [p]

    def do_getxattr(self):
        return "getxattr", (self.path(), f"user.x{self.rng.randrange(4)}"), []

    def do_removexattr(self):
        p = self.path()
        return "removexattr", (p, f"user.x{self.rng.randrange(4)}"), [p]

    def do_sync_dir(self):
        return "sync_dir", (self.path(),), []

    # --- running ---

    def run_one(self, side, method, arguments):
        try:
            return getattr(side, method)(*arguments)
        except OSError as e:
            return errno.errorcode[e.errno]

    def differ(self, what, ours, theirs):
        print(f"DIFFERENT after {len(self.log)} operations, BAZIL_SEED={self.seed}: {what}\n  ours:      {ours}\n  reference: {theirs}")
        print("the last operations:")
        for line in self.log[-25:]:
            print("  " + line)
        sys.stdout.flush()
        sys.exit(1)

    def compare_attributes(self, path):
        (ours, our_mtime), (theirs, their_mtime) = (s.attributes(path) for s in self.sides)
        if ours != theirs:
            self.differ(f"attributes of {path!r} (mode, nlink, uid, gid, size)", ours, theirs)
        if their_mtime < OLD and our_mtime != their_mtime:
            self.differ(f"mtime of {path!r}, which was set", our_mtime, their_mtime)

    def step(self):
        chosen = None
        while chosen is None:
            chosen = self.rng.choices(self.kinds, self.weights)[0]()
        method, arguments, touched = chosen
        self.log.append(f"{len(self.log)} {method}{brief(arguments)}")
        ours, theirs = (self.run_one(s, method, arguments) for s in self.sides)
        self.log[-1] += f" -> {brief(theirs)}"
        if ours != theirs:
            self.differ(f"result of {method}", brief_pair(ours, theirs), brief_pair(theirs, ours))
        self.num[method] = self.num.get(method, 0) + 1
        for path in touched:
            self.compare_attributes(path)
        if len(self.log) % 20 == 0:
            self.look()

    def look(self):
        """What is there now, to choose from; and not too much of it."""
        top = self.sides[1].top
        self.paths = [""]
        for base, dirs, files in os.walk(top):
            dirs.sort()
            for name in sorted(dirs + files):
                self.paths.append(os.path.relpath(os.path.join(base, name), top))
        if len(self.paths) > 150:
            for path in self.rng.sample(self.paths[1:], 60):
                for s in self.sides:
                    self.run_one(s, "rmdir" if os.path.isdir(s.at(path)) and not os.path.islink(s.at(path)) else "unlink", (path,))
            self.log.append(f"{len(self.log)} thinned out")

    def tree(self, side):
        found = {}
        for base, dirs, files in os.walk(side.top):
            for name in dirs + files:
                path = os.path.relpath(os.path.join(base, name), side.top)
                full = os.path.join(base, name)
                fields, _ = side.attributes(path)
                xattrs = sorted((n, os.getxattr(full, n, follow_symlinks=False)) for n in os.listxattr(full, follow_symlinks=False)
                                if n.startswith("user."))
                target = os.readlink(full) if os.path.islink(full) else ""
                found[path] = (fields, xattrs, target)
        return found

    def compare_all(self):
        ours, theirs = (self.tree(s) for s in self.sides)
        for path in sorted(set(ours) | set(theirs)):
            if ours.get(path) != theirs.get(path):
                self.differ(f"tree at {path!r}", ours.get(path), theirs.get(path))
            self.compare_attributes(path)
            full = self.sides[1].at(path)
            if stat.S_ISREG(os.lstat(full).st_mode):
                where = []
                digest = contents(full, where)
                if contents(self.sides[0].at(path), where) != digest:
                    self.differ(f"contents of {path!r}, {os.path.getsize(full)} bytes", first_difference(*(s.at(path) for s in self.sides)), "")
        self.log.append(f"{len(self.log)} compared {len(ours)} paths")

    def hook(self):
        if self.args.hook_closed:
            for s in self.sides:
                s.close_all()
        self.log.append(f"{len(self.log)} hook")
        r = subprocess.run(["sh", "-c", self.args.hook], capture_output=True, text=True, check=False)
        if r.returncode != 0:
            print(f"the hook failed: {r.returncode} {r.stdout}{r.stderr}")
            sys.exit(2)
        self.compare_all()

    def run(self):
        end = time.monotonic() + self.args.seconds
        done = 0
        while done < self.args.ops and time.monotonic() < end:
            self.step()
            done += 1
            if self.args.hook and done % self.args.hook_every == 0:
                self.hook()
            if done % self.args.check_every == 0:
                self.compare_all()
        self.compare_all()
        for s in self.sides:
            s.close_all()
        print(f"{done} operations agreed: " + ", ".join(f"{n} {k}" for k, n in sorted(self.num.items())))


def brief(value):
    if isinstance(value, bytes):
        return repr(value) if len(value) <= 24 else f"<{len(value)} bytes {value[:6].hex()}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(brief(v) for v in value) + ")"
    return repr(value) if len(repr(value)) < 300 else repr(value)[:300] + "..."


def brief_pair(a, b):
    if not isinstance(a, bytes) or not isinstance(b, bytes):
        return brief(a)
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"{len(a)} bytes, first difference at {at}: {a[at:at + 24].hex()}"


def first_difference(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        at = 0
        while at < WHOLE_MAX:
            x, y = f.read(MB), g.read(MB)
            if x != y:
                i = next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
                return f"at {at + i}: {x[i:i + 24].hex()} / {y[i:i + 24].hex()}"
            if not x:
                return "the same when read again"
            at += MB
    return "in a sparse file"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--ops", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--hook")
    parser.add_argument("--hook-every", type=int, default=500)
    parser.add_argument("--hook-closed", action="store_true")
    parser.add_argument("--check-every", type=int, default=300)
    args = parser.parse_args()
    seed = int(os.environ.get("BAZIL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"BAZIL_SEED={seed}", flush=True)
    os.umask(0o022)
    Model(args, seed).run()


if __name__ == "__main__":
    main()
