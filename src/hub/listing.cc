#include "hub/listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/json.h"
#include "base/text.h"
#include "hub/repository.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostFiles = 100'000;
constexpr std::size_t kLongestName = 1000;  // bytes
constexpr std::size_t kLongestPart = 255;
constexpr std::size_t kDeepest = 16;                        // folders
constexpr std::uint64_t kLargest = std::uint64_t{1} << 50;  // bytes of one file
constexpr std::size_t kJsonDepth = 32;

[[noreturn]] void refuse(const std::string& place, const std::string& why) {
  throw Error(ErrorCode::Corrupt, fmt::format("the Hub's answer makes no sense: {}", why),
              FilePlace{place});
}

// What may come from a stranger into a message: one line of plain characters, not too long.
std::string quoted(std::string text) {
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text;
}

bool is_safe_name(const std::string& name) {
  if (name.empty() || name.size() > kLongestName || !is_utf8(name)) return false;
  std::size_t parts = 0;
  for (std::size_t begin = 0; begin <= name.size(); ++parts) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = std::string_view(name).substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > kLongestPart) return false;
    begin = end + 1;
  }
  return parts <= kDeepest && std::none_of(name.begin(), name.end(), [](char c) {
           return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\';
         });
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// The field `name` as text; empty where it is not there or something else.
std::string text_field(const Json& object, const char* name) {
  if (!object.is_object()) return {};
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

std::uint64_t size_field(const Json& object, const std::string& file, const std::string& place) {
  const auto field = object.find("size");
  if (field == object.end() || !field->is_number_unsigned() ||
      field->get<std::uint64_t>() > kLargest) {
    refuse(place, fmt::format("the size of `{}` is no size of a file", file));
  }
  return field->get<std::uint64_t>();
}

}  // namespace

std::string read_commit(const std::string& answer, const std::string& place) {
  std::string commit = text_field(parse_json(answer, place, 0, kJsonDepth), "sha");
  if (!is_commit(commit)) refuse(place, "it names no commit");
  return commit;
}

void read_tree_page(const std::string& answer, const std::string& place,
                    std::vector<HubFile>& files) {
  const Json page = parse_json(answer, place, 0, kJsonDepth);
  if (!page.is_array()) refuse(place, "it is no list of files");
  for (const Json& entry : page) {
    if (text_field(entry, "type") != "file") continue;  // folders
    HubFile file{text_field(entry, "path"), 0, text_field(entry, "oid")};
    if (!is_safe_name(file.name)) {
      refuse(place, fmt::format("`{}` is no name of a file", quoted(file.name)));
    }
    file.size = size_field(entry, file.name, place);
    bool known = is_commit(file.hash);  // a Git hash, too
    if (const auto large = entry.find("lfs"); large != entry.end() && large->is_object()) {
      file.hash = text_field(*large, "oid");
      file.size = size_field(*large, file.name, place);
      known = is_sha256(file.hash);
    }
    if (!known) refuse(place, fmt::format("the hash of `{}` is none", file.name));
    if (files.size() >= kMostFiles) refuse(place, fmt::format("more than {} files", kMostFiles));
    files.push_back(std::move(file));
  }
}

void sort_tree(std::vector<HubFile>& files, const std::string& place) {
  std::sort(files.begin(), files.end(),
            [](const HubFile& a, const HubFile& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(files.begin(), files.end(),
                         [](const HubFile& a, const HubFile& b) { return a.name == b.name; });
  if (twice != files.end()) refuse(place, fmt::format("`{}` is listed twice", twice->name));
}

std::string next_page(const std::string& link_header) {
  for (std::size_t at = 0; (at = link_header.find('<', at)) != std::string::npos;) {
    const std::size_t end = link_header.find('>', at);
    if (end == std::string::npos) return {};
    const std::size_t stop = std::min(link_header.find('<', end), link_header.size());
    const std::string_view parameters = std::string_view(link_header).substr(end, stop - end);
    if (parameters.find("rel=\"next\"") != std::string_view::npos ||
        parameters.find("rel=next") != std::string_view::npos) {
      return link_header.substr(at + 1, end - at - 1);
    }
    at = stop;
  }
  return {};
}

}  // namespace thorns
