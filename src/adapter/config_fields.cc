#include "adapter/config_fields.h"

#include <fmt/format.h>

#include <cmath>

#include "thorns/error.h"

namespace thorns {

const Json* ConfigFields::find(const char* name) const {
  const auto field = json_.find(name);
  return field == json_.end() || field->is_null() ? nullptr : &*field;
}

bool ConfigFields::is_set(const char* name) const {
  const Json* field = find(name);
  if (field == nullptr) return false;
  if (field->is_boolean()) return field->get<bool>();
  return !(field->is_array() || field->is_object()) || !field->empty();
}

bool ConfigFields::flag(const char* name, bool absent) const {
  const Json* field = find(name);
  if (field == nullptr) return absent;
  if (!field->is_boolean()) wrong(name, "true or false");
  return field->get<bool>();
}

std::string ConfigFields::text(const char* name, const char* absent) const {
  const Json* field = find(name);
  if (field == nullptr) return absent;
  if (!field->is_string()) wrong(name, "text");
  return field->get<std::string>();
}

double ConfigFields::number(const char* name, double absent) const {
  const Json* field = find(name);
  return field == nullptr ? absent : as_number(*field, name);
}

std::uint64_t ConfigFields::count(const char* name, std::uint64_t absent) const {
  const Json* field = find(name);
  return field == nullptr ? absent : as_count(*field, name);
}

std::uint64_t ConfigFields::seed(const char* name, std::uint64_t absent) const {
  const Json* field = find(name);
  if (field == nullptr) return absent;
  if (!field->is_number_unsigned()) wrong(name, "a whole number from 0");
  return field->get<std::uint64_t>();
}

std::vector<std::string> ConfigFields::texts(const char* name) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (field->is_string()) return {field->get<std::string>()};
  if (!field->is_array()) wrong(name, "a list of names");
  std::vector<std::string> result;
  for (const Json& item : *field) {
    if (!item.is_string()) wrong(name, "a list of names");
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<std::pair<std::string, double>> ConfigFields::numbers(const char* name) const {
  std::vector<std::pair<std::string, double>> all;
  const Json* const pattern = object(name);
  if (pattern == nullptr) return all;
  for (const auto& [key, value] : pattern->items()) {
    all.emplace_back(key, as_number(value, fmt::format("{}.{}", name, key)));
  }
  return all;
}

std::vector<std::pair<std::string, std::uint64_t>> ConfigFields::counts(const char* name) const {
  std::vector<std::pair<std::string, std::uint64_t>> all;
  const Json* const pattern = object(name);
  if (pattern == nullptr) return all;
  for (const auto& [key, value] : pattern->items()) {
    all.emplace_back(key, as_count(value, fmt::format("{}.{}", name, key)));
  }
  return all;
}

void ConfigFields::wrong(const std::string& name, const char* expected) const {
  throw Error(ErrorCode::Corrupt, fmt::format("`{}` in `{}` is not {}", name, path_, expected),
              FilePlace{path_});
}

void ConfigFields::refuse(const std::string& what, const std::string& hint) const {
  throw Error(ErrorCode::Unsupported, fmt::format("`{}`: {}", path_, what), FilePlace{path_}, hint);
}

double ConfigFields::as_number(const Json& value, const std::string& name) const {
  if (!value.is_number() || !std::isfinite(value.get<double>())) wrong(name, "a number");
  return value.get<double>();
}

std::uint64_t ConfigFields::as_count(const Json& value, const std::string& name) const {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0) {
    wrong(name, "a whole number from 1");
  }
  return value.get<std::uint64_t>();
}

const Json* ConfigFields::object(const char* name) const {
  const Json* field = find(name);
  if (field != nullptr && !field->is_object()) wrong(name, "an object");
  return field;
}

}  // namespace thorns
