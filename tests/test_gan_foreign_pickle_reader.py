"""Hostile files: none has a side effect, and each ends in one line that names what was refused."""

import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest
import torch
from conftest import run_salon

from gan.errors import RequestError
from gan.foreign import pickle_interpreter, pickle_reader
from gan.foreign.pickle_values import Array, Record

CANARY = "touch canary"


class Call:
    """Pickles as the call of a function; `state` comes after it."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """So that pickle takes a call for what is called."""


class Evil:
    def __setstate__(self, state):
        os.system(CANARY)

    def __getstate__(self):
        return {"a": 1}


def dumps(function, *args, protocol=4, state=None):
    return pickle.dumps(Call(function, *args, state=state), protocol)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(shape, strides, offset=0, count=6, held=6) -> bytes:
    """A pickle of one tensor, as torch writes it, but with any layout, count and bytes of the storage."""
    storage = tensor_storage(count, held)
    layout = b"".join(b"(" + b"".join(number(n) for n in values) + b"t" for values in (shape, strides))
    return (
        b"\x80\x02" + named("torch._utils", "_rebuild_tensor_v2") + b"(" + named("torch.storage", "_load_from_bytes")
        + b"B" + struct.pack("<I", len(storage)) + storage + b"\x85R" + number(offset) + layout + b"\x89}tR."
    )  # fmt: skip


def tensor_storage(count=6, held=6, kind="FloatStorage", name="storage") -> bytes:
    identity = b"(" + text(name) + named("torch", kind) + text("0") + text("cpu") + number(count) + b"Nt"
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + b"\x80\x02" + identity + b"Q." + pickle.dumps(["0"], 2) + struct.pack("<q", held) + bytes(4 * held)


def load_from_bytes(content: bytes) -> bytes:
    size = struct.pack("<I", len(content))
    return b"\x80\x02" + named("torch.storage", "_load_from_bytes") + b"B" + size + content + b"\x85R."


def zipped(members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def torch_zip(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def without_storage() -> bytes:
    with zipfile.ZipFile(io.BytesIO(torch_zip({"a": torch.zeros(2)}))) as archive:
        return zipped({name: archive.read(name) for name in archive.namelist() if not name.endswith("data/0")})


def short_storage() -> bytes:
    with zipfile.ZipFile(io.BytesIO(torch_zip({"a": torch.zeros(200)}))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped({name: content[:8] if name.endswith("data/0") else content for name, content in members.items()})


def lying_zip() -> bytes:
    content = bytearray(zipped({"a/data.pkl": pickle.dumps({})}))
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 2**31)  # the size that the directory announces
    return bytes(content)


def array_state(state: bytes) -> bytes:
    return (
        b"\x80\x02" + named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray")
        + b"K\x00\x85C\x01b\x87R" + state + b"b."
    )  # fmt: skip


F4 = named("numpy", "dtype") + text("f4") + b"\x89\x88\x87R"
HOSTILE = {  # id -> content, what the message must say
    "os.system": (dumps(os.system, CANARY), "system; only tensors"),
    "os.system, protocol 0": (dumps(os.system, CANARY, protocol=0), "system; only tensors"),
    "eval": (dumps(eval, f"__import__('os').system('{CANARY}')"), "builtins.eval"),
    "exec": (dumps(exec, f"import os; os.system('{CANARY}')"), "builtins.exec"),
    "getattr": (dumps(getattr, Call(__import__, "os"), "system"), "builtins.getattr"),
    "import": (dumps(__import__, "antigravity"), "builtins.__import__"),
    "nested reduce": (dumps(Call(getattr, Call(__import__, "os"), "system"), CANARY), "getattr"),
    "open": (dumps(open, "canary", "w"), "open"),
    "partial": (b"cfunctools\npartial\n(cos\nsystem\nX\x0c\x00\x00\x00touch canarytR.", "functools.partial"),
    "popen": (b"csubprocess\nPopen\n(]X\x05\x00\x00\x00touchaX\x06\x00\x00\x00canaryatR.", "subprocess.Popen"),
    "copyreg": (b"ccopyreg\n_reconstructor\n(cos\nsystem\nNNtR.", "copyreg._reconstructor"),
    "torch.load": (b"ctorch\nload\n(X\x01\x00\x00\x00atR.", "torch.load"),
    "a module of ours": (b"cgan.runtime.files\nsha256\n(X\x01\x00\x00\x00atR.", "gan.runtime.files.sha256"),
    "memo, called later": (b"cos\nsystem\nq\x050h\x05" + text(CANARY) + b"\x85R.", "os.system"),
    "memo of nothing": (b"h\x05.", "is damaged or no pickle"),
    "setstate": (pickle.dumps(Evil()), "Evil"),
    "setstate by build": (dumps(Evil, state={"a": 1}), "Evil"),
    "new object": (b"\x80\x02cos\nsystem\n)\x81.", "os.system"),
    "dots in a name": (b"\x80\x04" + named("collections", "OrderedDict.__init__.__globals__") + b".", "__globals__"),
    "dots behind a network": (b"\x80\x04" + named("training.networks", "os.system") + b")R.", "networks.os.system"),
    "dots behind a class": (b"\x80\x04" + named("torch.nn.modules.conv", "torch.os.system") + b")R.", "os.system"),
    "name that is no text": (b"\x80\x04K\x01K\x02\x93.", "by other than text"),
    "name with control characters": (b"\x80\x04" + named("evil\nError: fine\x1b[2J", "x") + b".", "evil?Error: fine?["),
    "inst": (b"(" + text(CANARY) + b"ios\nsystem\n.", "INST os system"),
    "obj": (b"(cos\nsystem\n" + text(CANARY) + b"o.", "os.system"),
    "obj of an allowed class": (b"(ccollections\nOrderedDict\no.", "OBJ"),
    "extension registry": (b"\x80\x02\x82\x01)R.", "EXT1 1"),
    "extension registry, long": (b"\x80\x02\x84\x01\x00\x00\x00)R.", "EXT4"),
    "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "frozen set": (b"\x80\x04(K\x01\x91.", "FROZENSET"),
    "keyword arguments": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX"),
    "persistent id, text": (b"Pcanary\n.", "PERSID canary"),
    "persistent id": (b"\x80\x02K\x07Q.", "persistent id"),
    "call of text": (b"\x80\x02" + text("os.system") + text(CANARY) + b"\x85R.", "calls a str"),
    "call of a record": (
        b"\x80\x02" + named("argparse", "Namespace") + b")\x81)R.",
        "calls argparse.Namespace, which is refused",
    ),
    "call of ndarray": (b"\x80\x02" + named("numpy", "ndarray") + b"K\x05\x85\x85R.", "calls numpy.ndarray"),
    "arguments that are no tuple": (b"\x80\x02ccollections\nOrderedDict\n]R.", "calls collections.OrderedDict"),
    "state of a function": (b"\x80\x02" + named("torch._utils", "_rebuild_parameter") + b"}b.", "sets the state of"),
    "state of a list": (b"\x80\x02]}b.", "sets the state of a list"),
    "items for a tuple": (b"\x80\x02)K\x01K\x02s.", "adds items to a tuple"),
    "items for a record": (b"\x80\x02" + named("argparse", "Namespace") + b")\x81K\x01a.", "adds items to argparse"),
    "codecs.decode": (b"c_codecs\ndecode\n(X\x01\x00\x00\x00atR.", "_codecs.decode"),
    "codecs.encode": (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "_codecs.encode"),
    "codecs.encode, again and again": (
        b"\x80\x02"
        + named("_codecs", "encode")
        + b"q\x000"
        + text("a" * 10**6)
        + text("latin1")
        + b"\x86q\x010("
        + b"h\x00h\x01R" * 1000
        + b"t.",
        "grows to a multiple of its size",
    ),
    "numpy objects": (pickle.dumps(np.array([1, "a"], object)), "numpy array of O8"),
    "numpy objects that call": (pickle.dumps(np.array([Call(os.system, CANARY)], object)), "array of O8"),
    "numpy fields": (pickle.dumps(np.zeros(2, [("a", "f4")])), "numpy array of V4"),
    "numpy metadata": (pickle.dumps(np.zeros(2, np.dtype("f4", metadata={"a": 1}))), "numpy dtype with fields"),
    "numpy swapped bytes": (pickle.dumps(np.zeros(2, ">f4")), "swapped bytes"),
    "numpy dtype by an expression": (b"\x80\x02" + named("numpy", "dtype") + text("O,f4") + b"\x85R.", "array of O,f4"),
    "numpy dtype of a list": (b"\x80\x02" + named("numpy", "dtype") + b"]\x85R.", "array of objects"),
    "numpy list for bytes": (array_state(b"(K\x01K\x02\x85" + F4 + b"\x89]K\x01at"), "array of objects"),
    "numpy short": (array_state(b"(K\x01K\x02\x85" + F4 + b"\x89C\x04abcdt"), "array of 2 numbers with the bytes of 1"),
    "numpy huge": (
        array_state(b"(K\x01" + number(2**40) * 3 + b"\x87" + F4 + b"\x89C\x04abcdt"),
        "with the bytes of 1",
    ),
    "numpy negative": (array_state(b"(K\x01J\xff\xff\xff\xff\x85" + F4 + b"\x89C\x04abcdt"), "impossible shape"),
    "numpy subclass": (
        b"\x80\x02" + named("numpy.core.multiarray", "_reconstruct") + named("argparse", "Namespace") + b"))\x87R.",
        "unknown class",
    ),
    "tensor beyond its storage": (tensor([2, 4], [4, 1]), "beyond its storage of 6"),
    "tensor from an offset": (tensor([6], [1], offset=1), "beyond its storage of 6"),
    "tensor with a negative stride": (tensor([3], [-1]), "impossible shape or stride"),
    "tensor with a negative offset": (tensor([3], [1], offset=-1), "impossible shape or stride"),
    "tensor that repeats": (tensor([10**6, 10**6], [0, 0]), "overlaps itself"),
    "tensor that overlaps": (tensor([3, 3], [1, 1]), "overlaps itself"),
    "tensor of a huge shape": (tensor([2**62], [1]), "impossible shape"),
    "tensor of many dimensions": (tensor([1] * 9, [1] * 9), "impossible shape"),
    "tensor with too few strides": (tensor([2, 3], [1]), "impossible shape"),
    "storage with a lying count": (tensor([6], [1], count=6, held=3), "announces a storage of 6 numbers and holds 3"),
    "storage with fewer bytes": (load_from_bytes(tensor_storage()[:-4]), "announces 24 bytes"),
    "storage of negative size": (load_from_bytes(tensor_storage(-1, 0)), "impossible size"),
    "storage of huge size": (load_from_bytes(tensor_storage(2**47, 0)), "holds 0"),
    "storage of an unknown type": (load_from_bytes(tensor_storage(kind="QInt8Storage")), "torch.QInt8Storage"),
    "persistent id of a module": (load_from_bytes(tensor_storage(name="module")), "no storage (a persistent id)"),
    "call inside of a torch file": (load_from_bytes(dumps(os.system, CANARY)), "system; only"),
    "torch file in a torch file": (
        load_from_bytes(load_from_bytes(tensor_storage())),
        "_load_from_bytes where it does not belong",
    ),
    "zip bomb": (zipped({"a/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED), "members are larger than itself"),
    "zip with compression": (zipped({"a/data.pkl": os.urandom(99)}, zipfile.ZIP_BZIP2), "compressed or encrypted"),
    "zip that lies": (lying_zip(), "members are larger than itself"),
    "zip without a pickle": (zipped({"a": b""}), "must hold one data.pkl"),
    "zip with two pickles": (zipped({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "must hold one data.pkl"),
    "zip with a call": (zipped({"a/data.pkl": dumps(os.system, CANARY)}), "system; only"),
    "zip of another machine": (zipped({"a/data.pkl": b"N.", "a/byteorder": b"big"}), "bytes are swapped"),
    "zip without a storage": (without_storage(), "refers to storage 0, which it does not hold"),
    "zip with a short storage": (short_storage(), "announces 800 bytes of numbers and holds 8"),
    "zip, torn": (torch_zip({"a": torch.zeros(9)})[:-30], "is damaged or no pickle"),
    "key that is a tuple": (b"\x80\x02}(K\x01tK\x01s.", "a dict whose key is a tuple"),
    "keys that take forever to hash": (b"\x80\x02})" + b"2\x86" * 200 + b"K\x01s.", "a dict whose key is a tuple"),
    "set of tuples": (b"\x80\x04\x8f()\x90.", "a set of something else"),
    "bytes of 4 exabytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "is damaged or no pickle"),
    "bytearray of 4 exabytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "is damaged or no pickle"),
    "text of 2 gigabytes": (b"X\xff\xff\xff\x7fa.", "is damaged or no pickle"),
    "number of a million digits": (b"I" + b"9" * 10**6 + b"\n.", "is damaged or no pickle"),
    "memo at 2 billion": (b"]r\xff\xff\xff\x7f.", "it holds a list"),
    "lists, 300 thousand deep": (b"]" * 300_000 + b"a" * 299_999 + b".", "it holds a list"),
    "tuples, 300 thousand deep": (b")" + b"\x85" * 300_000 + b".", "it holds a tuple"),
    "dicts, 100 thousand deep": (b"\x80\x02" + b"}K\x01" * 10**5 + b"N" + b"s" * 10**5 + b".", "it holds a dict"),
    "a list in itself": (b"]q\x00h\x00a.", "it holds a list"),
    "a billion laughs": (b"]" + b"q\x000](h\x00h\x00e" * 200 + b".", "it holds a list"),
    "no operand": (b"\x80\x02R.", "lacks its operand"),
    "operand below the mark": (b"\x80\x02K\x01(a.", "lacks its operand"),
    "no mark": (b"\x80\x02t.", "is damaged or no pickle"),
    "odd pairs": (b"\x80\x02}(K\x01u.", "is damaged or no pickle"),
    "no pickle": (b"GIF89a, or whatever", "is damaged or no pickle"),
    "text": (b"hello\n", "is damaged or no pickle\n"),
    "nothing": (b"", "must hold networks; it is empty"),
    "a plain value": (b"N.", "must hold StyleGAN2 networks"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_without_side_effect(name, tmp_path, monkeypatch):
    content, fragment = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.pkl").write_bytes(content)
    outcome = run_salon("import", "hostile.pkl", "--out", "out.safetensors")
    assert outcome.code == 2 and not outcome.out
    assert outcome.err.startswith("Error: hostile.pkl ") and outcome.err.count("\n") == 1 and outcome.err.endswith("\n")
    assert fragment in outcome.err and outcome.err[:-1].isprintable() and len(outcome.err) < 300
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pkl"]


def test_the_canary_sings_where_files_are_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "eval", "setstate", "memo, called later", "obj"):
        pickle.loads(HOSTILE[name][0])
        (tmp_path / "canary").unlink()


def test_a_file_torn_anywhere_is_refused(tmp_path):
    whole = {"a": torch.arange(6.0).reshape(2, 3), "b": np.arange(4), "c": [collections.OrderedDict(x=1), (2.5, None)]}
    path = tmp_path / "torn.pkl"
    legacy = io.BytesIO()
    torch.save(whole, legacy, _use_new_zipfile_serialization=False)
    for content in (pickle.dumps(whole), pickle.dumps(whole, 2), legacy.getvalue(), torch_zip(whole)):
        path.write_bytes(content)
        assert set(pickle_reader.load(path)) == {"a", "b", "c"}
        for length in {*range(0, len(content), max(len(content) // 150, 1)), len(content) - 1}:
            path.write_bytes(content[:length])
            with pytest.raises(RequestError, match=r"torn\.pkl ") as refused:
                pickle_reader.load(path)
            assert "\n" not in str(refused.value)


def test_flipped_bytes_never_end_in_another_error(tmp_path):
    content = pickle.dumps({"a": torch.arange(6.0), "b": np.arange(4), "c": collections.OrderedDict(x={1, 2})})
    path = tmp_path / "flipped.pkl"
    refused = 0
    for position in range(0, len(content), 2):
        for mask in (0x01, 0xFF):
            path.write_bytes(content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :])
            try:
                pickle_reader.load(path)
            except RequestError:
                refused += 1
    assert refused > len(content) / 2


def test_work_and_size_are_limited(tmp_path, monkeypatch):
    path = tmp_path / "long.pkl"
    path.write_bytes(b"N0" * 1000 + b"N.")
    assert pickle_reader.load(path) is None
    monkeypatch.setattr(pickle_interpreter, "MAX_OPERATIONS", 1000)
    with pytest.raises(RequestError, match="has more than 1000 pickle instructions"):
        pickle_reader.load(path)
    monkeypatch.setattr(pickle_reader, "MAX_FILE_BYTES", 1000)
    with pytest.raises(RequestError, match="has 2002 bytes; at most 1000 are read"):
        pickle_reader.load(path)


def test_honest_values_come_back(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    value = {
        "contiguous": base,
        "transposed": base.transpose(0, 2),
        "part": base[1, :, 2],
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "half": base.half(),
        "whole numbers": torch.tensor([1, -2]),
        "one": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "C": np.arange(6, dtype=np.int32).reshape(2, 3),
        "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(0.5),
    }
    plain = {"text": "é", "list": [1, 2.5, None, True, b"raw", 2**70], "tuple": ((), (1,)), "set": {1, "a"}, 5: {}}
    path = tmp_path / "honest.pkl"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps([value, plain, torch.Size([2, 3])], protocol))
        arrays, containers, size = pickle_reader.load(path)
        assert containers == plain and size == (2, 3)
        for name, expected in value.items():
            actual = arrays[name].read() if isinstance(arrays[name], Array) else arrays[name]
            expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
            np.testing.assert_array_equal(actual, expected, strict=isinstance(arrays[name], Array))


def test_torch_files_share_their_storages(tmp_path):
    base = torch.arange(6.0)
    for zipped_form in (False, True):
        path = tmp_path / "shared.pt"
        torch.save({"all": base, "end": base[4:]}, path, _use_new_zipfile_serialization=zipped_form)
        found = pickle_reader.load(path)
        assert found["all"].storage is found["end"].storage
        np.testing.assert_array_equal(found["end"].read(), [4, 5])


def test_classes_become_records_that_do_nothing(tmp_path):
    path = tmp_path / "module.pkl"
    path.write_bytes(pickle.dumps(torch.nn.Sequential(torch.nn.Linear(2, 3))))
    record = pickle_reader.load(path)
    assert type(record) is Record and record.name == "torch.nn.modules.container.Sequential"
    linear = record.state["_modules"]["0"]
    assert linear.name == "torch.nn.modules.linear.Linear" and linear.state["in_features"] == 2
    assert linear.state["_parameters"]["weight"].read().shape == (3, 2)


def test_every_instruction_is_either_carried_out_or_refused():
    known = {opcode.name for opcode in pickletools.opcodes}
    done = set(pickle_interpreter._ACTIONS) | set(pickle_interpreter._LITERALS) | {"STOP"}
    assert known - done == {
        *("PERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "FROZENSET", "NEXT_BUFFER", "READONLY_BUFFER")
    }
