"""The files of strangers that thorns must refuse, made from scratch: what is wrong with each, and the
command that is given them. README.md has the same list with the errors, word for word."""

import json
import struct

import files as f
from files import Record, entry

MERGE = ["merge", "{A+B}", "-m", "A=it", "-m", "B=../../good", "-o", "out"]
FOLD = ["merge", "A[L]", "-m", "A=../../good", "-a", "L=it", "-o", "out"]
GOOD = f.tensors(("embed.weight", "F32", [2, 4]), ("norm.weight", "F32", [4]))

CASES = []


class Case:
    """`files`: path -> bytes, or the text that a symbolic link has for its target as a Link."""

    def __init__(self, name, wrong, files, command=None, stdin=b""):
        self.name = name
        self.wrong = wrong
        self.files = files
        self.command = command or MERGE
        self.stdin = stdin
        CASES.append(self)


class Link(str):
    pass


def as_bytes(content):
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    return content.encode() if isinstance(content, str) else content


# ---------------------------------------------------------------- safetensors


def header(name, wrong, content, data=b"", length=None):
    case = "it.safetensors"
    command = ["merge", "{A+B}", "-m", "A=it.safetensors", "-m", "B=../../good", "-o", "out"]
    if not isinstance(content, bytes):
        content = f.safetensors(content, data, length)
    Case("safetensors/" + name, wrong, {case: content}, command)


TWO = {"a": entry(), "b": entry(offsets=(8, 16))}
header("empty", "no bytes at all", b"")
header("seven-bytes", "shorter than the length of its header", bytes(7))
header("no-header", "a header of no bytes", "")
header("huge-header", "a header of 2^63 bytes", "{}", length=2**63)
header("large-header", "a header just beyond the limit", "{}", length=100_000_001)
header("cut-header", "a header longer than the file", "{}", length=3)
header("cut-data", "eight bytes of data announced, seven there", {"a": entry()}, bytes(7))
header("trailing-data", "a byte behind the last tensor", {"a": entry()}, bytes(9))
header("trailing-text", "text behind the header's object", '{"a":1} x')
header("unfinished", "the header ends within a text", '{"a')
header("two-objects", "two objects in a row", "{}{}")
header("list", "a list for an object", "[]")
header("number", "a number for an object", "7")
header("byte-order-mark", "a byte order mark before the header", b"\x0a\0\0\0\0\0\0\0\xef\xbb\xbf{}     ")
header("nul-padding", "NUL for blanks behind the header", "{}\0\0\0\0\0\0")
header("not-utf8", "a name that is not UTF-8", b"\x07\0\0\0\0\0\0\0" + b'{"\xff":1}'[:7])
header("lone-surrogate", "half of a surrogate pair in a name", '{"\\ud800":{}}')
header("name-twice", "one name for two tensors", '{"a":%s,"a":%s}' % (json.dumps(entry()),
       json.dumps(entry(offsets=(8, 16)))), bytes(16))
