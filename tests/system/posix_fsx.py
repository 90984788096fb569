#!/usr/bin/env python3
"""Random calls on two files, held against the same in memory.

usage: posix_fsx.py DIR [STEPS]

BAZIL_SEED repeats a run. On a difference the last steps are told.
"""
import ctypes
import errno
import mmap
import os
import random
import sys

import posix_case
from posix_case import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, Wrong, case

SEED = int(os.environ.get("BAZIL_SEED", random.randrange(1 << 32)))
FAR = 3 << 20  # how long the files become
PAGE = 4096


class File:
    """A file and what must be in it."""

    def __init__(self, name):
        self.name, self.model = name, bytearray()
        self.fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)

    def put(self, at, data):
        if data:
            self.model.extend(bytes(max(0, at - len(self.model))))
            self.model[at:at + len(data)] = data

    def resize(self, size):
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))


class Exercise:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.seed = seed
        self.files = [File("a"), File("b")]
        self.log = []
        self.steps = {"write": 20, "read": 20, "truncate": 5, "punch": 4, "zero": 4, "allocate": 3, "copy": 8, "map_write": 8, "map_read": 6, "fsync": 3,
                      "reopen": 3, "seek": 4, "append": 4, "writev": 3, "sendfile": 2, "rename": 2, "forget": 3, "stat": 4, "direct": 3}

    def place(self, file):
        """An offset: anywhere, near an edge of a page, or near the end."""
        rng = self.rng
        at = rng.choice((rng.randrange(FAR), rng.randrange(FAR // PAGE) * PAGE + rng.randrange(-3, 4), len(file.model) + rng.randrange(-5000, 5000), 0))
        return min(max(at, 0), FAR - 1)

    def size(self):
        return self.rng.choice((1, 3, 100, PAGE - 1, PAGE, PAGE + 1, 20000, 65536, 200000, self.rng.randrange(1, 500000)))

    def run(self, steps):
        kinds = list(self.steps)
        weights = list(self.steps.values())
        for _ in range(steps):
            kind = self.rng.choices(kinds, weights)[0]
            file = self.rng.choice(self.files)
            getattr(self, kind)(file)
        for file in self.files:
            self.whole(file)

    def same(self, file, at, got, wanted):
        if got == wanted:
            return
        bad = next((i for i, (x, y) in enumerate(zip(got, wanted)) if x != y), min(len(got), len(wanted)))
        raise Wrong(f"seed {self.seed}: {file.name} differs at {at + bad} (asked {at}+{len(wanted)}, got {len(got)} bytes, size {len(file.model)}): "
                    f"{bytes(got[bad:bad + 8])!r}, not {bytes(wanted[bad:bad + 8])!r}; last steps: {self.log[-25:]}")

    def note(self, *step):
        self.log.append(step)

    def whole(self, file):
        os.lseek(file.fd, 0, os.SEEK_SET)
        got = bytearray()
        while True:
            part = os.read(file.fd, 1 << 20)
            if not part:
                break
            got += part
        self.same(file, 0, got, file.model)

    def write(self, file):
        at, data = self.place(file), self.rng.randbytes(self.size())
        self.note("write", file.name, at, len(data))
        done = 0
        while done < len(data):
            done += os.pwrite(file.fd, data[done:], at + done)
        file.put(at, data)

    def writev(self, file):
        at, parts = self.place(file), [self.rng.randbytes(self.rng.randrange(0, 9000)) for _ in range(4)]
        self.note("writev", file.name, at, [len(p) for p in parts])
        data = b"".join(parts)
        done = os.pwritev(file.fd, parts, at)
        file.put(at, data[:done])

    def append(self, file):
        data = self.rng.randbytes(self.rng.randrange(1, 9000))
        if len(file.model) + len(data) > FAR * 2:
            return
        self.note("append", file.name, len(data))
        fd = os.open(file.name, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        file.put(len(file.model), data)

    def read(self, file):
        at, size = self.place(file), self.size()
        self.note("read", file.name, at, size)
        self.same(file, at, os.pread(file.fd, size, at), file.model[at:at + size])

    def direct(self, file):
        at, size = self.place(file) // PAGE * PAGE, self.rng.randrange(1, 30) * PAGE
        memory = mmap.mmap(-1, size)
        try:
            fd = os.open(file.name, os.O_RDWR | os.O_DIRECT)
        except OSError as e:
            if e.errno == errno.EINVAL:
                return  # tmpfs
            raise
        try:
            if self.rng.randrange(2):
                memory[:] = data = self.rng.randbytes(size)
                self.note("direct write", file.name, at, size)
                done = os.pwritev(fd, [memory], at)
                file.put(at, data[:done])
            else:
                self.note("direct read", file.name, at, size)
                got = os.preadv(fd, [memory], at)
                self.same(file, at, memory[:got], file.model[at:at + size])
        finally:
            os.close(fd)
            memory.close()

    def truncate(self, file):
        size = self.place(file)
        self.note("truncate", file.name, size)
        if self.rng.randrange(2):
            os.ftruncate(file.fd, size)
        else:
            os.truncate(file.name, size)
        file.resize(size)

    def allocate_mode(self, file, what, mode):
        at, size = self.place(file), self.size()
        keep = mode & KEEP_SIZE
        self.note(what, file.name, at, size, bool(keep))
        posix_case.fallocate(file.fd, mode, at, size)
        end = at + size
        if not keep and end > len(file.model):
            file.resize(end)
        end = min(end, len(file.model))
        if mode & (PUNCH_HOLE | ZERO_RANGE) and at < end:
            file.model[at:end] = bytes(end - at)

    def punch(self, file):
        self.allocate_mode(file, "punch", PUNCH_HOLE | KEEP_SIZE)

    def zero(self, file):
        self.allocate_mode(file, "zero", ZERO_RANGE | self.rng.choice((0, KEEP_SIZE)))

    def allocate(self, file):
        self.allocate_mode(file, "allocate", self.rng.choice((0, KEEP_SIZE)))

    def copy(self, file):
        other = self.rng.choice(self.files)
        at, to, size = self.place(file), self.place(other), self.rng.choice((self.size(), self.rng.randrange(FAR)))
        if self.rng.randrange(2):
            at, to, size = at // 65536 * 65536, to // 65536 * 65536, size // 65536 * 65536 + 65536
        size = min(size, max(0, len(file.model) - at))
        self.note("copy", file.name, at, other.name, to, size)
        if file is other and at < to + size and to < at + size:
            try:
                os.copy_file_range(file.fd, file.fd, size, at, to)
            except OSError as e:
                if e.errno == errno.EINVAL:
                    return
                raise
            if size == 0:
                return
            raise Wrong(f"seed {self.seed}: copy_file_range onto itself was not refused: {self.log[-1]}")
        while size > 0:
            done = os.copy_file_range(file.fd, other.fd, size, at, to)
            if done == 0:
                raise Wrong(f"seed {self.seed}: copy_file_range copies nothing: {self.log[-3:]}")
            other.put(to, bytes(file.model[at:at + done]))
            at, to, size = at + done, to + done, size - done

    def sendfile(self, file):
        other = self.files[1 - self.files.index(file)]
        at, to, size = self.place(file), self.place(other), self.size()
        self.note("sendfile", file.name, at, other.name, to, size)
        os.lseek(other.fd, to, os.SEEK_SET)
        done = os.sendfile(other.fd, file.fd, at, size)
        other.put(to, bytes(file.model[at:at + done]))

    def mapping(self, file, write):
        if not file.model:
            return
        at = self.place(file) % len(file.model)
        start = at // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        size = min(self.size(), len(file.model) - at)
        self.note("map_write" if write else "map_read", file.name, at, size)
        with mmap.mmap(file.fd, at - start + size, offset=start, prot=mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)) as m:
            if write:
                m[at - start:] = data = self.rng.randbytes(size)
                file.put(at, data)
                if self.rng.randrange(2):
                    m.flush()
            else:
                self.same(file, at, m[at - start:], file.model[at:at + size])

    def map_write(self, file):
        self.mapping(file, True)

    def map_read(self, file):
        self.mapping(file, False)

    def fsync(self, file):
        self.note("fsync", file.name)
        self.rng.choice((os.fsync, os.fdatasync))(file.fd)

    def reopen(self, file):
        self.note("reopen", file.name)
        os.close(file.fd)
        file.fd = os.open(file.name, os.O_RDWR)

    def rename(self, file):
        self.note("rename", file.name)
        os.rename(file.name, file.name + "'")
        file.name += "'"
        if len(file.name) > 20:
            os.rename(file.name, file.name[0])
            file.name = file.name[0]

    def forget(self, file):
        """The page cache lets go, the next read asks the file system."""
        self.note("forget", file.name)
        os.fsync(file.fd)
        os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def stat(self, file):
        for size in (os.fstat(file.fd).st_size, os.stat(file.name).st_size, os.lseek(file.fd, 0, os.SEEK_END)):
            if size != len(file.model):
                raise Wrong(f"seed {self.seed}: {file.name} has {size} bytes, not {len(file.model)}; last steps: {self.log[-10:]}")

    def seek(self, file):
        """What is called a hole is zero; data and holes follow each other to the end."""
        self.note("seek", file.name)
        at, size = 0, len(file.model)
        while at < size:
            try:
                data = os.lseek(file.fd, at, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                data = size
            if any(file.model[at:data]):
                raise Wrong(f"seed {self.seed}: {file.name}: no hole from {at} to {data}; last steps: {self.log[-25:]}")
            if data == size:
                break
            at = os.lseek(file.fd, data, os.SEEK_HOLE)
            if not data < at <= size:
                raise Wrong(f"seed {self.seed}: {file.name}: data at {data} ends at {at}, size {size}")


def exercise(seed, steps):
    run = Exercise(seed)
    try:
        run.run(steps)
    finally:
        for file in run.files:
            os.close(file.fd)
    return run


@case
def random_calls_are_as_in_memory():
    exercise(SEED, 1500)


@case
def random_calls_outlive_the_caches():
    """The same, and what was written read anew by names only."""
    run = exercise(SEED + 1, 400)
    ctypes.CDLL(None).sync()
    for file in run.files:
        posix_case.same(posix_case.read(file.name), bytes(file.model), f"contents, seed {SEED + 1}")


def main():
    os.chdir(sys.argv[1])
    place = f"fsx-{os.getpid()}"
    os.mkdir(place)
    os.chdir(place)
    run = exercise(SEED, int(sys.argv[2]) if len(sys.argv) > 2 else 10000)
    for file in run.files:
        os.unlink(file.name)
    os.chdir("..")
    os.rmdir(place)
    print(f"seed {SEED}: {len(run.log)} steps")


if __name__ == "__main__":
    main()
