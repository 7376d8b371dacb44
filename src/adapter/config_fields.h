// Typed access to the fields of an adapter_config.json. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace thorns {

// A field that is absent or null has the value `absent`. Corrupt, naming the field and the file,
// for one of another type.
class ConfigFields {
 public:
  ConfigFields() = default;
  ConfigFields(Json json, std::string path) : json_(std::move(json)), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const Json* find(const char* name) const;  // null where absent or null
  // Whether the field switches something on: neither absent, null, false nor empty.
  bool is_set(const char* name) const;

  bool flag(const char* name, bool absent = false) const;
  std::string text(const char* name, const char* absent) const;
  double number(const char* name, double absent) const;                  // finite
  std::uint64_t count(const char* name, std::uint64_t absent) const;     // from 1
  std::uint64_t seed(const char* name, std::uint64_t absent = 0) const;  // from 0
  std::vector<std::string> texts(const char* name) const;                // a list, or one text
  std::vector<std::pair<std::string, double>> numbers(const char* name) const;  // in file order
  std::vector<std::pair<std::string, std::uint64_t>> counts(const char* name) const;

  [[noreturn]] void wrong(const std::string& name, const char* expected) const;
  // Unsupported: the file, what, and a hint.
  [[noreturn]] void refuse(const std::string& what, const std::string& hint = {}) const;

 private:
  double as_number(const Json& value, const std::string& name) const;
  std::uint64_t as_count(const Json& value, const std::string& name) const;
  const Json* object(const char* name) const;

  Json json_;
  std::string path_;
};

}  // namespace thorns
