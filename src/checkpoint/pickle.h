// A Python pickle read as data. Its opcodes are followed, but nothing is looked up, called or made:
// a name becomes a tag if it is on the list of torch_globals.h, a call becomes a note of what would
// have been called with what, and everything else is refused where it stands. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/pickle_input.h"
#include "checkpoint/torch_globals.h"

namespace thorns {

using PickleId = std::uint32_t;  // of a value; an index into Pickle::values

struct PickleValue {
  enum class Kind : std::uint8_t {
    None,
    Bool,
    Int,
    LongInt,  // beyond 64 bits; `text` has its bytes, little endian, two's complement
    Float,    // its number is of no interest
    Text,
    Bytes,
    Tuple,
    List,
    Dict,
    Set,
    Global,
    Call,
    Persistent,  // a reference to a storage outside the pickle
  };
  Kind kind = Kind::None;
  bool ordered = false;                 // Dict: an OrderedDict
  std::uint32_t at = 0;                 // of its opcode, from the beginning of the pickle
  std::int64_t number = 0;              // Bool, Int
  const TorchGlobal* global = nullptr;  // Global
  std::string text;                     // Text (any bytes), Bytes, LongInt
  // Tuple, List: the elements. Dict: key, value, key, value ... as they were set. Call: what is
  // called, then the arguments. Persistent: the reference, a tuple. Cycles are possible.
  std::vector<PickleId> items;
};

struct Pickle {
  std::string path;         // of the file
  std::uint64_t begin = 0;  // of the pickle in it
  std::uint64_t end = 0;    // just behind its end mark
  std::vector<PickleValue> values;
  PickleId root = 0;

  const PickleValue& operator[](PickleId id) const { return values[id]; }
  const PickleValue& item(const PickleValue& value, std::size_t i) const {
    return values[value.items[i]];
  }
  [[noreturn]] void refuse(const PickleValue& value, const std::string& why,
                           ErrorCode code = ErrorCode::Corrupt,
                           const std::string& hint = {}) const {
    refuse_pickle(path, begin, value.at, why, code, hint);
  }
};

// Reads the pickle that begins at range.begin and ends at range.end or before. Throws Corrupt for
// what is no pickle, Unsupported for one with names or opcodes that no state dict needs, or beyond
// the limits on length, depth and number of values.
Pickle read_pickle(const FileRange& range);

// "a number", "a list", ...: for messages.
const char* kind_name(PickleValue::Kind kind);

}  // namespace thorns
