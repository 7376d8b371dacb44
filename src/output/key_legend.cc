#include "output/key_legend.h"

#include <fmt/format.h>

#include <algorithm>

namespace thorns {
namespace {

struct Brackets {
  bool slerp = false;
  bool fold = false;
  bool composite = false;
  std::vector<std::string> methods;  // other than slerp
};

// An open bracket of a key.
struct Open {
  char bracket = 0;
  bool in_options = false;  // behind its `;`, or inside another's options
  std::string options;      // the text behind its `;`
};

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// The method that stands first in options, if one does: "linear, normalize=1".
std::string_view method_in(std::string_view options) {
  const std::string_view first = trimmed(options.substr(0, options.find(',')));
  if (first.find_first_of("=(") != std::string_view::npos) return {};
  const bool quoted = first.size() >= 2 && first.front() == '"' && first.back() == '"';
  return quoted ? first.substr(1, first.size() - 2) : first;
}

void count(const Open& open, Brackets& found) {
  if (open.bracket == '[') found.fold = true;
  if (open.bracket == '(') found.composite = true;
  if (open.bracket != '{') return;
  const std::string method(method_in(open.options));
  if (method.empty() || method == "slerp") {
    found.slerp = true;
  } else if (std::find(found.methods.begin(), found.methods.end(), method) == found.methods.end()) {
    found.methods.push_back(method);
  }
}

// One past the quoted text that begins at `begin`.
std::size_t end_of_quotes(std::string_view key, std::size_t begin) {
  std::size_t at = begin + 1;
  while (at < key.size() && key[at] != '"') at += key[at] == '\\' ? 2 : 1;
  return std::min(at + 1, key.size());
}

void scan(std::string_view key, Brackets& found) {
  std::vector<Open> open;
  for (std::size_t at = 0; at < key.size();) {
    const char c = key[at];
    const std::size_t next = c == '"' ? end_of_quotes(key, at) : at + 1;
    if (c == '{' || c == '[' || c == '(') {
      open.push_back({c, !open.empty() && open.back().in_options, {}});
    } else if ((c == '}' || c == ']' || c == ')') && !open.empty()) {
      const Open closed = open.back();
      open.pop_back();
      if (open.empty() || !open.back().in_options) count(closed, found);
    } else if (c == ';' && !open.empty()) {
      open.back().in_options = true;
      at = next;
      continue;
    }
    if (!open.empty() && open.back().in_options) {
      open.back().options += key.substr(at, next - at);
    }
    at = next;
  }
}

}  // namespace

std::vector<LegendLine> key_legend(const std::vector<std::string>& keys) {
  Brackets found;
  for (const std::string& key : keys) scan(key, found);
  std::vector<LegendLine> lines;
  if (found.slerp) lines.push_back({"{}", "SLERP Merge"});
  for (const std::string& method : found.methods) {
    lines.push_back({fmt::format("{{...; {}}}", method), fmt::format("{} merge", method)});
  }
  if (found.fold) lines.push_back({"[]", "PEFT Merge"});
  if (found.composite) lines.push_back({"()", "Composite Model"});
  return lines;
}

}  // namespace thorns
