"""What the cases of the POSIX suite are made of: their list, exact assertions, and system calls that Python lacks.

A case is a function; it runs with a fresh empty directory as its working directory. It raises Wrong when something is
not as it must be, and NotHere when the file system lacks something that POSIX does not demand.
"""
import ctypes
import errno
import os
import pickle
import stat
import struct
import sys
import time
import traceback

STRANGER = 12345  # uid and gid of an ordinary user, for root
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
STATX_BTIME = 0x800

libc = ctypes.CDLL(None, use_errno=True)
for name in ("fallocate", "lseek64"):
    getattr(libc, name)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
libc.getxattr.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
libc.getxattr.restype = ctypes.c_ssize_t
libc.listxattr.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
libc.listxattr.restype = ctypes.c_ssize_t
libc.truncate64.argtypes = [ctypes.c_char_p, ctypes.c_int64]
libc.ftruncate64.argtypes = [ctypes.c_int, ctypes.c_int64]
libc.opendir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir64.restype = ctypes.c_void_p
for name in ("readdir64", "telldir", "rewinddir", "closedir"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

cases = []


class Wrong(Exception):
    pass


class NotHere(Exception):
    pass


class NeedsRoot(Exception):
    pass


def case(function):
    cases.append(function)
    return function


def is_root():
    return os.geteuid() == 0


def need_root():
    if not is_root():
        raise NeedsRoot


def same(got, wanted, what=""):
    if got != wanted:
        if isinstance(got, (bytes, bytearray)) and len(got) + len(wanted) > 200:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
            raise Wrong(f"{what}: {len(got)} bytes, not the {len(wanted)} wanted; they differ at {at}: "
                        f"{bytes(got[at:at + 16])!r} / {bytes(wanted[at:at + 16])!r}")
        raise Wrong(f"{what}: {got!r}, not {wanted!r}")


def true(value, what):
    if not value:
        raise Wrong(what)


def fails(number, function, *args, **kw):
    """The call fails with exactly this errno (or one of a tuple: where POSIX leaves the choice)."""
    numbers = number if isinstance(number, tuple) else (number,)
    told = getattr(function, "__name__", "call") + repr(args)[:120]
    try:
        result = function(*args, **kw)
    except OSError as e:
        if e.errno not in numbers:
            raise Wrong(f"{told}: {errno.errorcode.get(e.errno)}, not {errno.errorcode[numbers[0]]}") from None
        return
    raise Wrong(f"{told}: succeeded with {result!r}, not {errno.errorcode[numbers[0]]}")


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# --- system calls ---

def renameat2(a, b, flags):
    return checked(libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags))


def fallocate(fd, mode, offset, size):
    return checked(libc.fallocate(fd, mode, offset, size))


def utimensat(path, atime, mtime, flags=0):
    """atime, mtime: (seconds, nanoseconds or UTIME_*)."""
    times = struct.pack("qqqq", *atime, *mtime)
    return checked(libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags))


def getxattr_into(path, name, size):
    """The raw call, with a buffer of this size."""
    buf = ctypes.create_string_buffer(max(size, 1))
    return checked(libc.getxattr(os.fsencode(path), name.encode(), buf, size))


def listxattr_into(path, size):
    buf = ctypes.create_string_buffer(max(size, 1))
    return checked(libc.listxattr(os.fsencode(path), buf, size))


def truncate(path, size):
    return checked(libc.truncate64(os.fsencode(path), size))


def birth_time(path):
    """In nanoseconds, or None."""
    buf = ctypes.create_string_buffer(256)
    checked(libc.statx(AT_FDCWD, os.fsencode(path), 0, STATX_BTIME, buf))
    mask, = struct.unpack_from("I", buf.raw, 0)
    if not mask & STATX_BTIME:
        return None
    seconds, ns = struct.unpack_from("qI", buf.raw, 80)
    return seconds * 10**9 + ns


class Dir:
    """opendir and friends. next() gives (name, inode number) or None."""

    def __init__(self, path="."):
        self.stream = libc.opendir(os.fsencode(path))
        if not self.stream:
            checked(-1)

    def next(self):
        ctypes.set_errno(0)
        entry = libc.readdir64(self.stream)
        if not entry:
            if ctypes.get_errno():
                checked(-1)
            return None
        number, = struct.unpack("Q", ctypes.string_at(entry, 8))
        return ctypes.string_at(entry + 19), number

    def rest(self):
        found = []
        entry = self.next()
        while entry:
            found.append(entry[0])
            entry = self.next()
        return found

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, position):
        libc.seekdir(self.stream, position)

    def rewind(self):
        libc.rewinddir(self.stream)

    def close(self):
        libc.closedir(self.stream)


# --- files ---

def write(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest):]
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb", buffering=0) as f:
        return f.read()


class Open:
    """with Open(path, flags) as fd: a descriptor."""

    def __init__(self, path, flags=os.O_RDWR | os.O_CREAT, mode=0o644):
        self.fd = os.open(path, flags, mode)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def opens(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def nlink(path):
    return os.lstat(path).st_nlink


def exists(path):
    return os.path.lexists(path)


def ls(path="."):
    return sorted(os.listdir(path))


def tick():
    """Long enough for the clock that stamps files to move."""
    time.sleep(0.012)


# --- other processes ---

def child(function, *args):
    """Runs it in a child process. Returns what it returns and raises what it raises."""
    r, w = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            try:
                answer = (True, function(*args))
            except (Wrong, NotHere, OSError) as e:
                answer = (False, e)
            except BaseException:
                answer = (False, Wrong(traceback.format_exc()))
            os.write(w, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(w)
    with open(r, "rb") as f:
        answer = f.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise Wrong(f"a child process died: {status}")
    ok, value = pickle.loads(answer)
    if not ok:
        raise value
    return value


def as_stranger(function, *args, groups=(), uid=STRANGER):
    """As an ordinary user who owns nothing here; only root can."""
    need_root()

    def dropped():
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return function(*args)
    return child(dropped)
