// Changes JSON documents value by value, so that what comes out is still parsed and the readers
// behind the parser are reached. For the custom mutators of the targets that read JSON.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/mutate.h"

namespace thorns::fuzz {

using MutableJson = nlohmann::ordered_json;

inline constexpr int kDeepest = 64;  // nesting that a change keeps

// `document` and all values in it.
inline void collect_values(MutableJson& document, std::vector<MutableJson*>& values) {
  values.push_back(&document);
  if (!document.is_structured()) return;
  for (MutableJson& value : document) collect_values(value, values);
}

inline MutableJson odd_value(Random& random) {
  static const std::array<MutableJson, 20> kOdd = {nullptr,
                                                   true,
                                                   false,
                                                   0,
                                                   1,
                                                   -1,
                                                   3,
                                                   0.5,
                                                   -1.5,
                                                   1e300,
                                                   std::uint64_t{1} << 63,
                                                   "",
                                                   "x",
                                                   "../x",
                                                   std::string(64, 'a'),
                                                   std::string(300, 'x'),
                                                   MutableJson::array(),
                                                   MutableJson::object(),
                                                   MutableJson::array({0, 1}),
                                                   MutableJson::array({"x", "y"})};
  return kOdd[below(random, kOdd.size())];
}

inline void mutate_members(MutableJson& value, const MutableJson& other, Random& random) {
  if (value.empty()) return;
  const std::size_t at = below(random, value.size());
  if (value.is_array()) {
    if (below(random, 2) == 0) {
      value.erase(at);
    } else {
      value.push_back(MutableJson(value[at]));
    }
    return;
  }
  auto member = value.begin();
  std::advance(member, static_cast<std::ptrdiff_t>(at));
  const std::string name = member.key();
  if (below(random, 2) == 0) {
    value.erase(name);
  } else {
    value[mutated_bytes(name, name.size() + 8)] = MutableJson(other);
  }
}

// One change of one value of the document `text`; of its bytes where it is none.
inline std::string mutated_json(const std::string& text, std::size_t most, Random& random) {
  const auto shallow = [](int depth, MutableJson::parse_event_t, MutableJson&) {
    return depth < kDeepest;
  };
  MutableJson document = MutableJson::parse(text, shallow, false);
  if (document.is_discarded()) return mutated_bytes(text, most);
  std::vector<MutableJson*> values;
  collect_values(document, values);
  MutableJson& value = *values[below(random, values.size())];
  const MutableJson other = *values[below(random, values.size())];
  switch (below(random, 5)) {
    case 0:
      value = odd_value(random);
      break;
    case 1:
      value = other;
      break;
    case 2:
      if (value.is_string()) {
        const auto& old = value.get_ref<const std::string&>();
        value = mutated_bytes(old, old.size() + 16);
      } else if (value.is_number_integer()) {
        value = value.get<std::uint64_t>() + below(random, 5) - 2;
      } else {
        value = odd_value(random);
      }
      break;
    default:
      if (value.is_structured()) {
        mutate_members(value, other, random);
      } else {
        value = other;
      }
  }
  return document.dump(-1, ' ', false, MutableJson::error_handler_t::replace);
}

// The same for one of the documents that `separator` separates in an input; now and then the bytes
// of the whole are changed instead.
inline std::size_t mutate_documents(std::uint8_t* data, std::size_t size, std::size_t most,
                                    unsigned int seed, const std::string& separator = "\n---\n") {
  Random random(seed);
  const std::string whole(reinterpret_cast<const char*>(data), size);
  if (below(random, 8) == 0) return give(mutated_bytes(whole, most), data, most);
  std::vector<std::size_t> begins = {0};
  for (std::size_t at = whole.find(separator); at != std::string::npos;
       at = whole.find(separator, begins.back())) {
    begins.push_back(at + separator.size());
  }
  const std::size_t begin = begins[below(random, begins.size())];
  const std::size_t end = std::min(whole.find(separator, begin), whole.size());
  const std::string changed =
      mutated_json(whole.substr(begin, end - begin), most - (size - (end - begin)), random);
  return give(whole.substr(0, begin) + changed + whole.substr(end), data, most);
}

}  // namespace thorns::fuzz
