#include "insight/tensor_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/text.h"

namespace thorns {
namespace {

constexpr std::size_t kMostDigits = 9;
constexpr std::size_t kMostRuns = 4;  // spelled out of a set of numbers

using Numbers = std::set<std::uint64_t>;

bool is_number(std::string_view part) {
  return !part.empty() && part.size() <= kMostDigits &&
         part.find_first_not_of("0123456789") == part.npos && (part == "0" || part[0] != '0');
}

// "0..31", "0..3,8"
std::string set_text(const Numbers& numbers) {
  std::string text;
  std::size_t runs = 0;
  for (auto at = numbers.begin(); at != numbers.end();) {
    if (runs++ == kMostRuns) return text + ",...";
    const std::uint64_t first = *at;
    std::uint64_t last = first;
    for (++at; at != numbers.end() && *at == last + 1; ++at) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", first);
    if (last > first) text += fmt::format("{}{}", last == first + 1 ? "," : "..", last);
  }
  return text;
}

using Words = std::vector<std::optional<std::string>>;

// A name with its numbers taken out.
struct Pattern {
  Words words;  // none where a number stood
  std::vector<std::uint64_t> numbers;
};

Pattern pattern_of(std::string_view name, bool fold) {
  Pattern pattern;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part(name.substr(begin, end - begin));
    const bool number = fold && is_number(part);
    pattern.words.push_back(number ? std::nullopt : std::optional(part));
    if (number) pattern.numbers.push_back(std::stoull(part));
    begin = end + 1;
  }
  return pattern;
}

std::string name_text(const Words& words, const std::vector<Numbers>& sets) {
  std::string text;
  auto set = sets.begin();
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += '.';
    if (words[i]) {
      text += *words[i];
    } else {
      text += set->size() == 1 ? set_text(*set) : fmt::format("{{{}}}", set_text(*set));
      ++set;
    }
  }
  return text;
}

}  // namespace

std::vector<TensorGroup> group_tensors(const std::vector<GroupedTensor>& tensors, bool fold) {
  struct Row {
    TensorGroup group;
    std::string first;  // of its names
    std::vector<Numbers> numbers;
  };
  using Key = std::tuple<Words, std::vector<std::uint64_t>, std::string>;
  std::map<Key, Row> rows;
  for (const GroupedTensor& tensor : tensors) {
    Pattern pattern = pattern_of(tensor.name, fold);
    Row& row = rows[{std::move(pattern.words), tensor.shape, tensor.type}];
    row.numbers.resize(pattern.numbers.size());
    for (std::size_t i = 0; i < pattern.numbers.size(); ++i) {
      row.numbers[i].insert(pattern.numbers[i]);
    }
    if (row.group.tensors == 0 || natural_less(tensor.name, row.first)) row.first = tensor.name;
    row.group.shape = tensor.shape;
    row.group.type = tensor.type;
    ++row.group.tensors;
    row.group.elements += tensor.elements;
    row.group.bytes += tensor.bytes;
  }
  std::vector<Row> order;
  for (auto& [key, row] : rows) {
    row.group.name = name_text(std::get<0>(key), row.numbers);
    order.push_back(std::move(row));
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Row& a, const Row& b) { return natural_less(a.first, b.first); });
  std::vector<TensorGroup> groups;
  for (Row& row : order) groups.push_back(std::move(row.group));
  return groups;
}

}  // namespace thorns
