#include "output/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>

#include "base/json.h"
#include "checkpoint/self_described.h"
#include "output/tokenizer_union.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kHashedPiece = std::size_t{1} << 20;
constexpr std::uint64_t kLargestConfig = std::uint64_t{16} << 20;

}  // namespace

bool stays_inside(std::string_view name) {
  if (name.empty() || name.find('\0') != std::string_view::npos) return false;
  for (std::size_t begin = 0;;) {
    const std::size_t slash = name.find('/', begin);
    const std::string_view part = name.substr(begin, slash - begin);  // npos: to the end
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    begin = slash + 1;
  }
}

std::vector<TokenizerFile> tokenizer_files(Disk& disk, const Plan& plan) {
  std::vector<TokenizerFile> files;
  if (!plan.has_tokenizer || plan.tokenizer_leaf >= plan.leaves.size()) return files;
  const Checkpoint& leaf = *plan.leaves[plan.tokenizer_leaf];
  for (const std::string& name : leaf.tokenizer_files()) {
    if (!stays_inside(name)) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("the tokenizer file `{}` lies outside of its model's folder", name),
                  FilePlace{leaf.path()}, "take the tokenizer of another model (--tokenizer)");
    }
    const std::string path = join_path(leaf.path(), name);
    files.push_back({path, name, disk.stat(path).size});
  }
  if (plan.vocabulary) add_tokens(disk, plan, *plan.vocabulary, files);
  return files;
}

bool has_chat_template(Disk& disk, const Checkpoint& leaf) {
  for (const std::string& name : leaf.tokenizer_files()) {
    // Other files of that name hold templates for other occasions.
    if (name.find("chat_template") != std::string::npos) return true;
    if (name != "tokenizer_config.json") continue;
    try {
      const std::string path = join_path(leaf.path(), name);
      const Json config = parse_json(read_text(disk, path, kLargestConfig), path);
      if (!config.is_object() || config.contains("chat_template")) return true;
    } catch (const Error&) {
      return true;
    }
  }
  // A quote within a text would be escaped: only a field looks so.
  const SelfDescribed* const maker = self_described(leaf);
  const std::vector<MadeFile> made =
      maker == nullptr ? std::vector<MadeFile>{} : maker->made_tokenizer();
  return std::any_of(made.begin(), made.end(), [](const MadeFile& file) {
    return file.text.find("\"chat_template\":") != std::string::npos;
  });
}

std::vector<std::string> folders_of(const std::vector<TokenizerFile>& files) {
  std::set<std::string> folders;  // sorted: a folder before what is in it
  for (const TokenizerFile& file : files) {
    for (std::size_t slash = file.name.find('/'); slash != std::string::npos;
         slash = file.name.find('/', slash + 1)) {
      folders.insert(file.name.substr(0, slash));
    }
  }
  return {folders.begin(), folders.end()};
}

void copy_content(Disk& disk, const TokenizerFile& file, OutputFile& to) {
  const auto from = file.from.empty() ? nullptr : disk.open(file.from);
  const std::uint64_t size = from == nullptr ? 0 : from->size();
  std::vector<std::byte> piece(std::min<std::uint64_t>(kHashedPiece, size));
  std::uint64_t done = 0;
  const auto copy_up_to = [&](std::uint64_t end) {
    for (; done < end; done += piece.size()) {
      piece.resize(std::min<std::uint64_t>(kHashedPiece, end - done));
      from->read(done, piece);
      to.append(piece);
    }
  };
  for (const Insertion& insertion : file.insertions) {
    copy_up_to(insertion.offset);
    to.append(insertion.text);
  }
  copy_up_to(size);
}

}  // namespace thorns
