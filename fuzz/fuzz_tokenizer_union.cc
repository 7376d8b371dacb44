// The tokenizer files of two models whose token rows are matched by text, and what is written of
// them. The input's parts, behind lines `---`: two letters that say what each model's tokens are in
// (j tokenizer.json, v vocab.json, s tokenizer.model), then that file, tokenizer_config.json and
// added_tokens.json, `-` where there is none, of one model and of the other. What is written is
// read again and has every token in its row; no two rows of a model come to one place.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/tokens.h"
#include "output/output_file.h"
#include "output/tokenizer_files.h"
#include "plan/match.h"
#include "plan/vocabulary.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "support/memory_disk.h"
#include "support/output_plan.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

constexpr std::uint64_t kTokenRows = 24;
constexpr const char* kEmbedding = "model.embed_tokens.weight";

std::string main_name(char kind) {
  return kind == 'v' ? "vocab.json" : kind == 's' ? "tokenizer.model" : "tokenizer.json";
}

// Gives a model its files and an embedding of kTokenRows.
thorns::LeafView dress(thorns::MemoryDisk& disk, thorns::Checkpoint& leaf, char kind,
                       const std::string* parts) {
  auto& model = static_cast<thorns::test::FakeCheckpoint&>(leaf);
  const std::string names[] = {main_name(kind), "tokenizer_config.json", "added_tokens.json"};
  for (std::size_t i = 0; i < 3; ++i) {
    if (parts[i] == "-") continue;
    disk.add_file(model.path_ + "/" + names[i], parts[i]);
    model.tokenizer_.push_back(names[i]);
  }
  model.tensors_ = {thorns::test::info(kEmbedding, thorns::Dtype::F32, {kTokenRows, 1})};
  thorns::LeafView view;
  view.source = &model;
  view.by_name[kEmbedding] = 0;
  return view;
}

void check_rows(const thorns::LeafView& view) {
  const auto runs = view.rows.find(kEmbedding);
  if (runs == view.rows.end()) return;
  std::uint64_t end = 0;
  for (const thorns::RowRun& run : *runs->second) {
    require(run.count > 0 && run.to >= end && run.from + run.count <= kTokenRows);
    end = run.to + run.count;
  }
}

// The tokens of the tokenizer that the plan's result gets.
thorns::TokenList written_tokens(thorns::MemoryDisk& disk, const thorns::Plan& plan) {
  disk.add_folder("out");
  std::vector<std::string> names;
  std::atomic<std::uint64_t> bytes = 0;
  const std::vector<thorns::TokenizerFile> files = tokenizer_files(disk, plan);
  require(folders_of(files).empty());
  for (const thorns::TokenizerFile& file : files) {
    thorns::OutputFile to(disk, "out", file.name, file.size, bytes);
    copy_content(disk, file, to);
    require(to.finish().size == file.size);
    names.push_back(file.name);
  }
  return thorns::read_tokens(disk, "out", names);
}

void check_written(thorns::MemoryDisk& disk, const thorns::Plan& plan) {
  const thorns::Vocabulary& vocabulary = *plan.vocabulary;
  thorns::TokenList list;
  try {
    list = written_tokens(disk, plan);
  } catch (const thorns::Error& error) {
    require(error.code() == thorns::ErrorCode::Unsupported);  // "cannot take the tokens"
    return;
  }
  std::set<std::pair<std::uint64_t, std::string>> found;
  for (const thorns::ModelToken& token : list.tokens) found.emplace(token.id, token.text);
  const thorns::Checkpoint& base = *plan.leaves[vocabulary.base];
  for (const auto& token : read_tokens(disk, base.path(), base.tokenizer_files()).tokens) {
    require(found.contains({token.id, token.text}));
  }
  std::uint64_t next = vocabulary.base_end;
  for (const auto& added : vocabulary.added) {
    require(added.token.id == next++ && added.id_there < kTokenRows);
    require(found.contains({added.token.id, added.token.text}));
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = thorns::fuzz::split_parts(data, size, 7);
  const std::string kinds = parts[0] + "jj";
  thorns::Plan plan = thorns::test::small_plan("/inputs");
  plan.has_tokenizer = true;
  plan.warnings.clear();
  thorns::MemoryDisk disk;
  std::vector<thorns::LeafView> views;
  for (std::size_t i = 0; i < 2; ++i) {
    views.push_back(dress(disk, *plan.leaves[i], kinds[i], &parts[1 + 3 * i]));
  }
  align_by_text(disk, plan, views);  // says what it cannot do in warnings
  for (const thorns::LeafView& view : views) check_rows(view);
  if (plan.vocabulary) check_written(disk, plan);
  for (const auto& leaf : plan.leaves) has_chat_template(disk, *leaf);
  return 0;
}
