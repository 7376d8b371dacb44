// PyTorch checkpoints made byte by byte, for tests: pickles from pieces of opcodes, zip archives,
// and the format before them. Nothing here is checked, so that broken files can be made as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/safetensors_builder.h"

namespace thorns::test {

// ---- pieces of a pickle; each leaves one value on the stack

inline std::string py_global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

inline std::string py_text(const std::string& text) {
  std::string bytes = "X";
  append_little_endian(bytes, static_cast<std::uint32_t>(text.size()));
  return bytes + text;
}

inline std::string py_int(std::int64_t number) {
  std::string bytes;
  if (number >= std::numeric_limits<std::int32_t>::min() &&
      number <= std::numeric_limits<std::int32_t>::max()) {
    bytes = "J";
    append_little_endian(bytes, static_cast<std::int32_t>(number));
  } else {
    bytes = "\x8a\x08";
    append_little_endian(bytes, number);
  }
  return bytes;
}

inline std::string py_tuple(const std::vector<std::string>& items) {
  std::string bytes = "(";
  for (const std::string& item : items) bytes += item;
  return bytes + "t";
}

inline std::string py_ints(const std::vector<std::int64_t>& numbers) {
  std::vector<std::string> items;
  for (const std::int64_t number : numbers) items.push_back(py_int(number));
  return py_tuple(items);
}

inline std::string py_call(const std::string& module, const std::string& name,
                           const std::vector<std::string>& arguments) {
  return py_global(module, name) + py_tuple(arguments) + "R";
}

using PyItems = std::vector<std::pair<std::string, std::string>>;  // name, value

inline std::string py_dict(const PyItems& items) {
  std::string bytes = "}(";
  for (const auto& [name, value] : items) bytes += py_text(name) + value;
  return bytes + "u";
}

inline const std::string kPyFalse = "\x89";
inline const std::string kPyTrue = "\x88";
inline const std::string kPyNone = "N";
inline const std::string kPyHooks = "ccollections\nOrderedDict\n)R";

inline std::string py_storage(const std::string& type, const std::string& key,
                              std::int64_t elements) {
  return py_tuple({py_text("storage"), py_global("torch", type), py_text(key), py_text("cpu"),
                   py_int(elements)}) +
         "Q";
}

inline std::string py_tensor(const std::string& storage, std::int64_t offset,
                             const std::vector<std::int64_t>& size,
                             const std::vector<std::int64_t>& strides) {
  return py_call("torch._utils", "_rebuild_tensor_v2",
                 {storage, py_int(offset), py_ints(size), py_ints(strides), kPyFalse, kPyHooks});
}

inline std::string py_pickle(const std::string& body) { return "\x80\x02" + body + "."; }

// ---- a zip archive

struct ZipPart {
  std::string name;
  std::string bytes;
  std::uint16_t flags = 0x0800;
  std::uint16_t method = 0;
  std::string local_name = {};  // where it differs
  std::size_t padding = 0;      // of the local header
};

// As PyTorch writes them: 64-bit end record always; `wide` makes every number 64-bit.
inline std::string zip_of(const std::vector<ZipPart>& parts, bool wide = false) {
  constexpr std::uint32_t kFull = 0xFFFFFFFF;
  std::string file;
  std::string directory;
  for (const ZipPart& part : parts) {
    const std::string& local = part.local_name.empty() ? part.name : part.local_name;
    const std::uint64_t header = file.size();
    const auto size = static_cast<std::uint32_t>(part.bytes.size());
    const auto common = [&](std::string& to, std::uint32_t length) {
      append_little_endian(to, std::uint16_t{0});  // version needed
      append_little_endian(to, part.flags);
      append_little_endian(to, part.method);
      append_little_endian(to, std::uint32_t{0});  // date
      append_little_endian(to, std::uint32_t{0});  // checksum
      append_little_endian(to, length);
      append_little_endian(to, length);
    };
    file += "PK\x03\x04";
    common(file, 0);
    append_little_endian(file, static_cast<std::uint16_t>(local.size()));
    append_little_endian(file, static_cast<std::uint16_t>(part.padding));
    file += local + std::string(part.padding, 'Z') + part.bytes;

    std::string extra;
    if (wide) {
      extra += std::string("FB\x01\x00Z", 5);
      append_little_endian(extra, std::uint16_t{1});
      append_little_endian(extra, std::uint16_t{24});
      append_little_endian(extra, std::uint64_t{size});
      append_little_endian(extra, std::uint64_t{size});
      append_little_endian(extra, header);
    }
    directory += "PK\x01\x02";
    append_little_endian(directory, std::uint16_t{0});  // version made by
    common(directory, wide ? kFull : size);
    append_little_endian(directory, static_cast<std::uint16_t>(part.name.size()));
    append_little_endian(directory, static_cast<std::uint16_t>(extra.size()));
    append_little_endian(directory, std::uint16_t{0});  // comment
    append_little_endian(directory, std::uint16_t{0});  // disk
    append_little_endian(directory, std::uint16_t{0});
    append_little_endian(directory, std::uint32_t{0});
    append_little_endian(directory, wide ? kFull : static_cast<std::uint32_t>(header));
    directory += part.name + extra;
  }
  const std::uint64_t directory_at = file.size();
  const std::uint64_t directory_size = directory.size();
  const std::uint64_t count = parts.size();
  file += directory;
  const std::uint64_t end64 = file.size();
  file += "PK\x06\x06";
  append_little_endian(file, std::uint64_t{44});
  append_little_endian(file, std::uint32_t{0});  // versions
  append_little_endian(file, std::uint64_t{0});  // disks
  for (const std::uint64_t number : {count, count, directory_size, directory_at}) {
    append_little_endian(file, number);
  }
  file += "PK\x06\x07";
  append_little_endian(file, std::uint32_t{0});
  append_little_endian(file, end64);
  append_little_endian(file, std::uint32_t{1});
  file += "PK\x05\x06";
  append_little_endian(file, std::uint32_t{0});  // disks
  append_little_endian(file, static_cast<std::uint16_t>(wide ? 0xFFFF : count));
  append_little_endian(file, static_cast<std::uint16_t>(wide ? 0xFFFF : count));
  append_little_endian(file, wide ? kFull : static_cast<std::uint32_t>(directory_size));
  append_little_endian(file, wide ? kFull : static_cast<std::uint32_t>(directory_at));
  append_little_endian(file, std::uint16_t{0});
  return file;
}

// ---- checkpoints

// A checkpoint of today: `pickle` and the bytes of the storages 0, 1, ...
inline std::string torch_zip(const std::string& pickle, const std::vector<std::string>& storages,
                             const std::vector<ZipPart>& more = {}) {
  std::vector<ZipPart> parts = {{"archive/data.pkl", pickle}};
  for (std::size_t i = 0; i < storages.size(); ++i) {
    parts.push_back({"archive/data/" + std::to_string(i), storages[i]});
  }
  parts.insert(parts.end(), more.begin(), more.end());
  return zip_of(parts);
}

struct LegacyStorage {
  std::string key;
  std::uint64_t elements = 0;
  std::string bytes;
};

inline const std::string kLegacyMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

// One of the time before.
inline std::string torch_legacy(const std::string& pickle,
                                const std::vector<LegacyStorage>& storages,
                                const std::string& little_endian = kPyTrue) {
  std::string keys = "](";
  for (const LegacyStorage& storage : storages) keys += py_text(storage.key);
  std::string file = kLegacyMagic + py_pickle("M\xe9\x03") +
                     py_pickle(py_dict({{"protocol_version", "M\xe9\x03"},
                                        {"little_endian", little_endian},
                                        {"type_sizes", "}"}})) +
                     pickle + py_pickle(keys + "e");
  for (const LegacyStorage& storage : storages) {
    append_little_endian(file, storage.elements);
    file += storage.bytes;
  }
  return file;
}

}  // namespace thorns::test