header("metadata-twice", "`__metadata__` twice", '{"__metadata__":{},"__metadata__":{}}')
header("metadata-list", "`__metadata__` is a list", {"__metadata__": []})
header("metadata-number", "a number in `__metadata__`", {"__metadata__": {"a": 1}})
header("metadata-name-twice", "a name twice in `__metadata__`", '{"__metadata__":{"a":"","a":""}}')
header("tensor-null", "null for a tensor", {"a": None})
header("tensor-list", "a list for a tensor", {"a": []})
header("no-dtype", "no type", {"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8))
header("no-shape", "no shape", {"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8))
header("no-offsets", "no offsets", {"a": {"dtype": "F32", "shape": [2]}}, bytes(8))
header("dtype-twice", "two types", '{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}}')
header("unknown-dtype", "a type that does not exist", {"a": entry("F31")}, bytes(8))
header("dtype-number", "a number for a type", {"a": entry(32)}, bytes(8))
header("complex", "complex numbers", {"a": entry("C64", offsets=(0, 16))}, bytes(16))
header("half-byte", "three elements of four bits", {"a": entry("F4", [3], (0, 2))}, bytes(2))
header("negative-dimension", "a dimension of -1", {"a": entry(shape=[-1])}, bytes(8))
header("fractional-dimension", "a dimension of 1.5", {"a": entry(shape=[1.5])}, bytes(8))
header("dimension-of-2-64", "a dimension of 2^64", {"a": entry(shape=[2**64])}, bytes(8))
header("overflow", "dimensions whose product is 2^64", {"a": entry(shape=[2**32, 2**32])}, bytes(8))
header("bytes-overflow", "2^62 elements of four bytes", {"a": entry(shape=[2**62])}, bytes(8))
header("many-dimensions", "17 dimensions", {"a": entry(shape=[1] * 17, offsets=(0, 4))}, bytes(4))
header("one-offset", "one offset for two", {"a": entry(offsets=[0])}, bytes(8))
header("three-offsets", "three offsets for two", {"a": entry(offsets=[0, 8, 8])}, bytes(8))
header("shape-object", "an object for a shape", {"a": {**entry(), "shape": {}}}, bytes(8))
header("backwards", "ends before it begins", {"a": entry(offsets=(8, 0))}, bytes(8))
header("hole", "bytes that belong to no tensor", {"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20))
header("overlap", "two tensors share bytes", {"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12))
header("shared", "two names for one range", {"a": entry(), "b": entry()}, bytes(8))
header("other-size", "offsets that do not fit the shape", {"a": entry(offsets=(0, 12))}, bytes(12))
header("last-offset", "an end at 2^64 - 1", {"a": entry(offsets=(0, 2**64 - 1))}, bytes(8))
header("deep", "an unknown field 1000 deep", '{"a":{"x":' + "[" * 1000)
header("pointer", "a Git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
header("web-page", "an error page under the name of weights", b"<!DOCTYPE html><html><body>404</body></html>")

# ---------------------------------------------------------------- folders of models


def folder(name, wrong, more, command=None, weights=True):
    content = {"it/config.json": b'{"model_type": "llama"}'}
    if weights:
        content["it/model.safetensors"] = GOOD
    content.update({"it/" + path: as_bytes(data) if not isinstance(data, Link) else data
                    for path, data in more.items()})
    Case(name, wrong, content, command)


def config(name, wrong, content):
    folder("config/" + name, wrong, {"config.json": content})


config("empty", "no bytes", b"")
config("not-json", "no JSON", b"model_type: llama")
config("unfinished", "ends within", b'{"model_type": "lla')
config("list", "a list for an object", b"[]")
config("deep", "a million brackets", b"[" * 1_000_000)
config("nul", "a NUL and something behind it", b'{}\0{"model_type": "x"}')
config("name-twice", "a field that stands twice", b'{"model_type":"llama","model_type":"gpt2"}')
config("not-utf8", "a text that is not UTF-8", b'{"model_type":"\xff"}')
config("huge-number", "a number beyond all types", b'{"hidden_size":1e999}')
config("huge", "five megabytes of blanks", b" " * 5_000_000)
config("pointer", "a Git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
Case("config/folder", "a folder of that name",
     {"it/config.json/x": b"", "it/model.safetensors": GOOD})
folder("config/generation-pointer", "generation_config.json is a Git-LFS pointer",
       {"generation_config.json": b"version https://git-lfs.github.com/spec/v1\n"})
folder("config/tokenizer-pointer", "tokenizer.json is a Git-LFS pointer",
       {"tokenizer.json": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"})

SHARD = "model-0000%d-of-00002.safetensors"
SHARDS = {
    SHARD % 1: f.tensors(("embed.weight", "F32", [2, 4])),
    SHARD % 2: f.tensors(("norm.weight", "F32", [4])),
}
SOUND = {"embed.weight": SHARD % 1, "norm.weight": SHARD % 2}


def index(name, wrong, content, shards=None):
    if isinstance(content, dict):
        content = {"metadata": {}, "weight_map": content}
    more = {"model.safetensors.index.json": content}
    more.update(SHARDS if shards is None else shards)
    folder("index/" + name, wrong, more, weights=False)


index("passwd", "a shard `../../etc/passwd`", {**SOUND, "x": "../../etc/passwd"})
index("absolute", "a shard `/etc/passwd`", {**SOUND, "x": "/etc/passwd"})
index("backslash", "a shard `..\\secret`", {**SOUND, "x": "..\\secret.safetensors"})
index("parent", "a shard `..`", {**SOUND, "x": ".."})
index("itself", "a shard `.`", {**SOUND, "x": "."})
index("no-name", "a shard without a name", {**SOUND, "x": ""})
index("nul-name", "a shard with a NUL in its name", {**SOUND, "x": "a\0b"})
index("number", "a number for a shard", {**SOUND, "x": 1})
index("nested", "an object for a shard", {**SOUND, "x": {"y": "z"}})
index("empty", "names no tensor", {})
index("no-map", "no `weight_map`", b'{"metadata": {}}')
index("map-list", "`weight_map` is a list", b'{"weight_map": ["a"]}')
index("map-twice", "two `weight_map`s", b'{"weight_map":{"a":"b"},"weight_map":{"a":"b"}}')
index("twice", "a tensor in two shards", b'{"weight_map":{"a":"x","a":"y"}}')
index("not-json", "no JSON", b"weights")
index("deep", "a thousand brackets", b'{"x":' + b"[" * 1000)
index("pointer", "a Git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\n")
index("missing-shard", "a shard that is not there", SOUND, {SHARD % 1: SHARDS[SHARD % 1]})
index("absent", "a tensor that no shard holds", {**SOUND, "x": SHARD % 1})
index("unlisted", "a shard holds a tensor that it does not name", {"norm.weight": SHARD % 2,
      "x": SHARD % 1})
index("elsewhere", "tensors in each other's shards",
      {"embed.weight": SHARD % 2, "norm.weight": SHARD % 1})
index("in-both", "a tensor that both shards hold", SOUND,
      {SHARD % 1: SHARDS[SHARD % 1], SHARD % 2: GOOD})

# ---------------------------------------------------------------- links


def link(name, wrong, more, command=None, weights=True):
    folder("link/" + name, wrong, more, command, weights)


link("weights", "the weights are a link to a file outside", {"model.safetensors": Link("../secret")},
     weights=False)
link("config", "config.json is a link to a file outside", {"config.json": Link("../secret")})
link("tokenizer", "tokenizer.json is a link to a file outside, and would be copied to the result",
     {"tokenizer.json": Link("../secret")})
link("generation", "generation_config.json is a link to a file outside",
     {"generation_config.json": Link("/etc/passwd")})
link("shard", "a shard is a link to a file outside",
     {"model.safetensors.index.json": {"weight_map": SOUND}, SHARD % 1: SHARDS[SHARD % 1],
      SHARD % 2: Link("../secret")}, weights=False)
link("templates", "the folder of chat templates is a link to a folder outside",
     {"additional_chat_templates": Link("../elsewhere")})
link("template", "a chat template is a link to a file outside",
     {"additional_chat_templates/x.jinja": Link("../../secret")})
link("quantisation", "hf_quant_config.json is a link to a file outside",
     {"hf_quant_config.json": Link("../secret")})
link("loop", "config.json is a link to itself", {"config.json": Link("config.json")})
link("nowhere", "the weights are a link to nothing", {"model.safetensors": Link("gone")},
     weights=False)
Case("link/hub", "in a snapshot of the Hub's cache, a link that leads beside `blobs`",
     {"models--x--y/snapshots/c0/config.json": b"{}",
      "models--x--y/snapshots/c0/model.safetensors": Link("../../../secret")},
     ["merge", "A", "-m", "A=models--x--y/snapshots/c0", "-o", "out"])
Case("link/adapter", "an adapter's weights are a link to a file outside",
     {"it/adapter_config.json": b'{"peft_type": "LORA"}',
      "it/adapter_model.safetensors": Link("../secret")}, FOLD)
Case("link/adapter-config", "adapter_config.json is a link to a file outside",
     {"it/adapter_config.json": Link("../secret"), "it/adapter_model.safetensors": GOOD}, FOLD)
for case in CASES:
    if case.name.startswith("link/"):
        case.files["secret"] = GOOD
        case.files["elsewhere/x.jinja"] = b"secret"

# ---------------------------------------------------------------- pickles


def torch(name, wrong, content):
    command = ["merge", "{A+B}", "-m", "A=it.bin", "-m", "B=../../good", "-o", "out"]
    Case(name, wrong, {"it.bin": content}, command)


def pickled(name, wrong, body, storages=(bytes(16),), whole=False):
    torch("pickle/" + name, wrong, f.checkpoint(body if whole else f.pickle(body), storages))


def held(name, wrong, value, storages=(bytes(16),)):
    pickled(name, wrong, f.mapping(w=value), storages)


SYSTEM = f.name("os", "system")
pickled("os-system", "calls os.system", SYSTEM + f.tup(f.text("touch pwned")) + b"R")
pickled("posix-system", "calls posix.system by STACK_GLOBAL",
        f.text("posix") + f.text("system") + b"\x93" + f.tup(f.text("touch pwned")) + b"R")
pickled("eval", "calls eval", f.call("__builtin__", "eval", f.text("1")))
pickled("getattr", "takes a name from builtins", f.name("builtins", "getattr"))
pickled("subclass", "a module below one that is known", f.name("torch._utils.evil", "_rebuild_tensor_v2"))
pickled("dotted", "a dotted name", f.name("torch", "_utils.os.system"))
pickled("before-the-end", "calls os.system, then breaks off", b"\x80\x02" + SYSTEM + b")R", whole=True)
pickled("inst", "INST, which calls at once", b"(ios\nsystem\n")
pickled("obj", "OBJ, which calls at once", b"(" + f.text("x") + b"o")
pickled("ext", "an extension code", b"\x82\x01")
pickled("persid", "an outside reference as text", b"Pdata\n")
pickled("newobj-ex", "NEWOBJ_EX", f.HOOKS + b")}\x92")
pickled("bytearray", "BYTEARRAY8", b"\x96" + bytes(8))
pickled("buffer", "a buffer out of band", b"\x97")
pickled("call-tuple", "calls a tuple", b"))R")
pickled("call-name", "calls a storage type", f.name("torch", "FloatStorage") + b")R")
pickled("call-text", "calls with a text for arguments",
        f.name("collections", "OrderedDict") + f.text("x") + b"R")
pickled("arguments", "three arguments for six",
        f.call("torch._utils", "_rebuild_tensor_v2", f.NONE, f.NONE, f.NONE))
pickled("protocol-0", "pickle protocol 0", b"(lp0\n.", whole=True)
pickled("protocol-9", "pickle protocol 9", f.pickle(b"}", 9), whole=True)
pickled("protocol-twice", "a second protocol within", b"\x80\x02}")
pickled("no-end", "no end mark", b"\x80\x02}", whole=True)
pickled("behind-the-end", "bytes behind the end mark", f.one_tensor() + b"x", whole=True)
pickled("left-over", "two values at the end", b"}}")
pickled("nothing", "no value at the end", b"")
pickled("underflow", "a tuple of three values that are not there", b"N\x87")
pickled("below-the-mark", "takes a value from under an open mark", b"}(\x85")
pickled("no-mark", "closes a mark that is not open", b"}t")
pickled("deep-200", "tuples nested 200 deep", b"N" + b"\x85" * 200)
pickled("marks-300", "300 open marks", b"(" * 300)
pickled("memo", "a value that was never remembered", b"h\x07")
pickled("memo-2-31", "a value remembered as number 2^31", b"}r\0\0\0\x80")
pickled("aliases", "pairs of pairs of pairs, 2^60 values when unfolded",
        b"]q\0" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60)))
pickled("own-wrapper", "a dict that is its own `state_dict`", b"}q\0" + f.text("state_dict") + b"h\0s")
pickled("items-of-list", "items put into a list as if it were a dict", b"]" + f.text("a") + b"Ns")
pickled("append-to-dict", "a value appended to a dict", b"}Na")
pickled("odd-items", "a key without a value", b"}(" + f.text("a") + b"u")
pickled("build-tuple", "attributes for a tuple", b")}b")
pickled("long-text", "a text of four gigabytes", b"X\xff\xff\xff\xff")
pickled("longer-text", "a text of 2^63 bytes", b"\x8d" + struct.pack("<Q", 2**63))
pickled("frame", "a frame longer than the pickle", b"\x95" + struct.pack("<Q", 2**40) + b"}")
pickled("long-name", "a name of 300 bytes", b"c" + b"a" * 300 + b"\nb\n")
pickled("list", "a list for a dict", b"]")
pickled("one-tensor", "a tensor for a dict", f.tensor())
pickled("empty", "no tensors", b"}")
pickled("number-key", "a number for a tensor's name", b"}K\1" + f.tensor() + b"s")
pickled("name-twice", "one name for two tensors",
        b"}(" + (f.text("w") + f.tensor()) * 2 + b"u")
pickled("name-not-utf8", "a tensor's name that is not UTF-8", b"}" + f.text(b"\xff") + f.tensor() + b"s")
pickled("module", "a whole module", f.name("torch.nn.modules.linear", "Linear"))
held("sparse", "a sparse tensor", f.name("torch._utils", "_rebuild_sparse_tensor"))
held("quantised", "a quantised tensor", f.name("torch._utils", "_rebuild_qtensor"))
held("meta", "a tensor without numbers", f.name("torch._utils", "_rebuild_meta_tensor_no_storage"))
held("quantised-storage", "a storage of quantised numbers", f.tensor(f.storage("QInt8Storage", count=16)))
held("complex", "complex numbers", f.tensor(f.storage("ComplexFloatStorage", count=2), 0, (2,), (1,)))
held("conjugate", "a view that conjugates", f.tensor(more=(f.mapping(conj=f.YES),)))
held("storage-2-62", "a storage of 2^62 elements", f.tensor(f.storage(count=2**62)))
held("storage-2-63", "a storage of 2^63 elements", f.tensor(f.storage(count=2**63)))
held("storage-negative", "a storage of -4 elements", f.tensor(f.storage(count=-4)))
held("storage-short", "a storage of 8 elements in 16 bytes", f.tensor(f.storage(count=8)))
held("storage-missing", "a storage that is not there", f.tensor(f.storage(key="1")))
held("storage-path", "a storage called `../../etc/passwd`", f.tensor(f.storage(key="../../etc/passwd")))
held("storage-tuple", "a text for a reference to a storage", f.tensor(f.text("0") + b"Q"))
held("module-reference", "a reference to a module's source", f.tensor(f.tup(f.text("module")) + b"Q"))
pickled("two-types", "one storage of two types",
        f.mapping(a=f.tensor(), b=f.tensor(f.storage("HalfStorage", count=8))))
held("beyond", "a tensor beyond its storage", f.tensor(size=(2, 3), strides=(3, 1)))
held("offset-beyond", "a tensor that begins beyond its storage", f.tensor(offset=4))
held("stride-beyond", "a stride of 2^62", f.tensor(strides=(2**62, 1)))
held("size-negative", "a dimension of -2", f.tensor(size=(-2, 2)))
held("stride-negative", "a stride of -1", f.tensor(strides=(2, -1)))
held("offset-negative", "an offset of -1", f.tensor(offset=-1))
held("size-overflow", "2^64 elements", f.tensor(size=(2**32, 2**32), strides=(0, 0)))
held("expanded", "2^40 elements out of one (stride 0)", f.tensor(size=(2**40,), strides=(0,)))
held("strides-missing", "two dimensions, one stride", f.tensor(strides=(1,)))
held("many-dimensions", "17 dimensions", f.tensor(size=(1,) * 17, strides=(1,) * 17))
held("hooks", "hooks that run on loading", f.call("torch._utils", "_rebuild_tensor_v2", f.storage(),
     f.integer(0), f.integers(4), f.integers(1), f.NO, f.text("x")))

# ---------------------------------------------------------------- zip archives

PICKLE = Record("m/data.pkl", f.one_tensor())
DATA = Record("m/data/0", bytes(16))


def archive(name, wrong, records, **lies):
    content = records if isinstance(records, bytes) else f.zipped(records, **lies)
    torch("zip/" + name, wrong, content)


archive("no-directory", "a local header and nothing more", b"PK\3\4" + bytes(60))
archive("cut", "cut short by ten bytes", f.checkpoint()[:-10])
archive("cut-in-the-middle", "cut short by half", f.checkpoint()[:200])
archive("trailing", "a kilobyte of other bytes behind the archive", f.checkpoint() + b"x" * 1000)
archive("other-local-name", "the directory says `data.pkl`, the record itself `evil.pkl`",
        [Record("m/data.pkl", f.one_tensor(), local="m/evil.pkl"), DATA])
archive("longer-local-name", "the record's own name is longer than the directory's",
        [Record("m/data.pkl", f.one_tensor(), local="m/data.pkl2"), DATA])
archive("encrypted", "a record said to be encrypted", [PICKLE, Record("m/data/0", bytes(16), flags=1)])
archive("encrypted-local", "encrypted by its own header only",
        [PICKLE, Record("m/data/0", bytes(16), local_flags=1)])
archive("deflated", "a compressed record", [PICKLE, Record("m/data/0", bytes(16), method=8)])
archive("deflated-local", "compressed by its own header only",
        [PICKLE, Record("m/data/0", bytes(16), local_method=8)])
archive("packed-size", "stored in fewer bytes than it has",
        [PICKLE, Record("m/data/0", bytes(16), packed=8)])
archive("twice", "two records of one name", [PICKLE, DATA, DATA])
INNER = b"PK\3\4" + struct.pack("<HHHHHIIIHH", 0, 0x0800, 0, 0, 0, 0, 0, 0, 8, 0) + b"m/data/0"
BEFORE = 30 + len("m/data.pkl") + len(f.one_tensor()) + 30 + len("m/x")
archive("overlap", "a record that lies within another one",
        [PICKLE, Record("m/x", INNER + bytes(16)), Record("m/data/0", bytes(16), header=BEFORE)])
archive("same-place", "two records in one place", [PICKLE, DATA, Record("m/data.pkl2", b"", header=0)])
archive("climbing", "a record called `m/../../x`", [PICKLE, Record("m/../../x", b"1")])
archive("absolute", "a record called `/etc/passwd`", [PICKLE, Record("/etc/passwd", b"1")])
archive("backslash", "a record called `m\\..\\x`", [PICKLE, Record("m\\..\\x", b"1")])
archive("nul", "a NUL in a record's name", [PICKLE, Record("m/x\0y", b"1")])
archive("no-name", "a record without a name", [PICKLE, Record("", b"1")])
archive("volumes", "the second of several volumes", [PICKLE, DATA], disk=1)
archive("entry-on-disk-2", "a record in another volume", [PICKLE, Record("m/data/0", bytes(16), disk=2)])
archive("count-high", "a directory of three records that says four", [PICKLE, DATA], count=4, count_here=4)
archive("count-low", "a directory of two records that says one", [PICKLE, DATA], count=1, count_here=1)
archive("count-differs", "other numbers of records in this volume and in all", [PICKLE, DATA], count_here=1)
archive("directory-before", "a directory said to begin at 0", [PICKLE, DATA], begin=0)
archive("directory-beyond", "a directory said to begin at 2^31", [PICKLE, DATA], begin=2**31)
archive("directory-size", "a directory said to be of four gigabytes", [PICKLE, DATA], size=2**32 - 2)
archive("header-beyond", "a record said to lie at 2^31", [PICKLE, Record("m/data/0", bytes(16), header=2**31)])
archive("size-beyond", "a record of four gigabytes", [PICKLE, Record("m/data/0", bytes(16), size=2**32 - 2)])
archive("extra-cut", "an extra field longer than its room",
        [PICKLE, Record("m/data/0", bytes(16), extra=struct.pack("<HH", 1, 60))])
archive("wide-missing", "a 64-bit size announced and not given",
        [PICKLE, Record("m/data/0", bytes(16), size=2**32 - 1, packed=2**32 - 1)])
archive("wide-size", "a 64-bit size of 2^63", [PICKLE, Record("m/data/0", bytes(16), size=2**32 - 1,
        packed=2**32 - 1, extra=struct.pack("<HHQQ", 1, 16, 2**63, 2**63))])
archive("wide-end-missing", "64-bit numbers announced and no 64-bit end record", [PICKLE, DATA],
        begin=2**32 - 1)
archive("locator", "a locator that points behind itself", [PICKLE, DATA], zip64=True, locator=2**40)
archive("locator-elsewhere", "a locator that points at a record", [PICKLE, DATA], zip64=True, locator=0)
archive("ends-disagree", "two end records with other numbers", [PICKLE, DATA], zip64=True, wide_count=7)
archive("wide-count", "2^60 records", [PICKLE, DATA], zip64=True, wide_count=2**60, count=65535,
        count_here=65535)
archive("wide-directory", "a directory of 2^63 bytes", [PICKLE, DATA], zip64=True, wide_size=2**63,
        size=2**32 - 1)
archive("empty", "no records", [])
archive("no-pickle", "no data.pkl", [Record("m/readme.txt", b"hello")])
archive("no-folder", "data.pkl outside of a folder", [Record("data.pkl", f.one_tensor())])
archive("torchscript", "a TorchScript program", [PICKLE, DATA, Record("m/constants.pkl", b"x")])
archive("big-endian", "numbers in the other byte order", [PICKLE, DATA, Record("m/byteorder", b"big")])
archive("version", "a version of the future", [PICKLE, DATA, Record("m/version", b"99")])
archive("long-version", "a version of 100 bytes", [PICKLE, DATA, Record("m/version", b"3" * 100)])

# ---------------------------------------------------------------- PyTorch before zip


def old(name, wrong, content):
    torch("legacy/" + name, wrong, content)


old("magic-only", "nothing behind the magic number", f.MAGIC)
old("bare-pickle", "a pickle without the magic number", f.one_tensor())
old("protocol", "another protocol", f.legacy(protocol=1002))
old("big-endian", "numbers in the other byte order", f.legacy(machine=f.mapping(little_endian=f.NO)))
old("machine", "a list for the machine", f.legacy(machine=b"]"))
old("no-machine", "does not tell its byte order", f.legacy(machine=b"}"))
old("os-system", "calls os.system", f.legacy(f.pickle(SYSTEM + f.tup(f.text("touch pwned")) + b"R")))
old("os-system-first", "calls os.system in place of the magic number",
    f.pickle(SYSTEM + f.tup(f.text("touch pwned")) + b"R"))
old("os-system-keys", "calls os.system in the list of storages",
    f.legacy(keys=f.pickle(SYSTEM + f.tup(f.text("touch pwned")) + b"R")))
old("keys-dict", "a dict for the list of storages", f.legacy(keys=f.pickle(b"}")))
old("unknown-storage", "lists a storage that no tensor has", f.legacy(keys=("0", "1"), counts=(4, 4)))
old("storage-twice", "lists a storage twice", f.legacy(keys=("0", "0"), counts=(4, 4)))
old("storage-missing", "lists no storage", f.legacy(keys=(), counts=()))
old("other-count", "another number of elements before the storage", f.legacy(counts=(5,)))
old("negative-count", "-4 elements before the storage", f.legacy(counts=(-4,)))
old("cut", "cut short within the storage", f.legacy()[:-3])
old("cut-count", "cut short within the number of elements", f.legacy()[:-20])
old("trailing", "a byte behind the last storage", f.legacy(tail=b"x"))
old("tar", "the tar format of before 0.2", bytes(257) + b"ustar" + bytes(250))
old("preview", "a preview format", b"PYTORCH1" + bytes(100))
old("text", "an error page", b"<!DOCTYPE html><html></html>")
old("pointer", "a Git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")

# ---------------------------------------------------------------- GGUF


def ggml(name, wrong, content):
    command = ["merge", "{A+B}", "-m", "A=it.gguf", "-m", "B=../../good", "-o", "out"]
    Case("gguf/" + name, wrong, {"it.gguf": content}, command)


def ggml_tensor(name, wrong, *infos, **more):
    ggml(name, wrong, f.gguf(tensors=infos, **more))


NORM = "output_norm.weight"
ggml("magic-only", "nothing behind the magic number", b"GGUF")
ggml("no-magic", "another magic number", b"GGML" + bytes(60))
ggml("version-1", "version 1", f.gguf(version=1))
ggml("big-endian", "the other byte order", f.gguf(version=3 << 24))
ggml("many-fields", "2^60 fields", f.gguf(counts=(1, 2**60)))
ggml("many-tensors", "2^60 tensors", f.gguf(counts=(2**60, len(f.LLAMA))))
ggml("field-twice", "a field that stands twice", f.gguf(f.LLAMA + f.LLAMA[:1]))
ggml("field-type", "a field of type 99", f.gguf([f.field("x", 99, b"")]))
ggml("nested-array", "an array of arrays", f.gguf([f.field("x", 9, struct.pack("<IQ", 9, 1))]))
ggml("array-count", "an array of 2^63 numbers", f.gguf([f.field("x", 9, struct.pack("<IQ", 4, 2**63))]))
ggml("array-of-texts", "an array of 2^63 texts", f.gguf([f.field("x", 9, struct.pack("<IQ", 8, 2**63))]))
ggml("long-text", "a text of 2^63 bytes", f.gguf([f.field("x", 8, struct.pack("<Q", 2**63))]))
ggml("long-name", "a field's name of 2^40 bytes", f.gguf([struct.pack("<Q", 2**40)]))
ggml("cut", "cut short within the fields", f.gguf()[:60])
ggml("cut-data", "cut short within the numbers", f.gguf(data=bytes(8)))
ggml("alignment-0", "an alignment of 0", f.gguf(f.LLAMA + [f.u32("general.alignment", 0)]))
ggml("alignment-3", "an alignment of 3", f.gguf(f.LLAMA + [f.u32("general.alignment", 3)]))
ggml("alignment-text", "a text for an alignment", f.gguf(f.LLAMA + [f.words("general.alignment", "32")]))
ggml_tensor("dimensions", "five dimensions", f.gguf_tensor(NORM, [1] * 5))
ggml_tensor("zero", "a dimension of 0", f.gguf_tensor(NORM, [0]))
ggml_tensor("overflow", "2^64 elements", f.gguf_tensor(NORM, [2**32, 2**32]))
ggml_tensor("type", "a type that does not exist", f.gguf_tensor(NORM, [4], 99))
ggml_tensor("removed-type", "a type that was given up", f.gguf_tensor(NORM, [32], 4))
ggml_tensor("row", "rows that are no whole number of blocks", f.gguf_tensor(NORM, [33], 2))
ggml_tensor("beyond", "a tensor beyond the end", f.gguf_tensor(NORM, [1000]))
ggml_tensor("gap", "a gap before a tensor", f.gguf_tensor(NORM, [4], offset=32), data=bytes(64))
ggml_tensor("offset", "an offset of 2^64 - 1", f.gguf_tensor(NORM, [4], offset=2**64 - 1))
ggml_tensor("overlap", "two tensors in one place", f.gguf_tensor(NORM, [4]),
            f.gguf_tensor("token_embd.weight", [4, 1]), data=bytes(64))
ggml_tensor("twice", "one name for two tensors", f.gguf_tensor(NORM, [4]),
            f.gguf_tensor(NORM, [4], offset=32), data=bytes(64))
ggml_tensor("unknown-name", "a name that llama does not have", f.gguf_tensor("blk.0.evil.weight", [4]))
ggml_tensor("long-tensor-name", "a tensor's name of 2000 bytes", f.gguf_tensor("x" * 2000, [4]))
ggml("no-architecture", "no architecture", f.gguf([]))
ggml("other-architecture", "an architecture that is not read", f.gguf([f.words("general.architecture", "x")]))
ggml("adapter", "an adapter", f.gguf([f.words("general.type", "adapter"),
     f.words("general.architecture", "llama")]))
ggml("part", "one of two parts", f.gguf(f.LLAMA + [f.u32("split.count", 2)]))
HEADLESS = [x for x in f.LLAMA if b"head_count" not in x]
WHOLE = (f.gguf_tensor("token_embd.weight", [4, 2]), f.gguf_tensor(NORM, [4], offset=32))
ggml("factors", "rotary factors that no formula gives",
     f.gguf(f.LLAMA, WHOLE + (f.gguf_tensor("rope_freqs.weight", [2], offset=64),), bytes(96)))
EXPERTS = f.LLAMA + [f.u32("llama.expert_count", 2), f.u32("llama.expert_used_count", 1)]
ggml("experts", "a stack of three matrices for two experts",
     f.gguf(EXPERTS, (f.gguf_tensor("blk.0.ffn_up_exps.weight", [4, 1, 3]),), bytes(64)))
ggml("no-heads", "no number of heads", f.gguf(HEADLESS, WHOLE, bytes(64)))
ggml("heads-0", "no heads", f.gguf(HEADLESS + [f.u32("llama.attention.head_count", 0)], WHOLE, bytes(64)))
ggml("epsilon-nan", "an epsilon that is no number", f.gguf(
    [x for x in f.LLAMA if b"epsilon" not in x]
    + [f.field("llama.attention.layer_norm_rms_epsilon", 6, b"\0\0\xc0\x7f")], WHOLE, bytes(64)))

# ---------------------------------------------------------------- adapters

LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["embed"]}
A = ("base_model.model.embed.lora_A.weight", "F32", [2, 4])
B = ("base_model.model.embed.lora_B.weight", "F32", [2, 2])


def adapter(name, wrong, settings=None, weights=None, command=None, **more):
    settings = {**LORA, **more} if settings is None else settings
    weights = f.tensors(A, B) if weights is None else weights
    Case("adapter/" + name, wrong, {"it/adapter_config.json": as_bytes(settings),
         "it/adapter_model.safetensors": weights}, command or FOLD)


adapter("not-json", "no JSON", b"peft_type: LORA")
adapter("list", "a list for an object", b"[]")
adapter("deep", "a million brackets", b"[" * 1_000_000)
adapter("pointer", "a Git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\n")
adapter("no-type", "no type", {})
adapter("type-number", "a number for a type", {"peft_type": 1})
adapter("unknown-type", "a type that does not exist", {"peft_type": "EVIL"})
adapter("xlora", "X-LoRA", {"peft_type": "XLORA"})
adapter("prompt", "prompt tuning", {"peft_type": "PROMPT_TUNING"})
adapter("pissa", "initialised by PiSSA, which changes the base", init_lora_weights="pissa")
adapter("rank-0", "a rank of 0", r=0)
adapter("rank-negative", "a rank of -1", r=-1)
adapter("rank-text", "a text for a rank", r="8")
adapter("rank-fraction", "a rank of 1.5", r=1.5)
adapter("alpha-text", "a text for alpha", lora_alpha="16")
adapter("alpha-infinite", "an alpha beyond all numbers", b'{"peft_type":"LORA","lora_alpha":1e999}')
adapter("flag-text", "a text for a flag", use_rslora="yes")
adapter("bias", "a rule for biases that does not exist", bias="some")
adapter("pattern-list", "a list for rank_pattern", rank_pattern=[1])
adapter("pattern-counted", "a regular expression of 10^9 states", rank_pattern={"(a{999}){999}{999}": 2})
adapter("pattern-backtracking", "a regular expression that cannot end", rank_pattern={"(a*)*b(": 2})
adapter("pattern-ahead", "a regular expression that looks ahead", rank_pattern={"(?=.*embed).*": 2})
adapter("pattern-long", "a regular expression of 2000 bytes", rank_pattern={"a.*" * 666: 2})
adapter("patterns-many", "300 regular expressions", rank_pattern={"a.*%d" % i: 2 for i in range(300)})
adapter("pattern-rank", "a rank of 0 for a module", rank_pattern={"embed": 0})
adapter("replication", "replicated layers", layer_replication=[[0, 1], [0, 1]])
adapter("not-safetensors", "weights that are no safetensors", weights=b"hello")
adapter("no-tensors", "weights without tensors", weights=f.safetensors("{}"))
adapter("matches-nothing", "names of another model", weights=f.tensors(
    ("base_model.model.nope.lora_A.weight", "F32", [2, 4]),
    ("base_model.model.nope.lora_B.weight", "F32", [2, 2])))
adapter("one-matches", "one update that fits and one that does not", weights=f.tensors(A, B,
        ("base_model.model.nope.lora_A.weight", "F32", [2, 4]),
        ("base_model.model.nope.lora_B.weight", "F32", [2, 2])))
adapter("no-b", "no lora_B", weights=f.tensors(A))
adapter("no-a", "no lora_A", weights=f.tensors(B))
adapter("shape", "a lora_A for other inputs", weights=f.tensors((A[0], "F32", [2, 5]), B))
adapter("ranks-differ", "factors of two ranks", weights=f.tensors(A, (B[0], "F32", [2, 3])))
adapter("scalar", "a scalar for a factor", weights=f.tensors((A[0], "F32", []), B))
adapter("zero-rank", "factors of rank 0", weights=f.tensors((A[0], "F32", [0, 4]), (B[0], "F32", [2, 0])))
adapter("integers", "factors of integers", weights=f.tensors((A[0], "I32", [2, 4]), B))
adapter("two-names", "two adapters in one file", weights=f.tensors(
    (A[0].replace(".weight", ".one.weight"), *A[1:]), (B[0].replace(".weight", ".one.weight"), *B[1:]),
    (A[0].replace(".weight", ".two.weight"), *A[1:]), (B[0].replace(".weight", ".two.weight"), *B[1:])))
adapter("kohya", "names of another tool", weights=f.tensors(("lora_unet_x.lora_up.weight", "F32", [2, 2])))
adapter("nan", "NaN in a factor", weights=f.tensors(A, (B[0], "F32", [2, 2], b"\0\0\xc0\x7f" * 4)))
adapter("infinite", "infinity in a factor", weights=f.tensors(A, (B[0], "F32", [2, 2], b"\0\0\x80\x7f" * 4)))

# ---------------------------------------------------------------- quantised checkpoints

NAME = "model.layers.0.mlp.up_proj"


def quantised(name, wrong, settings, *tensors):
    folder("quantised/" + name, wrong, {
        "config.json": {"model_type": "llama", "quantization_config": settings},
        "model.safetensors": f.tensors(*[(NAME + tensor[0], *tensor[1:]) for tensor in tensors])})


FP8 = {"quant_method": "fp8", "weight_block_size": [2, 2]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 8, "sym": True, "desc_act": False}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}
quantised("unknown", "a method that is not read", {"quant_method": "hqq"}, (".W_q", "U8", [4]))
quantised("method-number", "a number for a method", {"quant_method": 7, "bits": 4}, (".qweight", "I32", [1, 8]))
quantised("nothing", "says FP8 and has none", FP8, (".weight", "F32", [2, 2]))
quantised("no-scale", "FP8 without scales", FP8, (".weight", "F8_E4M3", [4, 4]))
quantised("scale-shape", "scales of another shape", FP8, (".weight", "F8_E4M3", [4, 4]),
          (".weight_scale_inv", "F32", [3, 3]))
quantised("scale-type", "scales that are integers", FP8, (".weight", "F8_E4M3", [4, 4]),
          (".weight_scale_inv", "I32", [2, 2]))
quantised("block-0", "blocks of no rows", {"quant_method": "fp8", "weight_block_size": [0, 2]},
          (".weight", "F8_E4M3", [4, 4]), (".weight_scale_inv", "F32", [2, 2]))
quantised("block-text", "a text for blocks", {"quant_method": "fp8", "weight_block_size": "128"},
          (".weight", "F8_E4M3", [4, 4]), (".weight_scale_inv", "F32", [2, 2]))
quantised("bits-3", "GPTQ of 3 bits", {**GPTQ, "bits": 3}, (".qweight", "I32", [3, 8]))
quantised("bits-0", "GPTQ of no bits", {**GPTQ, "bits": 0}, (".qweight", "I32", [2, 8]))
quantised("group-0", "groups of no weights", {**GPTQ, "group_size": 0}, (".qweight", "I32", [2, 8]),
          (".qzeros", "I32", [2, 1]), (".scales", "F16", [2, 8]))
quantised("no-scales", "GPTQ without scales", GPTQ, (".qweight", "I32", [2, 8]), (".qzeros", "I32", [2, 1]))
quantised("group-beyond", "a group that has no scale", {**GPTQ, "desc_act": True},
          (".qweight", "I32", [2, 8]), (".qzeros", "I32", [2, 1]), (".scales", "F16", [2, 8]),
          (".g_idx", "I32", [16], b"\xff\xff\xff\x7f" * 16))
quantised("no-state", "bitsandbytes without its state", BNB, (".weight", "U8", [32, 1]),
          (".weight.absmax", "F32", [1]), (".weight.quant_map", "F32", [16]))


def bnb(name, wrong, state):
    state = as_bytes(state)
    quantised(name, wrong, BNB, (".weight", "U8", [32, 1]), (".weight.absmax", "F32", [1]),
              (".weight.quant_map", "F32", [16]),
              (".weight.quant_state.bitsandbytes__nf4", "U8", [len(state)], state))


STATE = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 8]}
bnb("state-not-json", "a state that is no JSON", b"{nf4")
bnb("state-deep", "a state of a thousand brackets", b"[" * 1000)
bnb("state-block-0", "blocks of no numbers", {**STATE, "blocksize": 0})
bnb("state-shape", "a shape of 2^64 numbers", {**STATE, "shape": [2**32, 2**32]})
bnb("state-shape-other", "a shape for other codes", {**STATE, "shape": [9, 9]})
quantised("mxfp4-no-scales", "MXFP4 without scales", {"quant_method": "mxfp4"},
          (".experts.gate_up_proj_blocks", "U8", [1, 2, 1, 16]))

# ---------------------------------------------------------------- recipes


def recipe(name, wrong, text):
    Case("recipe/" + name, wrong, {"it.yaml": as_bytes(text)}, ["merge", "it.yaml", "-o", "out"])


KEY = 'key: "{A+B}"\n'
recipe("aliases", "a list of lists of lists, 9^9 names when unfolded",
       "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join("%s: &%s [%s]\n" % (b, b, ",".join(["*" + a] * 9))
       for a, b in zip("abcdefgh", "bcdefghi")) + KEY)
recipe("own-alias", "a mapping that holds itself", "models: &m\n  A: *m\n" + KEY)
recipe("deep", "ten thousand brackets", KEY + "models: " + "[" * 10_000)
recipe("deep-blocks", "a thousand levels of lists", "- " * 1000 + "x\n")
recipe("python-object", "a tag that other readers execute", "key: !!python/object/apply:os.system [id]\n")
recipe("unknown-field", "a field that does not exist", KEY + "execute: id\n")
recipe("key-twice", "two keys", KEY + KEY)
recipe("no-key", "no key", "name: X\n")
recipe("key-map", "a mapping for a key", "key: {A+B}\n")
recipe("list", "a list for a mapping", "- A\n- B\n")
recipe("empty", "nothing but a comment", "# nothing\n")
recipe("not-yaml", "no YAML", "key: [\n")
recipe("not-utf8", "bytes that are not UTF-8", b'key: "{A\xff+B}"\n')
recipe("nul", "a NUL", b'key: "{A\0+B}"\n')
recipe("two-documents", "a second document", KEY + "---\n" + KEY)
recipe("huge", "two megabytes", KEY + "# " + "x" * 2_000_000 + "\n")
recipe("control", "a line break in a model's name", 'models:\n  "A\\nB": ../../good\n' + KEY)
recipe("dtype", "a type that does not exist", KEY + "dtype: int3\n")
recipe("shard-size", "a size below zero", KEY + "shard_size: -5GB\n")
recipe("shard-overflow", "a size of 2^70", KEY + "shard_size: 1180591620717411303424\n")
recipe("let-itself", "a part that is made of itself", 'let:\n  X: "{X+Y}"\nkey: "{X+Y}"\n')
recipe("let-circle", "two parts made of each other", 'let:\n  X: "{Y+A}"\n  Y: "{X+A}"\nkey: "X"\n')
recipe("let-doubling", "parts that double thirty times", "models:\n  A: ../../good\nlet:\n  X0: \"{A+A}\"\n"
       + "".join('  X%d: "{X%d+X%d}"\n' % (i + 1, i, i) for i in range(70)) + 'key: "X70"\n')


def key(name, wrong, text):
    Case("key/" + name, wrong, {}, ["key", "-"], as_bytes(text))


key("brackets-65", "65 brackets within each other", "{" * 65 + "A" + "+B}" * 65)
key("brackets-many", "60 000 open brackets", "{" * 60_000)
key("open", "a bracket that is not closed", "{A+B")
key("close", "a bracket that is not open", "A+B}")
key("crossed", "brackets that cross", "{A+B[L}]")
key("empty", "nothing", "")
key("blank", "nothing but blanks", "   ")
key("nothing-joined", "a join of nothing", "{}")
key("huge", "a key of two megabytes", "{A+" + "B" * 2_000_000 + "}")
key("nul", "a NUL", b"{A\0+B}")
key("not-utf8", "bytes that are not UTF-8", b"{A\xff+B}")
key("weight-infinite", "a weight beyond all numbers", "{1e999*A+B}")
key("weight-nan", "a weight that is no number", "{nan*A+B}")
key("quote", "a quoted name without an end", '{"A+B}')
key("unknown-method", "a method that does not exist", "{A+B;evil}")
key("unknown-parameter", "a parameter that does not exist", "{A+B;slerp,evil=1}")

# ---------------------------------------------------------------- manifests


def manifest(name, wrong, content):
    Case("manifest/" + name, wrong, {"it/thorns.json": as_bytes(content)}, ["verify", "it"])


MANIFEST = {
    "schema": "thorns/manifest/1", "program": {"name": "thorns", "version": "0.1.0"},
    "recipe": {"published": "A", "key": "A", "settings": {x: None for x in (
        "name", "dtype", "shard_size", "tokenizer", "vocabulary", "prompt", "license")}, "root": 0,
        "nodes": [{"key": "A", "name": None, "kind": "leaf", "leaf": 0}]},
    "leaves": [{"name": "A", "where": "a", "architecture": None, "files": []}], "adapters": [],
    "output": {"dtype": "float32", "tied": False, "tokenizer": None, "bytes": 0}, "dropped": [],
    "warnings": [], "tensors": [], "files": [],
}


def changed(**parts):
    return {**MANIFEST, **parts}


def listed(**parts):
    return changed(files=[{"name": "x", "size": 0, "sha256": "0" * 64, **parts}])


manifest("not-json", "no JSON", b"manifest")
manifest("deep", "a million brackets", b"[" * 1_000_000)
manifest("list", "a list for an object", b"[]")
manifest("other-schema", "another schema", changed(schema="evil/1"))
manifest("later-schema", "a schema of the future", changed(schema="thorns/manifest/99"))
manifest("passwd", "a file `../../etc/passwd`", listed(name="../../etc/passwd"))
manifest("absolute", "a file `/etc/passwd`", listed(name="/etc/passwd"))
manifest("inner-parent", "a file `a/../../b`", listed(name="a/../../b"))
manifest("no-name", "a file without a name", listed(name=""))
manifest("short-hash", "a hash of 10 digits", listed(sha256="0" * 10))
manifest("odd-hash", "a hash that is no number", listed(sha256="g" * 64))
manifest("negative-size", "a file of -1 bytes", listed(size=-1))
manifest("file-twice", "a file that stands twice", changed(files=2 * [
    {"name": "x", "size": 0, "sha256": "0" * 64}]))
manifest("root", "a result that is no node", changed(recipe={**MANIFEST["recipe"], "root": 7}))
manifest("node-kind", "a node of an unknown kind", changed(recipe={**MANIFEST["recipe"], "nodes": [
    {"key": "A", "name": None, "kind": "evil"}]}))
manifest("node-forward", "a node made of a later one", changed(recipe={**MANIFEST["recipe"], "nodes": [
    {"key": "A", "name": None, "kind": "fold", "model": 1, "adapter": 0, "weight": 1}]}))
manifest("no-tensors", "no list of tensors", {k: v for k, v in MANIFEST.items() if k != "tensors"})


def tensor(**parts):
    whole = {"name": "w", "kind": "copy", "dtype": "F32", "shape": [2], "file": "x", "norm": None,
             "rounded": 0, "clipped": 0, "nonfinite": 0, "sources": [], "nodes": [], **parts}
    return {**listed(), "tensors": [whole]}


manifest("tensor-overflow", "a tensor of 2^64 elements", tensor(shape=[2**32, 2**32]))
manifest("tensor-file", "a tensor in a file that is not listed", tensor(file="y"))
manifest("tensor-rounded", "more elements rounded than there are", tensor(rounded=3))
