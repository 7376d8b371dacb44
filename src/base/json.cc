#include "base/json.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "thorns/error.h"

template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace thorns {
namespace {

[[noreturn]] void refuse(const std::string& path, std::size_t at) {
  throw Error(ErrorCode::Corrupt, fmt::format("`{}` is not valid JSON", path), FilePlace{path, at});
}

}  // namespace

Json parse_json(const std::string& text, const std::string& path, std::size_t base,
                std::size_t depth) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto watch = [&](int level, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (static_cast<std::size_t>(level) >= depth) {
          throw Error(ErrorCode::Corrupt,
                      fmt::format("JSON in `{}` is nested more than {} deep", path, depth),
                      FilePlace{path, base});
        }
        names.emplace_back();
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end:
        names.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!names.back().insert(parsed.get<std::string>()).second) {
          throw Error(
              ErrorCode::Corrupt,
              fmt::format("the name `{}` stands twice in `{}`", parsed.get<std::string>(), path),
              FilePlace{path, base});
        }
        break;
      case Json::parse_event_t::value:
        break;
    }
    return true;
  };
  try {
    Json value = Json::parse(text, watch);
    // The parser takes a NUL for the end of the text and would not look at what follows.
    if (const std::size_t nul = text.find('\0'); nul != std::string::npos) {
      refuse(path, base + nul);
    }
    return value;
  } catch (const Json::parse_error& error) {
    refuse(path, base + (error.byte > 0 ? error.byte - 1 : 0));
  } catch (const Json::exception&) {  // a number out of range
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` holds a number that is too large", path),
                FilePlace{path, base});
  }
}

}  // namespace thorns
