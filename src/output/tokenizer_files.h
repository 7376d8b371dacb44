// The tokenizer files of the output: copies of one leaf's, with the tokens that others add to them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "output/output_file.h"
#include "plan/plan.h"

namespace thorns {

struct Insertion {
  std::size_t offset = 0;  // in the file that is copied
  std::string text;
};
struct TokenizerFile {
  std::string from;  // path; empty where nothing is copied
  std::string name;  // relative to the output folder; may hold `/`
  std::uint64_t size = 0;
  std::vector<Insertion> insertions = {};  // ascending
};

// Whether `name` is a relative path that stays inside the folder it is joined to.
bool stays_inside(std::string_view name);

// What will be written, with sizes; empty where the plan has no tokenizer. Throws Corrupt for a
// name that leaves its folder, NotFound for a file that is gone, and what add_tokens throws.
std::vector<TokenizerFile> tokenizer_files(Disk& disk, const Plan& plan);

// The file that transformers reads a chat template from, unless tokenizer_config.json has one.
inline constexpr const char* kChatTemplateFile = "chat_template.jinja";

// Whether a leaf's tokenizer brings a chat template. One that cannot be read brings one, so that
// none is put over it.
bool has_chat_template(Disk& disk, const Checkpoint& leaf);

// The folders inside the output that `files` need, parents first.
std::vector<std::string> folders_of(const std::vector<TokenizerFile>& files);

// Appends the file's content to `to`, in pieces.
void copy_content(Disk& disk, const TokenizerFile& file, OutputFile& to);

}  // namespace thorns
