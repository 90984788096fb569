#!/usr/bin/env python3
"""What a POSIX file system must do, on any directory: posix.py DIR [NAME...]

Each check_* runs in a fresh directory below DIR and fails by an exception. Run it on ext4 as well:
what fails there is a mistake of the check. Python standard library only. Exit status 1 if any fails.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


class Skip(Exception):
    pass


def fails(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except OSError as error:
        assert error.errno == code, f"{error} instead of {errno.errorcode[code]}"
        return
    raise AssertionError(f"{call.__name__}{args} did not fail with {errno.errorcode[code]}")


def check_call(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(old, new, flags):
    check_call(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def fallocate(fd, mode, offset, length):
    check_call(libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def settled(path):
    """Times that a later change must differ from."""
    time.sleep(0.02)
    return os.lstat(path)


# --- names ---


def check_create_excl():
    fd = os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.close(fd)
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o640
    fails(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def check_create_readonly_mode_is_writable_once():
    fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o400)
    os.write(fd, b"x")
    os.close(fd)
    assert read("f") == b"x"


def check_truncating_open():
    write("f", b"12345")
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    assert os.stat("f").st_size == 0
    assert read("f") == b""


def check_lookup_missing():
    fails(errno.ENOENT, os.stat, "no")
    fails(errno.ENOENT, os.unlink, "no")
    fails(errno.ENOENT, os.rmdir, "no")
    write("no", b"")
    os.stat("no")
    os.unlink("no")
    fails(errno.ENOENT, os.stat, "no")


def check_names_255_bytes():
    name = "n" * 255
    write(name, b"1")
    assert os.listdir(".") == [name]
    fails(errno.ENAMETOOLONG, write, "n" * 256, b"")
    odd = bytes(c for c in range(1, 256) if c != ord("/"))
    open(odd, "wb").close()
    assert odd in os.listdir(b".")
    os.unlink(odd)


def check_path_components():
    write("f", b"")
    fails(errno.ENOTDIR, os.stat, "f/x")
    fails(errno.ENOTDIR, os.rmdir, "f")
    fails(errno.ENOTDIR, os.listdir, "f")


def check_mkdir_rmdir():
    before = os.stat(".").st_nlink
    os.mkdir("d", 0o750)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o750
    assert os.stat("d").st_nlink == 2 and os.stat(".").st_nlink == before + 1
    fails(errno.EEXIST, os.mkdir, "d")
    os.mkdir("d/e")
    assert os.stat("d").st_nlink == 3
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    fails(errno.EISDIR, os.unlink, "d")
    os.rmdir("d/e")
    assert os.stat("d").st_nlink == 2
    os.rmdir("d")
    assert os.stat(".").st_nlink == before
    fails(errno.ENOENT, os.stat, "d")


def check_unlink_updates_parent_times():
    write("f", b"")
    old = settled(".")
    os.unlink("f")
    new = os.stat(".")
    assert new.st_mtime_ns > old.st_mtime_ns and new.st_ctime_ns > old.st_ctime_ns


def check_create_updates_parent_times():
    old = settled(".")
    write("f", b"")
    assert os.stat(".").st_mtime_ns > old.st_mtime_ns
    old = settled(".")
    os.mkdir("d")
    assert os.stat(".").st_mtime_ns > old.st_mtime_ns


def check_symlinks():
    os.symlink("target", "l")
    assert os.readlink("l") == "target"
    info = os.lstat("l")
    assert stat.S_ISLNK(info.st_mode) and info.st_size == 6
    fails(errno.ENOENT, os.stat, "l")
    write("target", b"yes")
    assert read("l") == b"yes"
    fails(errno.EEXIST, os.symlink, "x", "l")
    long = "t" * 4000
    os.symlink(long, "long")
    assert os.readlink("long") == long
    os.symlink("loop", "loop")
    fails(errno.ELOOP, os.stat, "loop")
    fails(errno.EINVAL, os.readlink, "target")


def check_hard_links():
    write("a", b"one")
    old = settled("a")
    os.link("a", "b")
    info = os.stat("b")
    assert info.st_nlink == 2 and info.st_ino == os.stat("a").st_ino
    assert info.st_ctime_ns > old.st_ctime_ns and info.st_mtime_ns == old.st_mtime_ns
    write("b", b"two")
    assert read("a") == b"two"
    old = settled("b")
    os.unlink("a")
    info = os.stat("b")
    assert info.st_nlink == 1 and info.st_ctime_ns > old.st_ctime_ns and read("b") == b"two"
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    fails(errno.EEXIST, os.link, "b", "d")
    os.link("b", "d/c")
    assert os.stat("d/c").st_nlink == 2


def check_special_files():
    os.mkfifo("fifo", 0o600)
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    got = []
    reader = threading.Thread(target=lambda: got.append(read("fifo")))
    reader.start()
    write("fifo", b"through")
    reader.join()
    assert got == [b"through"]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        server.listen()
        assert stat.S_ISSOCK(os.stat("sock").st_mode)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("sock")
    if os.geteuid() == 0:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        info = os.stat("null")
        assert stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)


# --- rename ---


def check_rename_plain():
    write("a", b"1")
    old = settled("a")
    ino = old.st_ino
    os.rename("a", "b")
    fails(errno.ENOENT, os.stat, "a")
    assert os.stat("b").st_ino == ino and read("b") == b"1"
    os.mkdir("d")
    os.rename("b", "d/c")
    assert os.listdir("d") == ["c"] and sorted(os.listdir(".")) == ["d"]
    fails(errno.ENOENT, os.rename, "nothing", "x")


def check_rename_over_file():
    write("a", b"new")
    write("b", b"old")
    fd = os.open("b", os.O_RDONLY)
    os.rename("a", "b")
    assert read("b") == b"new" and os.read(fd, 10) == b"old" and os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert os.listdir(".") == ["b"]


def check_rename_directories():
    os.makedirs("a/x")
    os.makedirs("b")
    before = os.stat(".").st_nlink
    os.rename("a", "b")
    assert os.listdir("b") == ["x"] and os.stat(".").st_nlink == before - 1
    os.makedirs("c/y")
    fails(errno.ENOTEMPTY, os.rename, "b", "c")
    fails(errno.EINVAL, os.rename, "b", "b/x/z")
    write("f", b"")
    fails(errno.ENOTDIR, os.rename, "b", "f")
    fails(errno.EISDIR, os.rename, "f", "b")
    os.rename("b", "c/b")
    assert os.stat("c").st_nlink == 4 and os.listdir("c/b") == ["x"]
    assert os.stat("c/b/..").st_ino == os.stat("c").st_ino


def check_rename_same_inode():
    write("a", b"")
    os.link("a", "b")
    os.rename("a", "b")
    assert sorted(os.listdir(".")) == ["a", "b"]
    os.rename("a", "a")


def check_rename_noreplace():
    write("a", b"1")
    write("b", b"2")
    fails(errno.EEXIST, renameat2, "a", "b", NOREPLACE)
    renameat2("a", "c", NOREPLACE)
    assert read("c") == b"1"


def check_rename_exchange():
    write("a", b"1")
    os.mkdir("d")
    write("d/in", b"2")
    renameat2("a", "d", EXCHANGE)
    assert read("d") == b"1" and read("a/in") == b"2"
    fails(errno.ENOENT, renameat2, "a", "none", EXCHANGE)
    os.mkdir("p")
    os.mkdir("q")
    os.mkdir("p/s")
    write("q/f", b"3")
    renameat2("p/s", "q/f", EXCHANGE)
    assert os.stat("p").st_nlink == 2 and os.stat("q").st_nlink == 3
    assert read("p/s") == b"3"


def check_rename_case_and_back():
    write("File", b"1")
    os.rename("File", "file")
    assert os.listdir(".") == ["file"]


# --- listings ---


def check_listing_while_removing():
    names = {f"f{i:05}" for i in range(3000)}
    for name in names:
        open(name, "w").close()
    assert set(os.listdir(".")) == names
    seen = set()
    with os.scandir(".") as entries:
        for entry in entries:
            assert entry.name not in seen and entry.is_file(follow_symlinks=False)
            seen.add(entry.name)
            os.unlink(entry.name)
    assert os.listdir(".") == [] and seen == names


def check_listing_survives_changes():
    for i in range(1000):
        open(f"keep{i}", "w").close()
    seen = []
    with os.scandir(".") as entries:
        for i, entry in enumerate(entries):
            seen.append(entry.name)
            if i % 10 == 0:
                open(f"new{i}", "w").close()
    kept = [name for name in seen if name.startswith("keep")]
    assert len(kept) == 1000 and len(set(kept)) == 1000


def check_dot_entries():
    os.mkdir("d")
    out = subprocess.run(["ls", "-a", "d"], capture_output=True, text=True, check=True).stdout
    assert out.split() == [".", ".."]


# --- contents ---


def check_holes_read_as_zero():
    with open("f", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    data = read("f")
    assert len(data) == (1 << 20) + 3 and data[: 1 << 20] == bytes(1 << 20)


def check_append():
    write("f", b"one")
    fd = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"two")
    os.close(fd)
    assert read("f") == b"onetwo"


def check_append_two_writers():
    fds = [os.open("f", os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(2)]

    def work(fd):
        for _ in range(500):
            os.write(fd, b"0123456789\n")

    threads = [threading.Thread(target=work, args=(fd,)) for fd in fds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read("f") == b"0123456789\n" * 1000


def check_truncate():
    write("f", b"0123456789" * 1000)
    os.truncate("f", 5)
    assert read("f") == b"01234"
    os.truncate("f", 9000)
    assert read("f") == b"01234" + bytes(8995)
    fd = os.open("f", os.O_RDWR)
    os.fsync(fd)
    os.ftruncate(fd, 3)
    os.ftruncate(fd, 6)
    os.close(fd)
    assert read("f") == b"012\0\0\0"
    os.mkdir("d")
    fails(errno.EISDIR, os.truncate, "d", 0)


def check_random_writes_against_memory():
    seed = int(os.environ.get("BAZIL_SEED", "0")) or random.randrange(1 << 30)
    print(f"    seed {seed}")
    rng = random.Random(seed)
    model = bytearray()
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    for step in range(600):
        action = rng.randrange(10)
        limit = rng.choice([5000, 300000, 3000000])
        offset = rng.randrange(limit)
        if action < 5:
            size = rng.choice([1, 10, 4096, 5000, 70000])
            data = rng.randbytes(size)
            os.pwrite(fd, data, offset)
            if len(model) < offset:
                model.extend(bytes(offset - len(model)))
            model[offset : offset + size] = data
        elif action == 5:
            os.ftruncate(fd, offset)
            model = model[:offset] + bytes(max(0, offset - len(model)))
        elif action == 6:
            size = rng.choice([100, 5000, 100000])
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, size)
            end = min(offset + size, len(model))
            if offset < end:
                model[offset:end] = bytes(end - offset)
        elif action == 7:
            os.fsync(fd)
        elif action == 8:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            size = rng.choice([1000, 200000])
            assert os.pread(fd, size, offset) == bytes(model[offset : offset + size]), step
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.fstat(fd).st_size == len(model)
    assert os.pread(fd, len(model) + 1, 0) == bytes(model)
    os.close(fd)


def check_large_file():
    block = random.randbytes(1 << 20)
    with open("f", "wb") as file:
        for i in range(40):
            file.write(i.to_bytes(4, "big") + block)
    fd = os.open("f", os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for i in range(40):
        assert os.read(fd, 4 + len(block)) == i.to_bytes(4, "big") + block
    os.close(fd)


def check_mmap():
    write("f", bytes(100000))
    with open("f", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[50000:50005] = b"hello"
        memory.flush()
        assert os.pread(file.fileno(), 5, 50000) == b"hello"
    assert read("f")[50000:50005] == b"hello"


def check_fallocate():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 20000)
    fallocate(fd, 0, 0, 50000)
    assert os.fstat(fd).st_size == 50000
    fallocate(fd, KEEP_SIZE, 0, 90000)
    assert os.fstat(fd).st_size == 50000
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 3000, 10000)
    assert os.pread(fd, 20000, 0) == b"x" * 3000 + bytes(10000) + b"x" * 7000
    fallocate(fd, ZERO_RANGE, 49000, 3000)
    assert os.fstat(fd).st_size == 52000
    os.close(fd)


def check_seek_data_hole():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 4 << 20)
    os.pwrite(fd, b"d" * 65536, 1 << 20)
    for sync in (False, True):
        if sync:
            os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
        assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 65536
        fails(errno.ENXIO, os.lseek, fd, 2 << 20, os.SEEK_DATA)
        fails(errno.ENXIO, os.lseek, fd, 4 << 20, os.SEEK_HOLE)
    os.close(fd)


def check_copy_file_range():
    data = random.randbytes(3 << 20)
    write("a", data)
    a = os.open("a", os.O_RDONLY)
    b = os.open("b", os.O_CREAT | os.O_RDWR)
    done = 0
    while done < len(data) - 777:
        done += os.copy_file_range(a, b, len(data) - 777 - done, 777 + done, 100 + done)
    os.close(a)
    assert os.fstat(b).st_size == len(data) - 677
    os.close(b)
    assert read("b") == bytes(100) + data[777:]


def check_unlinked_open_file():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"a" * 100000)
    os.unlink("f")
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"b", 50000)
    os.fsync(fd)
    assert os.pread(fd, 3, 49999) == b"aba"
    os.ftruncate(fd, 10)
    assert os.fstat(fd).st_size == 10
    os.close(fd)
    assert os.listdir(".") == []


def check_fsync_kinds():
    fd = os.open("f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 10000)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
    os.sync()


def check_large_offsets():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"far", 1 << 40)
    os.fsync(fd)
    assert os.fstat(fd).st_size == (1 << 40) + 3
    assert os.pread(fd, 10, 1 << 40) == b"far"
    assert os.pread(fd, 4, (1 << 39)) == bytes(4)
    os.close(fd)


# --- attributes ---


def check_times():
    write("f", b"1")
    os.utime("f", ns=(1234567890123456789, 987654321987654321))
    info = os.stat("f")
    assert (info.st_atime_ns, info.st_mtime_ns) == (1234567890123456789, 987654321987654321)
    os.utime("f", ns=(-1500000000, -1))
    assert os.stat("f").st_mtime_ns == -1 and os.stat("f").st_atime_ns == -1500000000
    old = settled("f")
    os.chmod("f", 0o600)
    info = os.stat("f")
    assert info.st_ctime_ns > old.st_ctime_ns and info.st_mtime_ns == old.st_mtime_ns
    old = settled("f")
    with open("f", "ab") as file:
        file.write(b"2")
    info = os.stat("f")
    assert info.st_mtime_ns > old.st_mtime_ns and info.st_ctime_ns > old.st_ctime_ns
    os.symlink("x", "l")
    os.utime("l", ns=(5, 6), follow_symlinks=False)
    assert os.lstat("l").st_mtime_ns == 6
    os.mkdir("d")
    os.utime("d", ns=(7, 8))
    assert os.stat("d").st_mtime_ns == 8
    os.utime("f")
    assert abs(os.stat("f").st_mtime - time.time()) < 5


def check_modes():
    write("f", b"")
    for mode in (0o000, 0o777, 0o4755, 0o2755, 0o1777):
        os.chmod("f", mode)
        assert stat.S_IMODE(os.stat("f").st_mode) == mode
    os.mkdir("d", 0o700)
    os.chmod("d", 0o1777)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o1777


def as_user(uid, code):
    """Runs Python code as another user; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            exec(code, globals())
            status = 0
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")
    os.chmod(".", 0o777)
    if as_user(12345, "os.stat('.')") != 0:
        raise Skip("another user cannot come here")


