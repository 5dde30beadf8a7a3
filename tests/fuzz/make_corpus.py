#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/: safetensors files, each with the one fault that it is named for, and some good ones.

tests/autograd/test_corpus.cpp says what the error for each must name; the fuzzer starts from all of them.
"""

import pathlib
import struct

EIGHT = b"x" * 8
FILES = {}


def file(name, header, data=b"", length=None):
    header = header.encode("latin-1") if isinstance(header, str) else header
    FILES[name] = struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(name, fields, data=EIGHT):
    """One tensor with these fields, over 8 bytes of data."""
    file(name, '{"a":{%s}}' % fields, data)


def offsets(name, shape, first, last, data=EIGHT, dtype="F32"):
    tensor(name, f'"dtype":"{dtype}","shape":{shape},"data_offsets":[{first},{last}]', data)


def two(name, a, b, data):
    """Two tensors with these shapes and offsets."""
    entries = ('"%s":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}' % (n, *t) for n, t in (("a", a), ("b", b)))
    file(name, "{%s}" % ",".join(entries), data)


good = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'

# The length of the header.
FILES["length_missing"] = b""
FILES["length_cut"] = b"1234567"
file("length_zero", "", length=0)
file("length_beyond_file", "{}", length=3)
file("length_largest", "{}", length=2**64 - 1)
file("length_wraps", "{}", length=2**64 - 8)
file("length_negative", "{}", length=2**63)
# JSON.
file("json_space_first", " {}")
file("json_byte_order_mark", b"\xef\xbb\xbf{}")
file("json_array", "[]")
file("json_cut", "{")
file("json_text_after", "{} {}")
file("json_control_character", '{"a\n":1}')
file("json_zero_byte", "{}\0")
file("json_zero_byte_inside", '{}\0{"a":1}')
file("json_not_utf8", b'{"\xff":{}}')
file("json_single_quotes", "{'a':1}")
file("json_comment", '{"a":{/**/}}')
tensor("json_trailing_comma", good + ",")
offsets("json_number_infinite", "[1e999]", 0, 8)
offsets("json_number_huge_exponent", "[1e400000000]", 0, 8)
offsets("json_not_a_number", "[NaN]", 0, 8)
# The wrong kind of thing, or too deep.
file("entry_number", '{"a":1}')
file("entry_null", '{"a":null}')
file("entry_array", '{"a":[]}')
file("entry_array_deep", '{"a":' + "[" * 10_000)
file("entry_object_deep", '{"a":' * 5_000)
tensor("shape_array_deep", '"shape":' + "[" * 10_000)
tensor("shape_object", '"shape":{"a":1}')
tensor("shape_string", '"shape":"2"')
tensor("shape_number", '"shape":2')
tensor("shape_of_strings", '"shape":["2"]')
tensor("shape_of_booleans", '"shape":[true]')
tensor("shape_of_objects", '"shape":[{}]')
tensor("shape_of_nulls", '"shape":[null]')
tensor("dtype_number", '"dtype":1')
tensor("dtype_array", '"dtype":["F32"]')
tensor("offsets_null", '"data_offsets":null')
# Missing, repeated and unknown fields and names.
tensor("fields_missing", "")
tensor("dtype_missing", '"shape":[2],"data_offsets":[0,8]')
tensor("shape_missing", '"dtype":"F32","data_offsets":[0,8]')
tensor("offsets_missing", '"dtype":"F32","shape":[2]')
tensor("dtype_twice", '"dtype":"F32",' + good)
tensor("shape_twice", '"shape":[2],' + good)
tensor("offsets_twice", '"data_offsets":[0,8],' + good)
tensor("field_unknown", good + ',"extra":[0,8]')
file("name_twice", '{"a":{%s},"a":{%s}}' % (good, good), EIGHT)
file("name_twice_escaped", '{"a":{%s},"\\u0061":{%s}}' % (good, good), EIGHT)
file("name_of_two_lines", '{"a\\nb\\u0000":1}')
# Types.
offsets("dtype_unknown", "[8]", 0, 8, dtype="F8_E4M3")
offsets("dtype_lower_case", "[2]", 0, 8, dtype="f32")
offsets("dtype_empty", "[2]", 0, 8, dtype="")
# Shapes.
offsets("shape_negative", "[-2]", 0, 8)
offsets("shape_fraction", "[2.0]", 0, 8)
offsets("shape_above_64_bits", "[18446744073709551616]", 0, 8)
offsets("shape_of_64_bits", "[18446744073709551615]", 0, 8)
offsets("shape_bytes_wrap", "[4611686018427387904]", 0, 0)
offsets("shape_product_wraps_to_0", "[4294967296,4294967296]", 0, 0)
offsets("shape_product_wraps_to_0_later", "[4294967296,4294967296,2]", 0, 8)
offsets("shape_product_wraps_to_8", "[6148914691236517205,3,8]", 0, 8, dtype="U8")
offsets("shape_huge", "[9223372036854775807]", 0, 8, dtype="U8")
offsets("shape_huge_beside_0", "[0,4294967296,4294967296]", 0, 0)
offsets("shape_rank", "[1,1,1,1,1,1,2]", 0, 8)
# Offsets.
tensor("offsets_none", '"dtype":"F32","shape":[2],"data_offsets":[]')
tensor("offsets_one", '"dtype":"F32","shape":[2],"data_offsets":[8]')
tensor("offsets_three", '"dtype":"F32","shape":[2],"data_offsets":[0,8,8]')
offsets("offsets_negative", "[2]", 0, -8)
offsets("offsets_fraction", "[2]", 0, 8.5)
offsets("offsets_backwards", "[2]", 8, 0)
offsets("offsets_backwards_wrap", "[2]", 2**64 - 4, 4)
offsets("offsets_huge", "[2]", 2**64 - 16, 2**64 - 8)
offsets("offsets_beyond_file", "[3]", 0, 12)
offsets("offsets_beyond_file_shifted", "[2]", 4, 12)
offsets("offsets_beyond_cut_file", "[2]", 0, 8, data=b"x" * 7)
offsets("offsets_fewer_than_shape", "[2]", 0, 4)
offsets("offsets_for_no_elements", "[2,0]", 0, 8)
offsets("gap_first", "[1]", 4, 8)
offsets("gap_last", "[1]", 0, 4)
file("gap_all", "{}", EIGHT)
two("gap_between", (1, 0, 4), (1, 8, 12), b"x" * 12)
two("overlap_whole", (1, 0, 4), (1, 0, 4), b"x" * 4)
two("overlap_part", (2, 0, 8), (2, 4, 12), b"x" * 12)
two("overlap_nothing", (2, 0, 8), (0, 4, 4), EIGHT)
# Metadata.
for kind, value in {"array": "[]", "string": '"x"'}.items():
    file(f"metadata_{kind}", '{"__metadata__":%s}' % value)
kinds = {"number": "1", "negative": "-1", "fraction": "1.5", "null": "null", "object": "{}", "array": '["x"]'}
for kind, value in kinds.items():
    file(f"metadata_of_{kind}", '{"__metadata__":{"a":%s}}' % value)
file("metadata_key_twice", '{"__metadata__":{"a":"x","a":"x"}}')
file("metadata_twice", '{"__metadata__":{},"__metadata__":{}}')
# Without a fault.
file("good_empty", "{}")
tensor("good_tensor", good)
two("good_two", (1, 4, 8), (1, 0, 4), EIGHT)
offsets("good_converted", "[2,2]", 0, 8, dtype="BF16")
offsets("good_integers", "[1]", 0, 8, dtype="I64")
offsets("good_scalar", "[]", 0, 8, dtype="F64")
offsets("good_no_elements", "[0,3]", 0, 0, data=b"")
file("good_metadata", '{"__metadata__":{"a":"x","b":""}}  ')

folder = pathlib.Path(__file__).parent / "corpus"
folder.mkdir(exist_ok=True)
for old in folder.iterdir():
    old.unlink()
for name, content in FILES.items():
    (folder / name).write_bytes(content)
print(f"{len(FILES)} files in {folder}")
