"""Cases about contents: open flags, reading and writing, sizes, holes, mmap, locks, syncing."""
import errno
import fcntl
import mmap
import os
import random
import resource
import signal
import struct
import threading

from posix_case import (COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, NotHere, Open, case, child, exists, fallocate, fails,
                        is_root, ls, mode_of, opens, read, same, tick, true, truncate, write)

KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
SEED = int(os.environ.get("BAZIL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def fill(fd, data, offset=0):
    rest = memoryview(data)
    while rest:
        n = os.pwrite(fd, rest, offset)
        rest, offset = rest[n:], offset + n


# --- open ---

@case
def open_creat_on_what_exists():
    write("f", b"123")
    with Open("f", os.O_RDWR | os.O_CREAT, 0o777) as fd:
        same((os.read(fd, 10), mode_of("f")), (b"123", 0o644), "contents and mode")
    fails(errno.EEXIST, opens, "f", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.mkdir("d")
    fails(errno.EISDIR, opens, "d", os.O_CREAT | os.O_RDONLY)
    fails(errno.EEXIST, opens, "d", os.O_CREAT | os.O_EXCL | os.O_RDONLY)
    os.symlink("nowhere", "l")
    fails(errno.EEXIST, opens, "l", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    true(not exists("nowhere"), "O_EXCL followed a link")
    fails(errno.EISDIR, opens, "new/", os.O_CREAT | os.O_RDWR)
    fails(errno.ENOENT, opens, "x/new", os.O_CREAT | os.O_RDWR)
    fails(errno.ENOTDIR, opens, "f/new", os.O_CREAT | os.O_RDWR)


@case
def open_trunc():
    write("f", noise(100000))
    with Open("f", os.O_RDWR) as other:
        opens("f", os.O_WRONLY | os.O_TRUNC)
        same((os.stat("f").st_size, read("f"), os.pread(other, 10, 0)), (0, b"", b""), "size, contents")
        opens("f", os.O_WRONLY | os.O_TRUNC)
        os.pwrite(other, b"x", 5)
        same(read("f"), b"\0\0\0\0\0x", "written beyond the end")


@case
def open_directory():
    os.mkdir("d")
    write("f")
    fails(errno.ENOTDIR, opens, "f", os.O_RDONLY | os.O_DIRECTORY)
    opens("d", os.O_RDONLY | os.O_DIRECTORY)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        fails(errno.EISDIR, opens, "d", flags)
    with Open("d", os.O_RDONLY) as fd:
        fails(errno.EISDIR, os.read, fd, 10)
        fails(errno.EBADF, os.write, fd, b"x")
        fails(errno.EINVAL, os.ftruncate, fd, 0)


@case
def open_nofollow():
    write("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.symlink("d", "m")
    fails(errno.ELOOP, opens, "l", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.ELOOP, opens, "l", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW)
    fails((errno.ELOOP, errno.ENOTDIR), opens, "m", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    opens("f", os.O_RDONLY | os.O_NOFOLLOW)
    with Open("l", os.O_PATH | os.O_NOFOLLOW) as fd:
        same(os.readlink("", dir_fd=fd), "f", "readlink of O_PATH")


@case
def open_for_one_direction():
    write("f", b"123")
    with Open("f", os.O_RDONLY) as fd:
        fails(errno.EBADF, os.write, fd, b"x")
        fails(errno.EINVAL, os.ftruncate, fd, 0)
        fails(errno.EBADF, fallocate, fd, 0, 0, 10)
    with Open("f", os.O_WRONLY) as fd:
        fails(errno.EBADF, os.read, fd, 1)
        fails(errno.EBADF, os.pread, fd, 1, 0)
    same(read("f"), b"123", "contents")


@case
def open_modes_are_masked():
    os.umask(0o027)
    opens("f", os.O_CREAT | os.O_WRONLY, 0o777)
    os.mkdir("d", 0o777)
    same((mode_of("f"), mode_of("d")), (0o750, 0o750), "modes")
    os.umask(0)
    opens("g", os.O_CREAT | os.O_WRONLY, 0o6666)
    os.mkdir("e", 0o1777)
    same((mode_of("g"), mode_of("e")), (0o6666, 0o1777), "modes")


@case
def open_new_file_without_permission():
    with Open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o000) as fd:
        os.write(fd, b"1")
        same(os.pread(fd, 5, 0), b"1", "contents")
        same(mode_of("f"), 0, "mode")
    if not is_root():
        fails(errno.EACCES, opens, "f", os.O_RDONLY)


@case
def append_goes_to_the_end():
    write("f", b"12")
    with Open("f", os.O_RDWR | os.O_APPEND) as a, Open("f", os.O_RDWR) as b:
        os.write(a, b"3")
        os.pwrite(b, b"45", 3)
        os.lseek(a, 0, os.SEEK_SET)
        os.write(a, b"6")
        same(os.lseek(a, 0, os.SEEK_CUR), 6, "position")
        os.ftruncate(b, 1)
        os.write(a, b"7")
        same(read("f"), b"17", "contents after truncation")
        os.ftruncate(b, 5)
        os.write(a, b"8")
        same(read("f"), b"17\0\0\x008", "contents after growing")


@case
def append_by_two_processes_keeps_records_whole():
    write("log")

    def work(letter):
        with Open("log", os.O_WRONLY | os.O_APPEND) as fd:
            for _ in range(300):
                os.write(fd, letter * 99 + b"\n")
    pids = []
    for letter in (b"a", b"b", b"c"):
        pid = os.fork()
        if pid == 0:
            try:
                work(letter)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = read("log").split(b"\n")[:-1]
    same(len(lines), 900, "records")
    same({(len(x), len(set(x))) for x in lines}, {(99, 1)}, "whole records")


# --- read and write ---

@case
def pread_and_pwrite():
    with Open("f") as fd:
        same(os.pwrite(fd, b"abc", 0), 3, "bytes written")
        same(os.pread(fd, 10, 1), b"bc", "contents")
        same(os.pread(fd, 10, 3), b"", "at the end")
        same(os.pread(fd, 10, 1000), b"", "beyond the end")
        os.pwrite(fd, b"z", 10)
        same(os.pread(fd, 100, 0), b"abc\0\0\0\0\0\0\0z", "with a gap")
        same(os.lseek(fd, 0, os.SEEK_CUR), 0, "position")
        fails(errno.EINVAL, os.pwrite, fd, b"x", -1)
        fails(errno.EINVAL, os.pread, fd, 1, -1)
        same(os.write(fd, b""), 0, "an empty write")
        os.preadv(fd, [bytearray(2), bytearray(3)], 0)
        same(os.pwritev(fd, [b"12", b"", b"345"], 8), 5, "pwritev")
        same(read("f"), b"abc\0\0\0\0\x0012345", "contents")
        fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
        same(os.lseek(fd, -3, os.SEEK_END), 10, "SEEK_END")


@case
def sizes_at_every_boundary():
    """Files of sizes around those where storage changes its form: inline, block, page, chunk."""
    for base in (0, 1, 100, 4 * KB, 8 * KB, 16 * KB, 64 * KB, 128 * KB, 256 * KB, MB, 4 * MB):
        for size in (base - 1, base, base + 1):
            if size >= 0:
                data = noise(size, size)
                write("f", data)
                same(os.stat("f").st_size, size, "st_size")
                same(read("f"), data, f"contents of {size} bytes")
                with Open("f", os.O_RDWR) as fd:
                    os.fsync(fd)
                    same(os.pread(fd, size + 1, 0), data, f"contents of {size} bytes after fsync")


@case
def grows_a_byte_at_a_time():
    whole = noise(9000, 3)
    with Open("f") as fd:
        for i in range(len(whole)):
            os.write(fd, whole[i:i + 1])
        same(os.fstat(fd).st_size, len(whole), "size")
    same(read("f"), whole, "contents")


@case
def random_writes_are_as_in_memory():
    rng = random.Random(SEED)
    model = bytearray()
    with Open("f") as fd:
        for i in range(600):
            kind = rng.randrange(20)
            at = rng.randrange(6 * MB)
            if kind < 11:
                data = rng.randbytes(rng.choice((1, 7, 100, 4096, 5000, 70000, 300000)))
                fill(fd, data, at)
                model.extend(bytes(max(0, at - len(model))))
                model[at:at + len(data)] = data
            elif kind < 13:
                at = rng.choice((at, len(model) + rng.randrange(5000), max(0, len(model) - rng.randrange(5000))))
                os.ftruncate(fd, at)
                model = model[:at] + bytes(max(0, at - len(model)))
            elif kind < 14:
                os.fsync(fd)
            elif kind < 15 and model:
                size = rng.randrange(1, 500000)
                fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, size)
                end = min(at + size, len(model))
                if at < end:
                    model[at:end] = bytes(end - at)
            else:
                size = rng.randrange(300000)
                same(os.pread(fd, size, at), bytes(model[at:at + size]), f"step {i}, seed {SEED}, at {at}")
        same(os.fstat(fd).st_size, len(model), f"size, seed {SEED}")
    same(read("f"), bytes(model), f"contents, seed {SEED}")


@case
def large_file_and_its_parts():
    data = noise(24 * MB, 5)
    write("f", data)
    with Open("f", os.O_RDWR) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        rng = random.Random(SEED)
        for _ in range(200):
            at = rng.randrange(len(data))
            size = rng.randrange(200000)
            same(os.pread(fd, size, at), data[at:at + size], f"seed {SEED}, at {at}")
        os.pwrite(fd, b"HERE", 12345678)
        os.fdatasync(fd)
    same(read("f"), data[:12345678] + b"HERE" + data[12345682:], "contents")


@case
def many_small_files():
    for i in range(20):
        os.mkdir(f"d{i}")
        for k in range(100):
            write(f"d{i}/f{k}", b"%d of %d" % (k, i))
    for i in range(20):
        same(ls(f"d{i}"), sorted(f"f{k}" for k in range(100)), "names")
        for k in range(100):
            same(read(f"d{i}/f{k}"), b"%d of %d" % (k, i), f"d{i}/f{k}")


@case
def direct_io():
    try:
        fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    except OSError as e:
        if e.errno == errno.EINVAL:
            raise NotHere("O_DIRECT") from None
        raise
    try:
        page = mmap.mmap(-1, 64 * KB)
        page[:] = noise(64 * KB)
        same(os.pwritev(fd, [page], 0), 64 * KB, "bytes written")
        same(os.pwritev(fd, [page], 128 * KB), 64 * KB, "bytes written")
        same(read("f"), bytes(page) + bytes(64 * KB) + bytes(page), "contents by the page cache")
        with Open("f", os.O_RDWR) as other:
            os.pwrite(other, b"cached", 4096)
            back = mmap.mmap(-1, 64 * KB)
            same(os.preadv(fd, [back], 0), 64 * KB, "bytes read")
            same(back[4096:4102], b"cached", "what was written by the page cache")
    finally:
        os.close(fd)


@case
def file_size_limit():
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        with Open("f") as fd:
            same(os.pwrite(fd, bytes(2000), 9000), 1000, "a write across the limit")
            fails(errno.EFBIG, os.pwrite, fd, b"x", 10000)
            fails(errno.EFBIG, os.ftruncate, fd, 10001)
    child(limited)
    same(os.stat("f").st_size, 10000, "size")


# --- sizes and holes ---

@case
def truncate_shrinks_and_grows():
    data = noise(300000)
    write("f", data)
    truncate("f", 100001)
    same(read("f"), data[:100001], "shrunk")
    truncate("f", 250000)
    same(read("f"), data[:100001] + bytes(149999), "grown: zeros, not what was there")
    truncate("f", 0)
    same((os.stat("f").st_size, read("f")), (0, b""), "emptied")
    truncate("f", 5000)
    same(read("f"), bytes(5000), "grown from nothing")


@case
def truncate_then_write_leaves_zeros_between():
    for size in (10, 4096, 70000, 2 * MB):
        data = noise(size, size)
        write("f", data)
        with Open("f", os.O_RDWR) as fd:
            os.ftruncate(fd, size // 2)
            os.pwrite(fd, b"end", size + 10)
            same(os.pread(fd, size + 100, 0), data[:size // 2] + bytes(size + 10 - size // 2) + b"end", f"of {size}")


@case
def truncate_small_steps():
    with Open("f") as fd:
        os.write(fd, b"0123456789")
        for size in (9, 12, 4095, 4096, 4097, 4, 4, 65536, 65537, 1):
            os.ftruncate(fd, size)
            same(os.fstat(fd).st_size, size, "size")
        same(read("f"), b"0", "contents")


@case
def truncate_errors():
    write("f", b"123")
    os.mkdir("d")
    fails(errno.EISDIR, truncate, "d", 0)
    fails(errno.EINVAL, truncate, "f", -1)
    fails(errno.ENOENT, truncate, "none", 0)
    fails(errno.ENOTDIR, truncate, "f/x", 0)
    os.mkfifo("p")
    fails(errno.EINVAL, truncate, "p", 0)
    os.symlink("f", "l")
    truncate("l", 1)
    same(read("f"), b"1", "through a link")
    fails((errno.EFBIG, errno.EINVAL), os.pwrite, os.open("f", os.O_WRONLY), b"xx", (1 << 63) - 1)


def seeks(fd, *wanted):
    for offset, whence, found in wanted:
        name = "SEEK_DATA" if whence == os.SEEK_DATA else "SEEK_HOLE"
        if found is None:
            fails(errno.ENXIO, os.lseek, fd, offset, whence)
        else:
            same(os.lseek(fd, offset, whence), found, f"{name} from {offset}")


@case
def seek_data_and_hole():
    data, hole = os.SEEK_DATA, os.SEEK_HOLE
    with Open("f") as fd:
        seeks(fd, (0, data, None), (0, hole, None))
        fill(fd, noise(MB), 0)
        fill(fd, noise(MB), 8 * MB)
        os.ftruncate(fd, 16 * MB)
        for _ in range(2):
            seeks(fd, (0, data, 0), (0, hole, MB), (MB - 1, data, MB - 1), (MB, data, 8 * MB), (5 * MB, hole, 5 * MB), (8 * MB, hole, 9 * MB),
                  (9 * MB, data, None), (9 * MB, hole, 9 * MB), (16 * MB - 1, hole, 16 * MB - 1), (16 * MB, hole, None), (16 * MB, data, None),
                  (17 * MB, hole, None))
            os.fsync(fd)
        true(os.fstat(fd).st_blocks * 512 < 3 * MB, f"st_blocks count the holes: {os.fstat(fd).st_blocks}")
        fails(errno.ENXIO, os.lseek, fd, -1, data)
    with Open("g") as fd:
        os.ftruncate(fd, 10 * MB)
        seeks(fd, (0, data, None), (0, hole, 0))
    write("h", b"small")
    with Open("h", os.O_RDONLY) as fd:
        seeks(fd, (0, data, 0), (0, hole, 5), (5, hole, None))


@case
def sparse_file_of_terabytes():
    with Open("f") as fd:
        os.ftruncate(fd, 8 * TB)
        same(os.fstat(fd).st_size, 8 * TB, "size")
        same(os.pread(fd, 10000, 5 * TB), bytes(10000), "a hole")
        places = (0, 3 * GB + 12345, TB, 4 * TB - 4096, 8 * TB - 100)
        for i, at in enumerate(places):
            fill(fd, noise(100000 if at < 8 * TB - 100 else 100, i), at)
        os.fsync(fd)
        same(os.fstat(fd).st_size, 8 * TB, "size")
        for i, at in enumerate(places):
            size = 100000 if at < 8 * TB - 100 else 100
            same(os.pread(fd, size, at), noise(size, i), f"at {at}")
            same(os.pread(fd, 10, at + size), b"" if at + size == 8 * TB else bytes(10), f"after {at}")
        found, at = [], 0
        while True:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                same(e.errno, errno.ENXIO, "the end of the data")
                break
            found.append(at)
            at = os.lseek(fd, at, os.SEEK_HOLE)
        same(len(found), len(places), "stretches of data")
        true(all(a <= b for a, b in zip(found, places)), f"data at {found}")
        os.ftruncate(fd, TB + 1)
        same(os.pread(fd, 10, TB), noise(100000, 2)[:1], "the end after shrinking")
        os.ftruncate(fd, 3 * TB)
        same(os.pread(fd, 10, TB), noise(100000, 2)[:1] + bytes(9), "zeros after growing again")


@case
def fallocate_plain_and_keep_size():
    with Open("f") as fd:
        os.write(fd, b"123")
        fallocate(fd, 0, 0, 2)
        same(os.fstat(fd).st_size, 3, "within")
        fallocate(fd, KEEP_SIZE, 0, 100000)
        same(os.fstat(fd).st_size, 3, "keeping the size")
        fallocate(fd, 0, 100, 100000)
        same(os.fstat(fd).st_size, 100100, "grown")
        same(os.pread(fd, 200000, 0), b"123" + bytes(100097), "contents")
        os.posix_fallocate(fd, 0, 200000)
        same(os.fstat(fd).st_size, 200000, "posix_fallocate")


@case
def fallocate_punch_hole():
    data = noise(3 * MB)
    with Open("f") as fd:
        fill(fd, data)
        for at, size in ((MB, MB), (10, 100), (2 * MB + 5000, 4096), (3 * MB - 10, 5000), (4 * MB, 100)):
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, size)
            data = (data[:at] + bytes(size) + data[at + size:])[:3 * MB] if at < 3 * MB else data
            same(os.fstat(fd).st_size, 3 * MB, "size")
            same(os.pread(fd, 4 * MB, 0), data, f"contents after punching at {at}")
        os.fsync(fd)
        same(os.lseek(fd, MB, os.SEEK_HOLE), MB, "the hole")
        same(os.lseek(fd, MB, os.SEEK_DATA), 2 * MB, "the data after the hole")
    same(read("f"), data, "contents")


@case
def fallocate_zero_range():
    with Open("f") as fd:
        os.write(fd, b"x" * 10000)
        fallocate(fd, ZERO_RANGE, 100, 1000)
        same(read("f"), b"x" * 100 + bytes(1000) + b"x" * 8900, "contents")
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 9990, 1000)
        same(os.fstat(fd).st_size, 10000, "keeping the size")
        fallocate(fd, ZERO_RANGE, 9990, 1000)
        same(os.fstat(fd).st_size, 10990, "grown")
        same(os.pread(fd, 2000, 9980), b"x" * 10 + bytes(1000), "the end")


@case
def fallocate_errors():
    with Open("f") as fd:
        os.write(fd, b"123")
        fails(errno.EINVAL, fallocate, fd, 0, 0, 0)
        fails(errno.EINVAL, fallocate, fd, 0, -1, 10)
        fails(errno.EINVAL, fallocate, fd, 0, 0, -1)
        fails(errno.EOPNOTSUPP, fallocate, fd, PUNCH_HOLE, 0, 10)
        fails(errno.EOPNOTSUPP, fallocate, fd, 0x4000, 0, 10)
        fails(errno.EFBIG, fallocate, fd, 0, (1 << 63) - 100, 1000)
    with Open(".", os.O_RDONLY) as fd:
        fails((errno.EBADF, errno.EISDIR), fallocate, fd, 0, 0, 10)
    with Open("f", os.O_RDONLY) as fd:
        fails(errno.EBADF, fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 10)


@case
def fallocate_collapse_and_insert_range():
    with Open("f") as fd:
        fill(fd, b"a" * 65536 + b"b" * 65536)
        fallocate(fd, COLLAPSE_RANGE, 0, 65536)
        same(read("f"), b"b" * 65536, "collapsed")
        fallocate(fd, INSERT_RANGE, 0, 65536)
        same(read("f"), bytes(65536) + b"b" * 65536, "inserted")


# --- copies ---

def copy_all(a, b, size, at_a, at_b):
    done = 0
    while done < size:
        n = os.copy_file_range(a, b, size - done, at_a + done, at_b + done)
        if n == 0:
            break
        done += n
    return done


@case
def copy_file_range_within_a_file_system():
    data = noise(5 * MB + 123)
    write("a", data)
    with Open("a", os.O_RDONLY) as a, Open("b") as b:
        same(copy_all(a, b, len(data), 0, 0), len(data), "bytes copied")
        same(read("b"), data, "the whole")
        same(copy_all(a, b, 100, 50, 10), 100, "bytes copied")
        same(copy_all(a, b, 2 * MB, 1000, 3 * MB + 7), 2 * MB, "bytes copied")
        want = bytearray(data)
        want[10:110] = data[50:150]
        want[3 * MB + 7:5 * MB + 7] = data[1000:2 * MB + 1000]
        same(read("b"), bytes(want), "parts")
        same(copy_all(a, b, 1000, len(data) - 10, 8 * MB), 10, "at the end of the source")
        same(os.fstat(b).st_size, 8 * MB + 10, "size")
        same(copy_all(a, b, 1000, len(data) + 10, 0), 0, "beyond the end of the source")
        os.pwrite(b, b"changed", 0)
    same(read("a"), data, "the source")


@case
def copy_file_range_in_one_file():
    data = noise(2 * MB)
    write("f", data)
    with Open("f", os.O_RDWR) as fd:
        same(copy_all(fd, fd, MB // 2, 0, MB), MB // 2, "bytes copied")
        fails(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 0, 500)
        same(copy_all(fd, fd, MB, 0, 2 * MB), MB, "bytes copied")
    same(read("f"), data[:MB] + data[:MB // 2] + data[MB + MB // 2:] + data[:MB], "contents")


@case
def copy_file_range_of_unsynced_and_sparse():
    with Open("a") as a, Open("b") as b:
        fill(a, noise(300000), 0)
        fill(a, noise(300000, 2), 4 * MB)
        fill(b, b"\xff" * (6 * MB))
        size = 4 * MB + 300000
        same(copy_all(a, b, size, 0, 0), size, "bytes copied")
        same(os.pread(b, 8 * MB, 0), noise(300000) + bytes(4 * MB - 300000) + noise(300000, 2) + b"\xff" * (2 * MB - 300000), "contents")


@case
def copy_file_range_errors():
    write("a", b"123")
    os.mkdir("d")
    with Open("a", os.O_RDONLY) as r, Open("b", os.O_WRONLY | os.O_CREAT) as w, Open("d", os.O_RDONLY) as d:
        fails(errno.EBADF, os.copy_file_range, r, r, 3, 0, 10)
        fails(errno.EBADF, os.copy_file_range, w, w, 3, 0, 10)
        fails(errno.EISDIR, os.copy_file_range, d, w, 3)
        same(os.copy_file_range(r, w, 100), 3, "with the descriptors' positions")
        same((os.lseek(r, 0, os.SEEK_CUR), os.lseek(w, 0, os.SEEK_CUR)), (3, 3), "positions")
    with Open("b", os.O_WRONLY | os.O_APPEND) as w, Open("a", os.O_RDONLY) as r:
        fails(errno.EBADF, os.copy_file_range, r, w, 3, 0, 0)


@case
def sendfile_and_splice():
    data = noise(500000)
    write("a", data)
    with Open("a", os.O_RDONLY) as a, Open("b") as b:
        done = 0
        while done < len(data):
            done += os.sendfile(b, a, done, len(data) - done)
        same(read("b"), data, "contents")


# --- syncing ---

@case
def sync_calls():
    with Open("f") as fd:
        os.write(fd, b"1")
        os.fsync(fd)
        os.fdatasync(fd)
        os.fsync(fd)
    with Open("f", os.O_RDONLY) as fd:
        os.fsync(fd)
    with Open(".", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
    with Open("g", os.O_WRONLY | os.O_CREAT | os.O_SYNC) as fd:
        os.write(fd, b"x" * 10000)
    with Open("g", os.O_WRONLY | os.O_DSYNC) as fd:
        os.write(fd, b"y" * 10000)
    same(read("g"), b"y" * 10000, "contents")
    os.mkfifo("p")
    with Open("p", os.O_RDWR) as fd:
        fails(errno.EINVAL, os.fsync, fd)


# --- unlinked and open ---

@case
def unlinked_file_lives_while_open():
    data = noise(3 * MB)
    with Open("f") as fd:
        fill(fd, data)
        os.unlink("f")
        same((os.fstat(fd).st_nlink, ls()), (0, []), "nlink, names")
        same(os.pread(fd, 4 * MB, 0), data, "contents")
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pwrite(fd, b"more", 5 * MB)
        os.ftruncate(fd, 5 * MB + 3)
        same(os.pread(fd, 10, 5 * MB), b"mor", "after writing and truncating")
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(1, 2))
        same((os.fstat(fd).st_mode & 0o777, os.fstat(fd).st_mtime_ns), (0o600, 2), "mode, mtime")
        write("f", b"another")
        true(os.fstat(fd).st_ino != os.stat("f").st_ino, "the new file is the old one")
        same(os.pread(fd, 3, 0), data[:3], "the old contents")
        fails(errno.ENOENT, os.link, f"/proc/self/fd/{fd}", "back", src_dir_fd=fd, follow_symlinks=True)


@case
def unlinked_file_open_in_two_processes():
    write("f", b"shared")
    with Open("f", os.O_RDWR) as fd:
        os.unlink("f")

        def other():
            os.pwrite(fd, b"S", 0)
            return os.pread(fd, 100, 0)
        same(child(other), b"Shared", "in the other process")
        same(os.pread(fd, 100, 0), b"Shared", "here")


@case
def open_by_proc_fd_of_unlinked():
    with Open("f") as fd:
        os.write(fd, b"1")
        os.unlink("f")
        with Open(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            os.pwrite(again, b"2", 1)
        same(os.pread(fd, 10, 0), b"12", "contents")


# --- mmap ---

@case
def mmap_shared_and_files_agree():
    write("f", bytes(100000))
    with Open("f", os.O_RDWR) as fd:
        m = mmap.mmap(fd, 100000)
        m[10:13] = b"map"
        same(os.pread(fd, 3, 10), b"map", "written by the map, read by read")
        os.pwrite(fd, b"file", 50000)
        same(m[50000:50004], b"file", "written by write, read by the map")
        m.flush()
        same(child(lambda: read("f")[10:13]), b"map", "another process")
        m[70000] = 7
        m.close()
    same((read("f")[70000], os.stat("f").st_size), (7, 100000), "after unmapping")


@case
def mmap_shared_between_processes():
    write("f", bytes(8192))
    with Open("f", os.O_RDWR) as fd:
        m = mmap.mmap(fd, 8192)

        def other():
            with Open("f", os.O_RDWR) as again:
                n = mmap.mmap(again, 8192)
                n[4096:4101] = b"hello"
                n.close()
        child(other)
        same(m[4096:4101], b"hello", "what the other process wrote")
        m.close()


@case
def mmap_private_stays_private():
    write("f", b"a" * 5000)
    with Open("f", os.O_RDWR) as fd:
        m = mmap.mmap(fd, 5000, flags=mmap.MAP_PRIVATE)
        m[0] = ord("b")
        same((m[0], read("f")[:1]), (ord("b"), b"a"), "the map and the file")
        m.close()


@case
def mmap_outlives_descriptor_and_name():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    fill(fd, noise(2 * MB))
    m = mmap.mmap(fd, 2 * MB)
    os.close(fd)
    os.link("f", "g")
    os.unlink("f")
    m[MB:MB + 4] = b"late"
    m.flush()
    same(read("g")[MB:MB + 4], b"late", "contents")
    os.unlink("g")
    m[0:4] = b"gone"
    same((m[:4], m[MB:MB + 4]), (b"gone", b"late"), "the map of a file without a name")
    m.close()


@case
def mmap_writes_change_mtime():
    write("f", bytes(4096))
    old = os.stat("f").st_mtime_ns
    tick()
    with Open("f", os.O_RDWR) as fd:
        m = mmap.mmap(fd, 4096)
        m[0] = 1
        m.flush()
        m.close()
    true(os.stat("f").st_mtime_ns > old, "mtime did not change")


@case
def mmap_errors():
    write("f", b"x" * 4096)
    with Open("f", os.O_RDONLY) as fd:
        fails(errno.EACCES, mmap.mmap, fd, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with Open("f", os.O_WRONLY) as fd:
        fails(errno.EACCES, mmap.mmap, fd, 4096, prot=mmap.PROT_READ)
    with Open(".", os.O_RDONLY) as fd:
        fails(errno.ENODEV, mmap.mmap, fd, 4096, prot=mmap.PROT_READ)


@case
def mmap_beyond_the_end_is_a_bus_error():
    write("f", b"x" * 100)

    def touch():
        with Open("f", os.O_RDWR) as fd:
            m = mmap.mmap(fd, 100)
            os.ftruncate(fd, 50)
            same(m[60], 0, "beyond the end in the last page")
            os.ftruncate(fd, 0)
            return m[0]
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        touch()
        os._exit(0)
    same(os.WTERMSIG(os.waitpid(pid, 0)[1]), signal.SIGBUS, "signal")


# --- locks ---

def try_flock(how):
    with Open("f", os.O_RDWR) as fd:
        fcntl.flock(fd, how | fcntl.LOCK_NB)


@case
def flock_between_processes():
    write("f")
    with Open("f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        child(try_flock, fcntl.LOCK_SH)
        fails(errno.EAGAIN, child, try_flock, fcntl.LOCK_EX)
        fails(errno.EAGAIN, try_flock, fcntl.LOCK_EX)
        fcntl.flock(fd, fcntl.LOCK_EX)
        fails(errno.EAGAIN, child, try_flock, fcntl.LOCK_SH)
        fcntl.flock(fd, fcntl.LOCK_UN)
        child(try_flock, fcntl.LOCK_EX)
        fcntl.flock(fd, fcntl.LOCK_EX)
    child(try_flock, fcntl.LOCK_EX)


def try_lockf(how, size, start):
    with Open("f", os.O_RDWR) as fd:
        fcntl.lockf(fd, how | fcntl.LOCK_NB, size, start)


@case
def record_locks_between_processes():
    write("f", b"x" * 100)
    with Open("f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        fails(errno.EAGAIN, child, try_lockf, fcntl.LOCK_EX, 10, 25)
        fails(errno.EAGAIN, child, try_lockf, fcntl.LOCK_SH, 0, 0)
        child(try_lockf, fcntl.LOCK_EX, 20, 0)
        child(try_lockf, fcntl.LOCK_EX, 0, 30)
        try_lockf(fcntl.LOCK_EX, 10, 25)
    with Open("f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_SH, 10, 0)
        child(try_lockf, fcntl.LOCK_SH, 10, 0)
        fails(errno.EAGAIN, child, try_lockf, fcntl.LOCK_EX, 10, 0)

        def get():
            with Open("f", os.O_RDWR) as again:
                query = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 5, 1, 0)
                return struct.unpack("hhqqi4x", fcntl.fcntl(again, fcntl.F_GETLK, query))
        same(child(get), (fcntl.F_RDLCK, 0, 0, 10, os.getpid()), "F_GETLK")
        # Closing any descriptor of the file drops the process's locks.
        opens("f", os.O_RDONLY)
        child(try_lockf, fcntl.LOCK_EX, 10, 0)


@case
def record_lock_waits():
    write("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with Open("f", os.O_RDWR) as other:
                os.write(w, b"w")
                fcntl.lockf(other, fcntl.LOCK_EX)
                os.write(w, b"l")
        finally:
            os._exit(0)
    same(os.read(r, 1), b"w", "the child")
    tick()
    os.write(w, b"u")
    fcntl.lockf(fd, fcntl.LOCK_UN)
    same(os.read(r, 1) + os.read(r, 1), b"ul", "order")
    os.waitpid(pid, 0)
    os.close(fd)
    os.close(r)
    os.close(w)


@case
def open_file_description_locks():
    setlk = 37
    write("f", b"x" * 100)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 10, 0)
    with Open("f", os.O_RDWR) as a, Open("f", os.O_RDWR) as b:
        fcntl.fcntl(a, setlk, lock)
        fails(errno.EAGAIN, fcntl.fcntl, b, setlk, lock)
        opens("f", os.O_RDWR)
        fails(errno.EAGAIN, fcntl.fcntl, b, setlk, lock)
    with Open("f", os.O_RDWR) as b:
        fcntl.fcntl(b, setlk, lock)


# --- threads ---

@case
def threads_write_disjoint_parts():
    size, parts = 256 * KB, 8
    with Open("f") as fd:
        def work(i):
            data = noise(size, i)
            for at in range(0, size, 10000):
                fill(fd, data[at:at + 10000], i * size + at)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(parts)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    same(read("f"), b"".join(noise(size, i) for i in range(parts)), "contents")


@case
def reader_sees_what_writer_wrote():
    """Another process reads at once what was written, and the size."""
    r1, w1 = os.pipe()
    r2, w2 = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with Open("f", os.O_RDWR | os.O_CREAT) as fd:
                for i in range(200):
                    os.write(fd, b"%08d" % i)
                    os.write(w1, b"x")
                    os.read(r2, 1)
        finally:
            os._exit(0)
    try:
        for i in range(200):
            os.read(r1, 1)
            same(os.stat("f").st_size, 8 * (i + 1), "size")
            with Open("f", os.O_RDONLY) as fd:
                same(os.pread(fd, 100, 8 * i), b"%08d" % i, "contents")
            os.write(w2, b"x")
    finally:
        os.close(w2)
        for fd in (r1, w1, r2):
            os.close(fd)
        os.waitpid(pid, 0)
