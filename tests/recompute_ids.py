#!/usr/bin/env python3
"""Recomputes profile ids without nimctl: a second implementation of docs/profile-id.md, in Python's standard library.

    python3 tests/recompute_ids.py manifests/nvclip-demo/model_manifest.yaml
    python3 tests/recompute_ids.py manifests/nvclip-demo/model_manifest.yaml --store ~/.local/share/nimctl/store
    python3 tests/recompute_ids.py --vectors

Without a store it checks that every id follows from its tags. With one it also checks that every `contents.json` has
the digest that the tag `content` says, is canonical, agrees with the tags and the manifest, and that the bytes of every
file have the digests that are written of them. Exit status: 0 all match, 1 something doesn't, 2 usage.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from array import array

# ---------------------------------------------------------------------------------------------------------- BLAKE3
# Written from the specification (sections 2.1 to 2.5). Many chunks are compressed at once: each of the 16 state words
# is one large integer that holds the word of every chunk, 64 bits apart, so that sums have room and never meet.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_AND_DIAGONALS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
CHUNK_BYTES, BLOCK_BYTES, CHUNKS_AT_ONCE = 1024, 64, 1024


def compress(chaining, message, lanes, counter, length, flags):
    ones = ((1 << 64 * lanes) - 1) // (2**64 - 1)
    mask = ones * 0xFFFFFFFF
    v = [*chaining, *(word * ones for word in IV[:4]),
         counter & mask, counter >> 32 & mask, length * ones, flags * ones]
    for _ in range(7):
        for step, (a, b, c, d) in enumerate(COLUMNS_AND_DIAGONALS):
            for word, turn_d, turn_b in ((message[2 * step], 16, 12), (message[2 * step + 1], 8, 7)):
                v[a] = v[a] + v[b] + word & mask
                x = v[d] ^ v[a]
                v[d] = (x >> turn_d | x << 32 - turn_d) & mask
                v[c] = v[c] + v[d] & mask
                x = v[b] ^ v[c]
                v[b] = (x >> turn_b | x << 32 - turn_b) & mask
        message = [message[index] for index in PERMUTATION]
    return [v[word] ^ v[word + 8] for word in range(8)]


def to_lanes(words):
    return int.from_bytes(array("Q", words).tobytes(), "little")


def from_lanes(values, lanes):
    return [array("Q", value.to_bytes(8 * lanes, "little")) for value in values]


def hash_chunks(data, first, root):
    """Returns the chaining values of `data`: whole chunks, or one chunk that may be short."""
    lanes = max(1, len(data) // CHUNK_BYTES)
    counter = to_lanes(range(first, first + lanes))
    chaining = [to_lanes([word] * lanes) for word in IV]
    size = len(data) // lanes
    words = array("I", data + bytes(-len(data) % BLOCK_BYTES or (BLOCK_BYTES if not data else 0)))
    blocks = max(1, -(-size // BLOCK_BYTES))
    for block in range(blocks):
        flags = (CHUNK_START if block == 0 else 0) | ((CHUNK_END | root) if block == blocks - 1 else 0)
        message = [to_lanes(words[block * 16 + word::blocks * 16]) for word in range(16)]
        length = min(BLOCK_BYTES, size - block * BLOCK_BYTES)
        chaining = compress(chaining, message, lanes, counter, length, flags)
    return from_lanes(chaining, lanes)


def blake3(data):
    """Returns the 64 hex digits of the BLAKE3 hash of some bytes."""
    last = max(0, (len(data) - 1) // CHUNK_BYTES)  # the last chunk may be short, and goes alone
    level = [array("Q") for _ in range(8)]
    for first in range(0, last, CHUNKS_AT_ONCE):
        end = min(last, first + CHUNKS_AT_ONCE)
        for words, more in zip(level, hash_chunks(data[first * CHUNK_BYTES:end * CHUNK_BYTES], first, 0)):
            words.extend(more)
    for words, more in zip(level, hash_chunks(data[last * CHUNK_BYTES:], last, 0 if last else ROOT)):
        words.extend(more)
    while (count := len(level[0])) > 1:
        pairs = count // 2
        message = [to_lanes(words[side:2 * pairs:2]) for side in (0, 1) for words in level]
        flags = PARENT | (ROOT if count == 2 else 0)
        chaining = [to_lanes([word] * pairs) for word in IV]
        parents = from_lanes(compress(chaining, message, pairs, 0, BLOCK_BYTES, flags), pairs)
        level = [new + old[2 * pairs:] for new, old in zip(parents, level)]  # an odd one goes up as it is
    return b"".join(words[0].to_bytes(4, "little") for words in level).hex()


# ------------------------------------------------------------------------------------------------------------ YAML
# Exactly what nimctl writes: block maps and lists, plain and double-quoted strings, `[]` and `{}`. All else is refused.

LINE = re.compile(r"( *)(- )?(?:(\"(?:[^\"\\]|\\.)*\"|[^\s\"'\[\]{}#&*!|>%@`,:-][^\s:#]*): ?)?(.*)")
PLAIN = re.compile(r"[A-Za-z0-9./^][A-Za-z0-9._/:@?=+()\[\]^$-]*")
NOT_A_STRING = re.compile(r"(?i)null|true|false|[-+]?(\.\d+|\d+(\.\d*)?)(e[-+]?\d+)?|0[xo][\da-f]+|[-+]?\.(inf|nan)")


class Refused(Exception):
    """Input that is not what it should be."""


def parse_manifest(text):
    """Returns the maps, lists and strings of a manifest that nimctl wrote."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        indent, dash, key, value = LINE.fullmatch(line).groups()
        lines.append([number, len(indent), bool(dash), key and scalar(key, number), value])
    value, rest = block(lines, 0, lines[0][1] if lines else 0)
    if rest != len(lines):
        raise Refused(f"line {lines[rest][0]}: unexpected indentation")
    return value