def check_permissions():
    need_root()
    write("f", b"secret")
    os.chmod("f", 0o600)
    assert as_user(12345, "open('f')") == errno.EACCES
    os.chmod("f", 0o644)
    assert as_user(12345, "open('f')") == 0
    assert as_user(12345, "open('f', 'w')") == errno.EACCES
    assert as_user(12345, "os.chmod('f', 0o777)") == errno.EPERM
    os.mkdir("d", 0o755)
    assert as_user(12345, "open('d/x', 'w')") == errno.EACCES


def check_owner():
    need_root()
    write("f", b"")
    os.chown("f", 12345, 54321)
    info = os.stat("f")
    if info.st_uid == 0:
        raise Skip("owners are squashed here")
    assert (info.st_uid, info.st_gid) == (12345, 54321)
    assert as_user(777, "open('g', 'w').close()") == 0
    assert os.stat("g").st_uid == 777
    os.mkdir("d")
    os.chown("d", 0, 4242)
    os.chmod("d", 0o2777)
    write("d/f", b"")
    os.mkdir("d/e")
    assert os.stat("d/f").st_gid == 4242 and os.stat("d/e").st_mode & stat.S_ISGID


def check_setuid_is_dropped():
    need_root()
    write("f", b"x")
    os.chown("f", 12345, 12345)
    if os.stat("f").st_uid == 0:
        raise Skip("owners are squashed here")
    os.chmod("f", 0o6777)
    assert as_user(12345, "fd = os.open('f', os.O_WRONLY); os.write(fd, b'y')") == 0
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o777
    os.chmod("f", 0o6777)
    os.chown("f", 1, 1)
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o777


