package sympath

const testGUID = "00112233445566778899AABBCCDDEEFF"

// testISF is a small table with one of everything.
const testISF = `{
"metadata": {"format": "6.2.0", "producer": {"name": "t", "list": [1, [2, {}], "]"]},
  "windows": {"pdb": {"GUID": "` + testGUID + `", "age": 3, "database": "t.pdb", "machine_type": 34404},
    "pe": {"major": 10, "build": 19045}}},
"symbols": {"b": {"address": 4660, "type": {"kind": "base", "name": "void"}}, "a\u0062c": {"address": 16},
  "far": {"address": 4294967296}, "none": {"linkage_name": "x\"y"}, "esc\/\\": {"address": 32}},
"user_types": {
  "_A": {"kind": "struct", "size": 40, "fields": {
    "Next": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_A"}}},
    "Flag": {"offset": 8, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 5, "type": {"kind": "base", "name": "unsigned long"}}},
    "Low": {"offset": 8, "type": {"type": null, "kind": "base", "name": "unsigned long"}},
    "Many": {"offset": 16, "type": {"count": 2, "subtype": {"kind": "array", "count": 3, "subtype": {"kind": "union", "name": "_U"}}, "kind": "array"}},
    "State": {"offset": 12, "type": {"kind": "enum", "name": "_E"}, "anonymous": false},
    "Run": {"offset": 32, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
    "Odd": {"offset": 36, "type": {"kind": "array", "count": -28, "subtype": {"kind": "base", "name": "char"}}}}},
  "_U": {"kind": "union", "size": 2, "fields": {"C": {"offset": 0, "type": {"kind": "base", "name": "char"}}}},
  "_A": {"kind": "struct", "size": 1, "fields": {}}},
"enums": {"_E": {"base": "int", "size": 4, "constants": {"One": 1, "Minus": -1, "Big": 18446744073709551615}}},
"base_types": {
  "char": {"kind": "char", "size": 1, "signed": true, "endian": "little"},
  "unsigned long": {"kind": "int", "size": 4, "signed": false},
  "long": {"kind": "int", "size": 4, "signed": true},
  "odd": {"kind": "?", "size": 3, "signed": false},
  "pointer": {"kind": "int", "size": 8, "signed": false}}
}`
