#include "adapter/patterns.h"

#include <fmt/format.h>

#include <regex>
#include <string_view>

#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostKeyLength = 512;
constexpr std::size_t kMostNameLength = 1024;  // longer module names match no expression
constexpr std::size_t kMostExpressions = 256;  // plain keys are not counted
constexpr std::string_view kSpecial = "\\^$*+?()[]{}|";

// libstdc++'s matcher backtracks by recursion, which an unlucky expression turns into a stack
// overflow or an endless run. Its breadth-first matcher needs neither; it has no back references.
#ifdef __GLIBCXX__
constexpr auto kSyntax = std::regex_constants::ECMAScript | std::regex_constants::nosubs |
                         std::regex_constants::__polynomial;
#else
constexpr auto kSyntax = std::regex_constants::ECMAScript | std::regex_constants::nosubs;
#endif

// A dot stands for any character, also in a key without other special characters.
bool plain_equal(std::string_view key, std::string_view text) {
  if (key.size() != text.size()) return false;
  for (std::size_t i = 0; i < key.size(); ++i) {
    if (key[i] != '.' && key[i] != text[i]) return false;
  }
  return true;
}

}  // namespace

struct PatternList::Pattern {
  std::string key;
  std::string_view plain() const {  // without a leading ^
    return std::string_view(key).substr(anchored ? 1 : 0);
  }
  bool anchored = false;
  std::unique_ptr<std::regex> expression;  // null for a plain key
  bool used = false;

  bool matches(const std::string& module) const {
    if (expression) {
      return module.size() <= kMostNameLength && std::regex_match(module, *expression);
    }
    if (anchored) return plain_equal(plain(), module);
    if (key.size() > module.size()) return false;
    const std::size_t begin = module.size() - key.size();
    return (begin == 0 || module[begin - 1] == '.') &&
           plain_equal(key, std::string_view(module).substr(begin));
  }
};

PatternList::PatternList(const std::vector<std::string>& keys, const std::string& where) {
  const auto refuse = [&](const std::string& key, const std::string& why) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("the key `{}` in the {} cannot be used: {}", key, where, why), {},
                "write the names of the modules in full instead");
  };
  std::size_t expressions = 0;
  for (const std::string& key : keys) {
    if (key.size() > kMostKeyLength) {
      refuse(key.substr(0, 40) + "...",
             fmt::format("it has {} characters, at most {} are read", key.size(), kMostKeyLength));
    }
    Pattern pattern;
    pattern.key = key;
    const std::string_view text = key;
    pattern.anchored = text.starts_with('^') && text.find_first_of(kSpecial, 1) == text.npos;
    if (!pattern.anchored && text.find_first_of(kSpecial) != text.npos) {
      if (++expressions > kMostExpressions) {
        refuse(key, fmt::format("it is one of more than {} regular expressions", kMostExpressions));
      }
      // A counted repetition multiplies the matcher's states: short text, long work.
      if (text.find('{') != text.npos) refuse(key, "it holds a counted repetition");
      // A lookahead is a match of its own at every character, and again within another one.
      if (text.find("(?=") != text.npos || text.find("(?!") != text.npos) {
        refuse(key, "it looks ahead");
      }
      try {
        pattern.expression =
            std::make_unique<std::regex>(fmt::format("(.*\\.)?({})", key), kSyntax);
      } catch (const std::regex_error&) {
        refuse(key, "it is not a regular expression that thorns understands");
      }
    }
    patterns_.push_back(std::move(pattern));
  }
}

PatternList::~PatternList() = default;
PatternList::PatternList(PatternList&&) noexcept = default;

std::optional<std::size_t> PatternList::first_match(const std::string& module) {
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    if (!patterns_[i].matches(module)) continue;
    patterns_[i].used = true;
    return i;
  }
  return std::nullopt;
}

std::vector<std::string> PatternList::unused() const {
  std::vector<std::string> keys;
  for (const Pattern& pattern : patterns_) {
    if (!pattern.used) keys.push_back(pattern.key);
  }
  return keys;
}

}  // namespace thorns