def check_sticky_directory():
    need_root()
    os.mkdir("t")
    os.chmod("t", 0o1777)
    assert as_user(1001, "open('t/f', 'w').close()") == 0
    if os.stat("t/f").st_uid == 0:
        raise Skip("owners are squashed here")
    assert as_user(1002, "os.unlink('t/f')") == errno.EPERM
    assert as_user(1001, "os.unlink('t/f')") == 0


def check_statvfs():
    info = os.statvfs(".")
    assert info.f_blocks > 0 and info.f_bavail <= info.f_blocks and info.f_namemax == 255


def check_xattrs():
    write("f", b"")
    os.mkdir("d")
    for path in ("f", "d"):
        fails(errno.ENODATA, os.getxattr, path, "user.a")
        os.setxattr(path, "user.a", b"1")
        os.setxattr(path, "user.b", b"")
        assert os.getxattr(path, "user.a") == b"1" and os.getxattr(path, "user.b") == b""
        assert sorted(os.listxattr(path)) == ["user.a", "user.b"]
        fails(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
        fails(errno.ENODATA, os.setxattr, path, "user.c", b"2", os.XATTR_REPLACE)
        os.setxattr(path, "user.a", b"22", os.XATTR_REPLACE)
        assert os.getxattr(path, "user.a") == b"22"
        os.removexattr(path, "user.a")
        fails(errno.ENODATA, os.removexattr, path, "user.a")
        assert os.listxattr(path) == ["user.b"]
    old = settled("f")
    os.setxattr("f", "user.n", bytes(3000))
    assert os.stat("f").st_ctime_ns > old.st_ctime_ns
    assert os.getxattr("f", "user.n") == bytes(3000)
    name = "user." + "n" * 250
    os.setxattr("f", name, b"x")
    assert os.getxattr("f", name) == b"x"


def check_large_xattr():
    write("f", b"")
    value = random.randbytes(65536)
    try:
        os.setxattr("f", "user.big", value)
    except OSError as error:
        raise Skip(f"not here: {error}") from None
    assert os.getxattr("f", "user.big") == value


# --- locks and programs ---


def check_locks():
    write("f", b"")
    with open("f", "r+b") as one, open("f", "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fails(errno.EWOULDBLOCK, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_EX)
        code = "fcntl.lockf(open('f', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        run = subprocess.run([sys.executable, "-c", f"import fcntl; {code}"],
                             capture_output=True, check=False)
        assert run.returncode != 0


def check_sqlite():
    try:
        import sqlite3
    except ImportError:
        raise Skip("no sqlite3") from None
    for mode in ("wal", "delete"):
        base = sqlite3.connect(f"{mode}.db")
        base.execute(f"pragma journal_mode={mode}")
        base.execute("create table t(a, b)")
        for i in range(20):
            with base:
                base.executemany("insert into t values (?, ?)", [(i, "x" * 200)] * 50)
        assert base.execute("select count(*) from t").fetchone() == (1000,)
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
        base.close()


def check_git():
    if shutil.which("git") is None:
        raise Skip("no git")
    env = dict(os.environ, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
               GIT_COMMITTER_EMAIL="a@b", HOME=os.getcwd())

    def git(*args):
        return subprocess.run(["git", *args], env=env, check=True, capture_output=True).stdout

    git("init", "-q", "r")
    for i in range(100):
        os.makedirs(f"r/d{i % 10}", exist_ok=True)
        write(f"r/d{i % 10}/f{i}", b"line %d\n" % i * i)
    git("-C", "r", "add", ".")
    git("-C", "r", "commit", "-qm", "one")
    git("clone", "-q", "r", "c")
    git("-C", "c", "gc", "-q")
    git("-C", "c", "fsck", "--strict")
    assert git("-C", "c", "status", "--porcelain") == b""


def check_tar():
    os.mkdir("in")
    for i in range(200):
        write(f"in/f{i}", random.randbytes(i * 50))
    subprocess.run(["tar", "cf", "t.tar", "in"], check=True)
    os.mkdir("out")
    subprocess.run(["tar", "xf", "t.tar", "-C", "out"], check=True)
    subprocess.run(["diff", "-r", "in", "out/in"], check=True)
    subprocess.run(["tar", "df", "t.tar", "-C", "out"], check=True)
    subprocess.run(["rm", "-r", "out"], check=True)
    assert not os.path.exists("out")


def check_many_threads():
    def work(k):
        os.mkdir(f"t{k}")
        for i in range(100):
            write(f"t{k}/f{i}", b"%d" % i * 100)
            os.rename(f"t{k}/f{i}", f"t{k}/g{i}")
            assert read(f"t{k}/g{i}") == b"%d" % i * 100
            if i % 2:
                os.unlink(f"t{k}/g{i}")

    failed = []

    def guarded(k):
        try:
            work(k)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert all(len(os.listdir(f"t{k}")) == 50 for k in range(8))


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    os.umask(0o022)
    base = tempfile.mkdtemp(prefix="posix.", dir=os.path.abspath(sys.argv[1]))
    checks = {name[6:]: fn for name, fn in globals().items() if name.startswith("check_")}
    checks.pop("call")
    failed = 0
    for name, fn in checks.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        work = os.path.join(base, name)
        os.mkdir(work)
        os.chdir(work)
        try:
            fn()
            print(f"ok   {name}")
        except Skip as why:
            print(f"skip {name}: {why}")
        except Exception as error:
            line = error.__traceback__
            while line.tb_next:
                line = line.tb_next
            lines = [t.tb_lineno for t in iter_frames(error.__traceback__)]
            print(f"FAIL {name}: {type(error).__name__}: {error} (lines {lines})")
            failed += 1
        sys.stdout.flush()
        os.chdir("/")
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(base, ignore_errors=True)
    print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


def iter_frames(tb):
    while tb:
        if tb.tb_frame.f_code.co_filename == __file__:
            yield tb
        tb = tb.tb_next


if __name__ == "__main__":
    sys.exit(main())
