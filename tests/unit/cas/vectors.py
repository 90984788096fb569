#!/usr/bin/env python3
"""Prints vectors.h: the formats of cas/ computed a second time, from their description alone.

Run it by hand (python3 vectors.py > vectors.h) when a format gets a new version, never to make a
failing test pass. Standard library only; the ciphers are written out from RFC 8439 and the XChaCha
draft.
"""
import hashlib
import struct


def blake(size, data, key=b"", salt=b"", person=b""):
    return hashlib.blake2b(data, digest_size=size, key=key, salt=salt, person=person).digest()


def kdf(key, number, context):
    return blake(32, b"", key, struct.pack("<Q", number), context)


def rounds(state):
    x = list(state)

    def quarter(a, b, c, d):
        for (p, q, r, n) in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = (x[p] + x[q]) & 0xFFFFFFFF
            v = x[r] ^ x[p]
            x[r] = ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return x


SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def stream(key, nonce, counter, size):
    out = b""
    while len(out) < size:
        state = SIGMA + struct.unpack("<8I", key) + (counter,) + struct.unpack("<3I", nonce)
        out += struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(rounds(state), state)))
        counter += 1
    return out[:size]


def poly1305(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    a = 0
    for i in range(0, len(data), 16):
        a = (a + int.from_bytes(data[i:i + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((a + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def pad16(data):
    return data + bytes(-len(data) % 16)


def chachapoly(key, nonce, aad, plain):
    text = bytes(a ^ b for a, b in zip(plain, stream(key, nonce, 1, len(plain))))
    macked = pad16(aad) + pad16(text) + struct.pack("<QQ", len(aad), len(text))
    return text + poly1305(stream(key, nonce, 0, 32), macked)


def xchachapoly(key, nonce, aad, plain):
    x = rounds(SIGMA + struct.unpack("<8I", key) + struct.unpack("<4I", nonce[:16]))
    return chachapoly(struct.pack("<8I", *(x[:4] + x[12:])), bytes(4) + nonce[16:], aad, plain)


def padme(n):
    if n <= 256:
        return 256
    e = n.bit_length() - 1
    s = e.bit_length()
    mask = (1 << (e - s)) - 1
    return (n + mask) & ~mask


def show(name, data):
    print(f'#define {name} \\\n\t"{data.hex()}"')


def main():
    check = chachapoly(bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"),
                       bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
                       b"Ladies and Gentlemen of the class of '99: If I could offer you only "
                       b"one tip for the future, sunscreen would be it.")
    assert check[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"  # RFC 8439, 2.8.2
    check = xchachapoly(bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58)),
                        bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
                        b"Ladies and Gentlemen of the class of '99: If I could offer you only "
                        b"one tip for the future, sunscreen would be it.")
    assert check[-16:].hex() == "c0875924c1c7987947deafd8780acf49"  # XChaCha draft, A.3.1

    secret, volume = bytes(range(32)), bytes(range(100, 116))
    ck, tag = kdf(secret, 1, b"bzl1chnk"), kdf(secret, 2, b"bzl1dtag")
    parent = blake(32, volume, kdf(secret, 4, b"bzl1vol_"), person=b"bazil.volume.v1")
    seal, siv, name, value = (kdf(parent, i, b"bzl1meta") for i in (1, 2, 3, 4))
    print("/* Made by vectors.py: not to be edited. */")
    print("/* clang-format off */")
    show("VECTOR_CHUNKER", kdf(secret, 3, b"bzl1gear"))
    show("VECTOR_KEYID", kdf(secret, 9, b"bzl1kid_")[:8])
    show("VECTOR_SEAL", seal)
    show("VECTOR_SIV", siv)
    show("VECTOR_NAME", name)
    show("VECTOR_VALUE", value)

    plain = bytes(i * 7 & 255 for i in range(1000))
    header = b"BZO1\1\1\1\0"
    payload = struct.pack("<IB3xI", 1000, 0, 1000) + plain
    payload += bytes(padme(len(payload)) - len(payload))
    h = hashlib.sha256(header + payload).digest()
    key = blake(32, b"\1" + h, ck)
    chunk = header + chachapoly(key, bytes(12), header, payload)
    show("VECTOR_CHUNK_OLD_H", h)
    show("VECTOR_CHUNK_OLD", chunk)
    show("VECTOR_CHUNK_OLD_ID", hashlib.sha256(chunk).digest())
    digest = hashlib.sha256(plain).digest()
    h2 = hashlib.sha256(b"bazil.plain.v2\0\0" + digest).digest()
    key = blake(32, b"\1" + h2, ck)
    header = b"BZO1\2\1\1\0"
    iv = blake(16, hashlib.sha256(header + payload[:12] + digest).digest(), key, person=b"bazil.chunk.siv")
    chunk_key = blake(32, iv, key, person=b"bazil.chunk.key")
    chunk2 = header + iv + chachapoly(chunk_key, bytes(12), header + iv, payload)
    show("VECTOR_CHUNK_H", h2)
    show("VECTOR_CHUNK_KEY", key)
    show("VECTOR_CHUNK_TAG", blake(32, b"\1" + h2, tag))
    show("VECTOR_CHUNK_SIV", iv)
    show("VECTOR_CHUNK_ID", hashlib.sha256(chunk2).digest())

    node = b"BZM1\1\0" + struct.pack("<H", 1) + struct.pack("<QII", 1000, 0, 1000)
    node += hashlib.sha256(chunk).digest() + h + bytes(8)
    header = b"BZO1\1\1\2\0"
    payload = struct.pack("<I", len(node)) + node
    payload += bytes(padme(len(payload)) - len(payload))
    nonce = blake(24, header + volume + payload, siv, person=b"bazil.manifest1")
    manifest = header + nonce + xchachapoly(seal, nonce, header + volume, payload)
    show("VECTOR_NODE", node)
    show("VECTOR_MANIFEST_OLD", manifest)
    header = b"BZO1\2\1\2\0" + struct.pack("<HHI", 1, 0, 0) + hashlib.sha256(chunk).digest()
    sparse = b"BZM1\2\0" + struct.pack("<H", 1) + struct.pack("<QIII", 1000, 0, 1000, 1) + h
    payload = struct.pack("<I", len(sparse)) + sparse
    payload += bytes(padme(len(payload)) - len(payload))
    nonce = blake(24, header + volume + payload, siv, person=b"bazil.manifest2")
    manifest = header + nonce + xchachapoly(seal, nonce, header + volume, payload)
    show("VECTOR_MANIFEST_ID", hashlib.sha256(manifest).digest())

    aad, plain = b"where it belongs", b"what it says"
    nonce = blake(24, struct.pack("<Q", len(aad)) + aad + plain, siv, person=b"bazil.record.v1")
    show("VECTOR_RECORD", nonce + xchachapoly(seal, nonce, aad, plain))
    show("VECTOR_NAME_TAG", blake(16, struct.pack("<Q", 258) + b"name", name, person=b"bazil.name.v1"))
    show("VECTOR_XATTR_TAG", blake(16, struct.pack("<Q", 258) + b"name", name, person=b"bazil.xattr.v1"))
    show("VECTOR_VALUE_TAG", blake(16, b"value", value))


main()
