// The directory of a zip archive whose records are stored as they are, as PyTorch writes it: where
// each record's bytes lie. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/disk.h"

namespace thorns {

struct ZipRecord {
  std::string name;
  std::uint64_t begin = 0;  // of its bytes, from the start of the file
  std::uint64_t size = 0;

  std::uint64_t end() const { return begin + size; }
};

// The records in the order of the directory. The central directory decides, and every record's own
// header must agree with it about the name; records may not overlap. Throws Corrupt with the byte
// in the file, Unsupported for compressed or encrypted records and archives in several volumes.
// Checksums are not looked at: PyTorch can be told to write none.
std::vector<ZipRecord> read_zip_records(const ReadFile& file);

}  // namespace thorns
