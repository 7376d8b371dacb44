"""Model files made byte by byte, broken ones as well: nothing here is checked."""

import json
import struct

# ---------------------------------------------------------------- safetensors


def safetensors(header, data=b"", length=None):
    """`header`: text, bytes or a dict. `length`: what the file says of it."""
    if isinstance(header, dict):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2}


def tensors(*described):
    """(name, dtype, shape[, bytes]): a sound file; zeros where no bytes are given."""
    header, data = {}, b""
    for name, dtype, shape, *given in described:
        size = SIZES.get(dtype, 1)
        for dimension in shape:
            size *= dimension
        piece = given[0] if given else bytes(size)
        header[name] = entry(dtype, shape, (len(data), len(data) + len(piece)))
        data += piece
    return safetensors(header, data)


# ---------------------------------------------------------------- pickles


def name(module, word):
    return b"c" + module.encode() + b"\n" + word.encode() + b"\n"


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(value)) + value


def integer(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def integers(*values):
    return tup(*map(integer, values))


def call(module, word, *arguments):
    return name(module, word) + tup(*arguments) + b"R"


def mapping(**items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


HOOKS = b"ccollections\nOrderedDict\n)R"
NO, YES, NONE = b"\x89", b"\x88", b"N"


def storage(kind="FloatStorage", key="0", count=4, module="torch"):
    return (
        tup(text("storage"), name(module, kind), text(key), text("cpu"), integer(count)) + b"Q"
    )


def tensor(stored=None, offset=0, size=(2, 2), strides=(2, 1), more=()):
    return call(
        "torch._utils", "_rebuild_tensor_v2", stored or storage(), integer(offset),
        integers(*size), integers(*strides), NO, HOOKS, *more,
    )


def pickle(body, protocol=2):
    return b"\x80" + bytes([protocol]) + body + b"."


def one_tensor(value=None):
    return pickle(mapping(w=value or tensor()))


# ---------------------------------------------------------------- zip archives


class Record:
    def __init__(self, name, data=b"", local=None, flags=0x0800, method=0, **more):
        self.name = name.encode() if isinstance(name, str) else name
        self.data = data
        self.local = self.name if local is None else local.encode()
        self.flags = flags
        self.method = method
        self.local_flags = more.get("local_flags", flags)
        self.local_method = more.get("local_method", method)
        self.size = more.get("size", len(data))
        self.packed = more.get("packed", self.size)
        self.header = more.get("header")  # where the directory says that its own header is
        self.extra = more.get("extra", b"")
        self.disk = more.get("disk", 0)


def zipped(records, zip64=False, comment=b"", **lies):
    """`lies` replace numbers of the end records: count, size, begin, disk; wide_* and locator for
    those of 64 bits."""
    file, directory = b"", b""
    for record in records:
        header = len(file) if record.header is None else record.header
        common = (0, 0, 0, record.packed & 0xFFFFFFFF, record.size & 0xFFFFFFFF, len(record.local))
        file += b"PK\3\4" + struct.pack("<HHHHHIIIHH", 0, record.local_flags, record.local_method,
                                        *common, 0) + record.local + record.data
        directory += b"PK\1\2" + struct.pack(
            "<HHHHHHIIIHHHHHII", 0, 0, record.flags, record.method, 0, 0, 0,
            record.packed & 0xFFFFFFFF, record.size & 0xFFFFFFFF, len(record.name),
            len(record.extra), 0, record.disk, 0, 0, header & 0xFFFFFFFF,
        ) + record.name + record.extra
    begin, count = len(file), len(records)
    file += directory
    if zip64:
        at = len(file)
        file += b"PK\6\6" + struct.pack(
            "<QHHIIQQQQ", 44, 0, 0, 0, 0, lies.get("wide_count", count),
            lies.get("wide_count", count), lies.get("wide_size", len(directory)),
            lies.get("wide_begin", begin),
        )
        file += b"PK\6\7" + struct.pack("<IQI", 0, lies.get("locator", at), 1)
    disk = lies.get("disk", 0)
    file += b"PK\5\6" + struct.pack(
        "<HHHHIIH", disk, disk, lies.get("count_here", lies.get("count", count)),
        lies.get("count", count), lies.get("size", len(directory)), lies.get("begin", begin),
        lies.get("comment", len(comment)),
    )
    return file + comment


def checkpoint(pickled=None, storages=(bytes(16),), more=(), **lies):
    """What torch.save writes."""
    records = [Record("m/data.pkl", one_tensor() if pickled is None else pickled)]
    records += [Record("m/data/%d" % i, data) for i, data in enumerate(storages)]
    return zipped(records + list(more), **lies)


# ---------------------------------------------------------------- PyTorch before zip

MAGIC = pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")


def legacy(pickled=None, keys=("0",), counts=(4,), protocol=1001, machine=None, data=None, tail=b""):
    if machine is None:
        machine = mapping(little_endian=YES)
    file = MAGIC + pickle(integer(protocol)) + pickle(machine)
    file += one_tensor() if pickled is None else pickled
    file += pickle(b"](" + b"".join(map(text, keys)) + b"e") if isinstance(keys, tuple) else keys
    for count in counts:
        file += struct.pack("<q", count) + (bytes(16) if data is None else data)
    return file + tail


# ---------------------------------------------------------------- GGUF


def gguf_text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def field(key, kind, value):
    return gguf_text(key) + struct.pack("<I", kind) + value


def u32(key, value):
    return field(key, 4, struct.pack("<I", value))


def words(key, value):
    return field(key, 8, gguf_text(value))


def gguf_tensor(key, dims, kind=0, offset=0):
    return gguf_text(key) + struct.pack("<I", len(dims)) + struct.pack(
        "<%dQ" % len(dims), *dims) + struct.pack("<IQ", kind, offset)


LLAMA = [
    words("general.architecture", "llama"), u32("llama.block_count", 1),
    u32("llama.context_length", 8), u32("llama.embedding_length", 4),
    u32("llama.feed_forward_length", 4), u32("llama.attention.head_count", 1),
    field("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
]
NORM = gguf_tensor("output_norm.weight", [4])


def gguf(fields=None, tensors=(NORM,), data=bytes(32), version=3, counts=None, pad=32):
    fields = LLAMA if fields is None else fields
    tensor_count, field_count = counts or (len(tensors), len(fields))
    file = b"GGUF" + struct.pack("<IQQ", version, tensor_count, field_count)
    file += b"".join(fields) + b"".join(tensors)
    return file + bytes(-len(file) % pad) + data
