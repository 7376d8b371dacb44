#include "cli/key_drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/columns.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kShareWidth = 9;   // "100.0 %  "
constexpr std::size_t kLeastLabel = 24;  // columns kept for a label before the tree is drawn closer

struct Strokes {
  const char* along;   // beside the parts of one that goes on below
  const char* branch;  // to a part that others follow
  const char* corner;  // to the last one
  const char* level;   // between a stroke and what it leads to
};
constexpr Strokes kUnicode = {"│", "├", "└", "─"};
constexpr Strokes kAscii = {"|", "|", "`", "-"};

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

// Columns of one level of the tree: fewer where the deepest part would have no room for its label.
std::size_t step_for(std::size_t deepest, std::size_t width) {
  std::size_t step = 3;
  while (step > 1 && kShareWidth + step * deepest + kLeastLabel > width) --step;
  return step;
}

// Whether another part of the same parent comes after parts[at].
bool is_followed(const std::vector<KeyPart>& parts, std::size_t at) {
  for (std::size_t next = at + 1; next < parts.size(); ++next) {
    if (parts[next].depth <= parts[at].depth) return parts[next].depth == parts[at].depth;
  }
  return false;
}

std::string shares_text(const char* heading, std::vector<KeyShare> shares, std::size_t width) {
  if (shares.empty()) return {};
  std::stable_sort(shares.begin(), shares.end(),
                   [](const KeyShare& a, const KeyShare& b) { return a.share > b.share; });
  std::string text = std::string("\n") + heading + "\n";
  for (const KeyShare& one : shares) {
    text += pad_left(percent(one.share), kShareWidth - 2) + "  " +
            shorten(printable_line(one.name), width - kShareWidth) + "\n";
  }
  return text;
}

}  // namespace

std::string draw_key(const KeyReport& report, std::size_t width, bool unicode) {
  width = std::max(width, kShareWidth + kLeastLabel);
  const Strokes& strokes = unicode ? kUnicode : kAscii;
  std::size_t deepest = 0;
  for (const KeyPart& part : report.parts) deepest = std::max(deepest, part.depth);
  const std::size_t step = step_for(deepest, width);
  const auto stroke = [&](const char* first, const char* rest) {
    std::string text = first;
    for (std::size_t i = 1; i < step; ++i) text += i + 1 == step ? " " : rest;
    return text;
  };
  std::string text;
  std::vector<std::string> lead;  // per level what stands beside the parts below it
  for (std::size_t i = 0; i < report.parts.size(); ++i) {
    const KeyPart& part = report.parts[i];
    std::string line = pad_left(percent(part.share), kShareWidth - 2) + "  ";
    if (part.depth > 0) {
      const bool followed = is_followed(report.parts, i);
      lead.resize(part.depth - 1);
      for (const std::string& piece : lead) line += piece;
      line += stroke(followed ? strokes.branch : strokes.corner, strokes.level);
      lead.push_back(stroke(followed ? strokes.along : " ", " "));
    }
    const std::size_t used = kShareWidth + step * part.depth;
    text += line + shorten(printable_line(part.label), width > used ? width - used : 1) + "\n";
  }
  return text + shares_text("Models", report.model_shares, width) +
         shares_text("Adapters", report.adapter_shares, width) +
         "\nShares are those of the key's weights; `thorns check` measures what arrives.\n";
}

}  // namespace thorns::cli
