#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets of cas/ into corpus/cas-*: run by hand when a format changes."""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(target, name, data):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    with open(os.path.join(HERE, target, name), "wb") as f:
        f.write(data)


def block(kind, size, data, last=1):
    return struct.pack("<I", size << 3 | kind << 1 | last)[:3] + data


def frame(*blocks):
    """A zstd frame (RFC 8878) without sizes and checksum, window 1 MiB."""
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([10 << 3]) + b"".join(blocks)


def payload(plain_len, compression, stored, stored_len=None):
    n = len(stored) if stored_len is None else stored_len
    return b"\1" + struct.pack("<IB3xI", plain_len, compression, n) + stored


def chunks():
    text = b"something that somebody wrote\n"
    put("cas-chunk", "raw", payload(len(text), 0, text))
    put("cas-chunk", "raw-long", payload(400, 0, text * 14, 400))
    put("cas-chunk", "zstd-raw-block", payload(60, 1, frame(block(0, 30, text)).ljust(43, b"\0")))
    put("cas-chunk", "zstd-run", payload(5000, 1, frame(block(1, 5000, b"x"))))
    put("cas-chunk", "zstd-two-blocks",
        payload(5030, 1, frame(block(1, 5000, b"x", 0), block(0, 30, text))))
    put("cas-chunk", "zstd-bomb", payload(1000, 1, frame(*[block(1, 100000, b"x", 0)] * 9)))
    put("cas-chunk", "zstd-two-frames",
        payload(10000, 1, frame(block(1, 5000, b"x")) + frame(block(1, 5000, b"y"))))
    put("cas-chunk", "zstd-cut", payload(5000, 1, frame(block(0, 3000, text))))
    put("cas-chunk", "future", payload(len(text), 2, text))
    put("cas-chunk", "lies", payload(0xFFFFFFFF, 0, text, 0xFFFFFFFF))
    put("cas-chunk", "foreign", b"\0BZO1\1\1\1\0" + bytes(256 + 16))
    put("cas-chunk", "foreign-manifest", b"\0BZO1\1\1\2\0" + bytes(24 + 256 + 16))
    put("cas-chunk", "foreign-list",
        b"\0BZO1\2\1\2\0" + struct.pack("<HHI", 2, 0, 0) + b"\1" * 64 + bytes(24 + 256 + 16))
    put("cas-chunk", "foreign-short", b"\0BZO1")


def extent(length, off, of, name):
    if not name:
        return struct.pack("<QII", length, 0, 0) + bytes(72)
    return struct.pack("<QII", length, off, of) + bytes([name]) * 32 + bytes([name]) * 32 + bytes(8)


def node(level, entries, count=None, version=1):
    n = len(entries) if count is None else count
    return b"BZM1" + struct.pack("<BBH", version, level, n) + b"".join(entries)


def manifests():
    leaf = [extent(65536, 0, 65536, 1), extent(10, 5, 100, 2), extent(1 << 40, 0, 0, 0)]
    child = struct.pack("<Q", 1000) + b"\1" * 32
    put("cas-manifest", "leaf", node(0, leaf))
    put("cas-manifest", "leaf-full", node(0, [extent(1, i % 50, 64, 1 + i % 3) for i in range(256)]))
    put("cas-manifest", "inner", node(1, [child] * 3))
    put("cas-manifest", "inner-deep", node(7, [child] * 200))
    put("cas-manifest", "level", node(8, [child]))
    put("cas-manifest", "count", node(0, leaf, 4))
    put("cas-manifest", "none", node(0, []))
    put("cas-manifest", "future", node(0, leaf, version=2))
    put("cas-manifest", "overflow", node(0, [extent((1 << 63) - 1, 0, 0, 0), extent(1, 0, 0, 0)]))
    put("cas-manifest", "slice", node(0, [extent(11, 90, 100, 2)]))


def records():
    put("cas-meta", "empty", b"")
    put("cas-meta", "sealed", bytes(range(90)))
    put("cas-meta", "name", b"\4name".ljust(16, b"\0"))
    put("cas-meta", "name-long", b"\xff" + b"n" * 255)
    put("cas-meta", "name-cut", b"\x20" + b"n" * 32)
    put("cas-meta", "name-padded-wrong", b"\4name".ljust(15, b"\0") + b"\1")


chunks()
manifests()
records()
