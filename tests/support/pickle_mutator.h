// Changes pickles opcode by opcode, so that what comes out is still followed by the machine and the
// readers behind it are reached. For the custom mutators of the targets that read pickles.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/mutate.h"
#include "support/pytorch_builder.h"

namespace thorns::fuzz {

// The bytes of the opcode that `rest` begins with, its argument included.
inline std::size_t opcode_bytes(std::string_view rest) {
  const auto number = [&](std::size_t bytes) {
    std::size_t value = 0;
    for (std::size_t i = std::min(bytes, rest.size() - 1); i > 0; --i) {
      value = value << 8 | static_cast<unsigned char>(rest[i]);
    }
    return std::min(value, rest.size());
  };
  std::size_t size = 1;
  switch (static_cast<unsigned char>(rest.front())) {
    case 'c': {  // GLOBAL: two lines
      const std::size_t first = rest.find('\n');
      const std::size_t second = first == rest.npos ? first : rest.find('\n', first + 1);
      size = second == rest.npos ? rest.size() : second + 1;
      break;
    }
    case 0x80:
    case 'K':
    case 'h':
    case 'q':
      size = 2;
      break;
    case 'M':
      size = 3;
      break;
    case 'J':
    case 'j':
    case 'r':
      size = 5;
      break;
    case 'G':
    case 0x95:
      size = 9;
      break;
    case 'U':
    case 'C':
    case 0x8A:
    case 0x8C:
      size = 2 + number(1);
      break;
    case 'X':
    case 'B':
    case 0x8B:
      size = 5 + number(4);
      break;
    case 0x8D:
      size = 9 + number(8);
      break;
    default:
      break;
  }
  return std::min(size, rest.size());
}

// The pickle that `bytes` begins with, as opcodes; ends with STOP or where the bytes end.
inline std::vector<std::string> opcodes_of(std::string_view bytes) {
  std::vector<std::string> opcodes;
  while (!bytes.empty()) {
    const std::size_t size = opcode_bytes(bytes);
    opcodes.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(size);
    if (opcodes.back() == ".") break;
  }
  return opcodes;
}

// Opcodes, and values as checkpoints hold them.
inline std::string pickle_snippet(Random& random) {
  using namespace thorns::test;
  static const std::array<std::string_view, 24> kOpcodes = {
      "(",    "N",    "Q",    "R",    "a",    "b",    "e",     "s",
      "t",    "u",    "}",    "]",    ")",    "\x81", "\x85",  "\x86",
      "\x87", "\x88", "\x89", "\x8f", "\x93", "\x94", "q\x01", "h\x01"};
  static const std::vector<std::string> kValues = {
      py_int(0),
      py_int(-1),
      py_int(std::int64_t{1} << 62),
      std::string("\x8a\x09\0\0\0\0\0\0\0\0\1", 11),
      std::string("G\x3f\xf0\0\0\0\0\0\0", 9),
      py_text("state_dict"),
      py_text("weight"),
      std::string("\x8c\x01"
                  "0"),
      std::string("C\x01"
                  "0"),
      kPyHooks,
      py_ints({2, 1}),
      py_storage("FloatStorage", "0", 4),
      py_storage("BFloat16Storage", "1", 4),
      py_tensor(py_storage("HalfStorage", "0", 4), 0, {2, 2}, {1, 2}),
      py_call("torch._utils", "_rebuild_tensor",
              {py_storage("LongStorage", "0", 4), py_int(0), py_ints({4}), py_ints({1})}),
      py_call("torch._utils", "_rebuild_tensor_v3",
              {py_tuple({py_text("storage"), py_global("torch.storage", "UntypedStorage"),
                         py_text("0"), py_text("cpu"), py_int(8)}) +
                   "Q",
               py_int(0), py_ints({8}), py_ints({1}), kPyFalse, kPyHooks,
               py_global("torch", "float8_e4m3fn")}),
      py_global("torch._utils", "_rebuild_parameter"),
      py_global("torch._utils", "_rebuild_parameter_with_state"),
      py_global("torch._tensor", "_rebuild_from_type_v2"),
      py_global("torch.nn.parameter", "Parameter"),
      py_global("torch", "Tensor"),
      py_call("torch", "Size", {py_ints({2, 2})}),
      py_global("torch._utils", "_rebuild_qtensor"),
      py_global("posix", "system"),
  };
  const std::size_t choice = below(random, kOpcodes.size() + kValues.size());
  return choice < kOpcodes.size() ? std::string(kOpcodes[choice])
                                  : kValues[choice - kOpcodes.size()];
}

inline std::string mutated_pickle(std::string_view bytes, Random& random) {
  std::vector<std::string> opcodes = opcodes_of(bytes);
  if (opcodes.empty()) opcodes = opcodes_of(thorns::test::py_pickle("}"));
  for (std::size_t changes = 1 + below(random, 3); changes > 0 && !opcodes.empty(); --changes) {
    const std::size_t at = below(random, opcodes.size());
    const auto place = opcodes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(random, 6)) {
      case 0:
        opcodes.erase(place);
        break;
      case 1: {  // an opcode again, elsewhere
        const std::string again = opcodes[below(random, opcodes.size())];
        opcodes.insert(place, again);
        break;
      }
      case 2:
        std::swap(opcodes[at], opcodes[below(random, opcodes.size())]);
        break;
      case 3:
        opcodes[at] = pickle_snippet(random);
        break;
      case 4:
        opcodes.insert(place, pickle_snippet(random));
        break;
      default:  // its argument
        if (opcodes[at].size() > 1) {
          opcodes[at] =
              opcodes[at].front() + mutated_bytes(opcodes[at].substr(1), opcodes[at].size() + 3);
        }
    }
  }
  std::string changed;
  for (const std::string& opcode : opcodes) changed += opcode;
  return changed;
}

}  // namespace thorns::fuzz