def block(lines, at, indent):
    if at == len(lines):
        raise Refused("the file ends too early")
    if lines[at][2]:
        items = []
        while at < len(lines) and lines[at][1] == indent and lines[at][2]:
            if lines[at][3] is None:
                items.append(scalar(lines[at][4], lines[at][0]))
                at += 1
            else:  # `- key: value` is a map that starts two columns to the right
                lines[at][1:3] = [indent + 2, False]
                item, at = block(lines, at, indent + 2)
                items.append(item)
        return items, at
    members = {}
    while at < len(lines) and lines[at][1] == indent and not lines[at][2]:
        number, _, _, key, text = lines[at]
        at += 1
        if key is None or key in members:
            raise Refused(f"line {number}: expected a new `key: value`")
        if text:
            members[key] = scalar(text, number)
        else:
            deeper = at < len(lines) and (lines[at][1] > indent or (lines[at][1] == indent and lines[at][2]))
            if not deeper:
                raise Refused(f"line {number}: `{key}` has no value")
            members[key], at = block(lines, at, lines[at][1])
    return members, at


def scalar(text, number):
    if text in ("[]", "{}"):
        return json.loads(text)
    if text.startswith('"'):
        try:
            return json.loads(text)
        except ValueError as error:
            raise Refused(f"line {number}: {error}") from error
    if not PLAIN.fullmatch(text) or NOT_A_STRING.fullmatch(text):
        raise Refused(f"line {number}: `{text}` is no string that nimctl writes")
    return text


# -------------------------------------------------------------------------------------------------------- the rules


def profile_id(tags):
    """NIM's rule."""
    for key, value in tags.items():
        if not key or set(":|") & set(key) or "|" in value:
            raise Refused(f"tag `{key}: {value}` has a separator in it")
    return blake3("|".join(f"{key}:{tags[key]}" for key in sorted(tags)).encode())


