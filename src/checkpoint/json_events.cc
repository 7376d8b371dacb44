#include "checkpoint/json_events.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "thorns/error.h"

namespace thorns {
namespace {

// Walks over the text and shows the parser's position to whoever holds `shown`.
struct Cursor {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  const char** shown;

  reference operator*() const { return *at; }
  Cursor& operator++() {
    *shown = ++at;
    return *this;
  }
  bool operator==(const Cursor& other) const { return at == other.at; }
  bool operator!=(const Cursor& other) const { return at != other.at; }
};

// Translates the parser's many callbacks.
class Translator {
 public:
  using Value = nlohmann::json;

  explicit Translator(JsonEvents& events) : events_(events) {}

  bool null() { return pass({JsonScalar::Kind::Null}); }
  bool boolean(bool value) { return pass({JsonScalar::Kind::Boolean, value ? 1U : 0U}); }
  bool number_integer(std::int64_t value) {
    return pass({JsonScalar::Kind::OtherNumber, 0, nullptr, static_cast<double>(value)});
  }
  bool number_unsigned(std::uint64_t value) {
    return pass({JsonScalar::Kind::Unsigned, value, nullptr, static_cast<double>(value)});
  }
  bool number_float(double value, const std::string&) {
    return pass({JsonScalar::Kind::OtherNumber, 0, nullptr, value});
  }
  bool string(std::string& value) { return pass({JsonScalar::Kind::Text, 0, &value}); }
  bool binary(Value::binary_t&) { return false; }  // never in text
  bool start_object(std::size_t) { return events_.begin_object(), true; }
  bool key(std::string& name) { return events_.key(name), true; }
  bool end_object() { return events_.end_object(), true; }
  bool start_array(std::size_t) { return events_.begin_array(), true; }
  bool end_array() { return events_.end_array(), true; }
  bool parse_error(std::size_t read, const std::string&, const nlohmann::detail::exception&) {
    read_ = read;
    return false;
  }

  // After an error: bytes read, the end of the text counted as one.
  std::size_t read() const { return read_; }

 private:
  bool pass(const JsonScalar& value) { return events_.scalar(value), true; }
  JsonEvents& events_;
  std::size_t read_ = 0;
};

}  // namespace

std::size_t JsonEvents::quote_position() const {
  // `*now_` is just behind the closing quote; a quote before an odd number of backslashes is
  // escaped and belongs to the text.
  const char* at = *now_ - 1;
  while (at > begin_) {
    --at;
    if (*at != '"') continue;
    const char* slash = at;
    while (slash > begin_ && slash[-1] == '\\') --slash;
    if ((at - slash) % 2 == 0) break;
  }
  return static_cast<std::size_t>(at - begin_);
}

void read_json_events(std::string_view text, const std::string& path, std::size_t base,
                      JsonEvents& events) {
  const auto refuse = [&](std::size_t at, const char* why) {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` does not hold valid JSON: {}", path, why),
                FilePlace{path, base + at});
  };
  // The parser below skips a byte order mark and takes a NUL for the end of the text.
  if (text.starts_with("\xEF\xBB\xBF")) refuse(0, "it begins with a byte order mark");
  if (const std::size_t nul = text.find('\0'); nul != text.npos) refuse(nul, "it has a NUL byte");

  const char* now = text.data();
  events.begin_ = text.data();
  events.now_ = &now;
  const Cursor first{text.data(), &now};
  const Cursor last{text.data() + text.size(), &now};
  Translator translator(events);
  if (!nlohmann::json::sax_parse(first, last, &translator)) {
    if (translator.read() > text.size()) refuse(text.size(), "it ends too early");
    refuse(translator.read() > 0 ? translator.read() - 1 : 0, "unexpected text here");
  }
}

void refuse_lfs_pointer(std::string_view text, const std::string& path) {
  if (!text.starts_with("version https://git-lfs")) return;
  throw Error(ErrorCode::Corrupt,
              fmt::format("`{}`: this is a Git-LFS pointer, not the file", path),
              FilePlace{path, 0}, "run `git lfs pull` in its folder, or fetch the file again");
}

}  // namespace thorns
