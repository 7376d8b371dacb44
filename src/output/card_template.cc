#include "output/card_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

class Filler {
 public:
  Filler(const std::string& text, const std::string& path, const CardFields& fields)
      : text_(text), path_(path), fields_(fields) {}

  std::string run() {
    std::size_t at = 0;
    while (at < text_.size()) {
      const std::size_t open = std::min(text_.find("{{", at), text_.size());
      emit(at, open);
      at = open == text_.size() ? open : tag(open);
    }
    if (!sections_.empty()) {
      fail(sections_.back().at, fmt::format("the section `{}` does not end", sections_.back().name),
           fmt::format("end it with {{{{/{}}}}}", sections_.back().name));
    }
    return std::move(result_);
  }

 private:
  struct Section {
    std::string name;
    std::size_t at = 0;
    bool shown = true;  // with all sections around it
  };

  bool shown() const { return sections_.empty() || sections_.back().shown; }

  void emit(std::size_t begin, std::size_t end) {
    if (shown()) result_.append(text_, begin, end - begin);
  }

  // Reads the tag at `open`; where the text goes on.
  std::size_t tag(std::size_t open) {
    const std::size_t close = text_.find("}}", open);
    if (close == std::string::npos) {
      fail(open, "a tag does not end", "tags are {{name}}, {{#name}} and {{/name}}");
    }
    const std::string inside = text_.substr(open + 2, close - open - 2);
    const bool section = inside.starts_with('#') || inside.starts_with('/');
    const std::string name = inside.substr(section ? 1 : 0);
    const auto field = fields_.find(name);
    if (field == fields_.end()) fail_unknown(open, name);
    const std::size_t end = close + 2;
    if (!section) {
      if (shown()) result_ += field->second;
      return end;
    }
    const bool alone = stands_alone(open, end);
    if (inside[0] == '#') {
      sections_.push_back({name, open, shown() && !field->second.empty()});
    } else {
      if (sections_.empty() || sections_.back().name != name) {
        fail(open, fmt::format("{{{{/{}}}}} ends no section that is open here", name),
             sections_.empty() ? "" : fmt::format("`{}` is open", sections_.back().name));
      }
      sections_.pop_back();
    }
    return alone ? std::min(text_.find('\n', end), text_.size() - 1) + 1 : end;
  }

  bool stands_alone(std::size_t begin, std::size_t end) const {
    return (begin == 0 || text_[begin - 1] == '\n') && (end == text_.size() || text_[end] == '\n');
  }

  [[noreturn]] void fail_unknown(std::size_t at, const std::string& name) const {
    std::vector<std::string> names;
    for (const auto& [known, text] : fields_) names.push_back(known);
    const std::string near = did_you_mean(name, names);
    fail(at, fmt::format("the card has no field `{}`", name),
         near.empty() ? "fields: " + list_text(names, names.size()) : near);
  }

  [[noreturn]] void fail(std::size_t at, const std::string& message,
                         const std::string& hint) const {
    const std::string_view before = std::string_view(text_).substr(0, at);
    FilePlace place{path_};
    place.line = 1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
    place.column =
        at - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1) + 1;
    throw Error(ErrorCode::BadRecipe, message, place, hint);
  }

  const std::string& text_;
  const std::string& path_;
  const CardFields& fields_;
  std::vector<Section> sections_;
  std::string result_;
};

}  // namespace

std::string fill_template(const std::string& text, const std::string& path,
                          const CardFields& fields) {
  return Filler(text, path, fields).run();
}

}  // namespace thorns