def canonical(value):
    """RFC 8785 for the values we use: members in UTF-16 order, integers of at most 53 bits, no floats."""
    if isinstance(value, dict):
        value = {key: canonical(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
        return "{" + ",".join(json.dumps(key, ensure_ascii=False) + ":" + text for key, text in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 2**53):
        raise Refused(f"{value} has no canonical form")
    return json.dumps(value, ensure_ascii=False)


def tags_of(contents, content):
    """The tags that follow from `contents.json`, whose SHA-256 is `content`."""
    backend, target = contents["backend"], contents["target"]
    tensorrt = backend in ("tensorrt", "tensorrt-rtx")
    tags = contents.get("gpu_tags", {}) | {
        "backend": "onnx" if backend == "onnxruntime" else backend,
        "content": content,
        "model_type": "tensorrt" if tensorrt else "onnx" if backend == "onnxruntime" else backend,
        "precision": contents["precision"],
    }
    if "gpu" in target:
        tags["gpu"] = target["gpu"]["name"]
    elif "compute_capabilities" in target:
        tags["compute_capability"] = "+".join(target["compute_capabilities"])
    ranges = [shape["max"][0] for inputs in contents["shape_ranges"].values() for shape in inputs.values() if shape["max"]]
    if ranges:
        tags["batch_size"] = str(max(ranges))
    if tensorrt and backend in contents["toolchain"]:
        tags["trt_version"] = contents["toolchain"][backend]["version"]
    return tags


def read_contents(text, content):
    """Parses a `contents.json` after checking its digest and form."""
    if hashlib.sha256(text).hexdigest() != content:
        raise Refused(f"contents.json is not the document that the tag `content` ({content}) names")
    contents = json.loads(text)
    if canonical(contents).encode() != text:
        raise Refused("contents.json is not canonical JSON")
    if contents["schema"] not in ("nimctl.contents/1", "nimctl.contents/2"):
        raise Refused(f"contents.json has the schema {contents['schema']}")
    return contents


class Store:
    """A store's blobs; each is read and hashed once."""

    def __init__(self, folder):
        self.folder, self.known, self.read_bytes = folder, {}, 0

    def check(self, sha256, checksum):
        """Checks a blob's two digests, and returns its size."""
        if sha256 not in self.known:
            data = self.read(sha256)
            self.read_bytes += len(data)
            self.known[sha256] = (hashlib.sha256(data).hexdigest(), "blake3:" + blake3(data), len(data))
        found_sha256, found_blake3, size = self.known[sha256]
        if found_sha256 != sha256:
            raise Refused(f"blob {sha256} has the digest {found_sha256}")
        if found_blake3 != checksum:
            raise Refused(f"blob {sha256} has {found_blake3}, but the manifest says {checksum}")
        return size

    def read(self, sha256):
        try:
            with open(os.path.join(self.folder, "blobs", "sha256", sha256), "rb") as file:
                return file.read()
        except OSError as error:
            raise Refused(f"blob {sha256}: {error.strerror}") from error


def check_profile(profile, store):
    tags, files = profile["tags"], profile["workspace"]["files"]
    if (found := profile_id(tags)) != profile["id"]:
        raise Refused(f"its tags give {found}")
    if not store:
        return
    contents = read_contents(store.read(tags["content"]), tags["content"])
    if tags_of(contents, tags["content"]) != tags:
        raise Refused(f"contents.json gives the tags {tags_of(contents, tags['content'])}")
    listed = {file["path"]: (file["sha256"], file["size_bytes"]) for file in contents["files"]}
    if list(listed) != sorted(listed) or set(files) != set(listed) | {"contents.json"}:
        raise Refused("contents.json does not list the manifest's files, sorted by path")
    for path, file in files.items():
        expected, size = listed.get(path, ("sha256:" + tags["content"], None))
        if file["uri"] != "store:" + expected:
            raise Refused(f"{path}: the uri is {file['uri']}, but contents.json says {expected}")
        found = store.check(expected.removeprefix("sha256:"), file["checksum"])
        if size not in (None, found):
            raise Refused(f"{path}: {found} bytes, but contents.json says {size}")


def check_manifest(path, store):
    """Returns how many profiles were checked, and prints what doesn't match."""
    with open(path, encoding="utf-8") as file:
        manifest = parse_manifest(file.read())
    if manifest.get("schema_version") != "2.0":
        raise Refused(f"{path}: schema_version is not \"2.0\"")
    good, seen = 0, set()
    for profile in manifest["profiles"]:
        try:
            check_profile(profile, store)
            others = canonical({key: value for key, value in profile["tags"].items() if key != "content"})
            if others in seen:
                raise Refused("another profile has the same tags")
            seen.add(others)
            good += 1
        except (Refused, KeyError, TypeError) as error:
            print(f"profile {profile.get('id')}: {error if isinstance(error, Refused) else f'no {error}'}")
    return good, len(manifest["profiles"])


def check_vectors(path):
    """Runs the blocks `jsonl vectors` and `json contents.json` of the specification."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    blocks = re.findall(r"^```(jsonl vectors|json contents\.json)\n(.*?)\n```$", text, re.M | re.S)
    vectors = [json.loads(line) for kind, body in blocks if kind == "jsonl vectors" for line in body.split("\n")]
    documents = {hashlib.sha256(body.encode()).hexdigest(): body.encode() for kind, body in blocks if kind != "jsonl vectors"}
    good = 0
    for vector in vectors:
        tags = vector["tags"]
        try:
            if (found := profile_id(tags)) != vector["id"]:
                raise Refused(f"its tags give {found}")
            if "content" in tags:
                if tags["content"] not in documents:
                    raise Refused("no contents.json in the document has the digest of its tag `content`")
                if tags_of(read_contents(documents[tags["content"]], tags["content"]), tags["content"]) != tags:
                    raise Refused("its contents.json gives other tags")
            good += 1
        except Refused as error:
            print(f"vector {vector['id']}: {error}")
    return good, len(vectors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", nargs="*", help="a model_manifest.yaml that nimctl wrote")
    parser.add_argument("--store", help="also check every file in this store")
    parser.add_argument("--vectors", action="store_true", help="run the test vectors of docs/profile-id.md")
    arguments = parser.parse_args()
    if not arguments.manifest and not arguments.vectors:
        parser.error("name a manifest, or give --vectors")
    if sys.byteorder != "little":
        sys.exit("this script needs a little-endian machine")
    store = Store(arguments.store) if arguments.store else None
    specification = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "profile-id.md")
    checks = [(check_vectors, specification)] if arguments.vectors else []
    checks += [(lambda path: check_manifest(path, store), path) for path in arguments.manifest]
    good = total = 0
    try:
        for check, path in checks:
            matching, all_of_them = check(path)
            good, total = good + matching, total + all_of_them
    except (Refused, OSError) as error:
        sys.exit(f"{path}: {error}")
    if store:
        print(f"{len(store.known)} files, {store.read_bytes} bytes: SHA-256 and BLAKE3 of all were computed")
    print(f"{good} ids match" + (f", {total - good} do not" if good < total else ""))
    return 0 if 0 < total == good else 1


if __name__ == "__main__":
    sys.exit(main())
