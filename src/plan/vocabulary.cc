#include "plan/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/hash.h"
#include "base/text.h"
#include "checkpoint/self_described.h"

namespace thorns {
namespace {

constexpr std::size_t kMostTokensNamed = 5;  // tokens spelled out in a warning
// Models with fewer tokens in common than this hardly had one vocabulary before.
constexpr double kHardlyAny = 0.5;

// The rows of a leaf's token tensors: of the one that has most.
std::uint64_t token_rows(const LeafView& view) {
  std::uint64_t rows = 0;
  for (const auto& [name, index] : view.by_name) {
    const auto& shape = view.source->tensors()[index].shape;
    if (has_token_rows(name) && !shape.empty()) rows = std::max(rows, shape[0]);
  }
  return rows;
}

class Aligner {
 public:
  Aligner(Disk& disk, Plan& plan, std::vector<LeafView>& views)
      : disk_(disk), plan_(plan), views_(views) {}

  void run() {
    hashes_ = hash_all();
    std::set<std::string> different(hashes_.begin(), hashes_.end());
    different.erase("");
    if (different.size() < 2) return;
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      if (hashes_[i].empty()) return stay_by_number(i, "has no tokenizer that is read");
    }
    vocabulary_.base = plan_.tokenizer_leaf;
    if (made_file(*plan_.leaves[vocabulary_.base])) {
      return stay_by_number(vocabulary_.base, "has its own in a GGUF file, which takes no others");
    }
    vocabulary_.leaves.resize(views_.size());
    std::map<std::string, std::size_t> known;  // the first leaf with these files
    std::size_t leaf = vocabulary_.base;
    try {
      add_base();
      known[hashes_[leaf]] = leaf;
      for (leaf = 0; leaf < views_.size(); ++leaf) {
        const auto [first, is_new] = known.emplace(hashes_[leaf], leaf);
        if (is_new) add(leaf);
      }
    } catch (const Error& error) {
      return stay_by_number(leaf, "has a tokenizer that cannot be read: " + error.message());
    }
    for (leaf = 0; leaf < views_.size(); ++leaf) {
      const std::size_t first = known.at(hashes_[leaf]);
      if (first != leaf) vocabulary_.leaves[leaf] = vocabulary_.leaves[first];
    }
    for (leaf = 0; leaf < views_.size(); ++leaf) place_rows(leaf);
    if (changes_nothing()) return;
    report();
    plan_.vocabulary = std::make_shared<Vocabulary>(std::move(vocabulary_));
  }

 private:
  const std::string& name_of(std::size_t leaf) const { return plan_.recipe.leaves[leaf].name; }

  std::vector<std::string> hash_all() const {
    std::vector<std::string> hashes;
    for (const auto& leaf : plan_.leaves) {
      try {
        hashes.push_back(hash_of(*leaf));
      } catch (const Error&) {
        hashes.emplace_back();  // files that are too large or gone
      }
    }
    return hashes;
  }

  std::string hash_of(const Checkpoint& leaf) const {
    const auto made = made_file(leaf);
    if (!made) return hash_tokens(disk_, leaf.path(), leaf.tokenizer_files());
    Sha256 hash;
    hash.update(std::as_bytes(std::span(*made)));
    return hash.hex();
  }

  // The tokenizer.json that a GGUF file describes, where no files of a folder go before it.
  static std::optional<std::string> made_file(const Checkpoint& leaf) {
    const SelfDescribed* const itself = self_described(leaf);
    if (itself == nullptr) return std::nullopt;
    for (MadeFile& file : itself->made_tokenizer()) {
      if (file.name == "tokenizer.json") return std::move(file.text);
    }
    return std::nullopt;
  }

  void stay_by_number(std::size_t leaf, const std::string& why) {
    plan_.warnings.push_back(
        fmt::format("the tokenizers differ, and `{}` {}; token rows are matched by number, "
                    "whatever they stand for",
                    name_of(leaf), why));
  }

  // ---------------------------------------------------------------- tokens

  TokenList tokens_of(std::size_t index) const {
    const Checkpoint& leaf = *plan_.leaves[index];
    const auto made = made_file(leaf);
    TokenList list = made ? TokenList{read_tokenizer_json(*made, leaf.path()).tokens}
                          : read_tokens(disk_, leaf.path(), leaf.tokenizer_files());
    if (list.empty()) throw Error(ErrorCode::Corrupt, "it names no token", FilePlace{leaf.path()});
    return list;
  }

  void take(const std::string& text, std::uint64_t row) {
    rows_.emplace(text, row);
    if (vocabulary_.is_token.size() <= row) vocabulary_.is_token.resize(row + 1);
    vocabulary_.is_token[row] = true;
  }

  void add_base() {
    const TokenList list = tokens_of(vocabulary_.base);
    Vocabulary::Leaf& leaf = vocabulary_.leaves[vocabulary_.base];
    leaf.row_of.assign(list.end(), Vocabulary::kNoRow);
    leaf.tokens = leaf.shared = list.tokens.size();
    for (const ModelToken& token : list.tokens) {
      leaf.row_of[token.id] = token.id;
      take(token.text, token.id);
    }
    vocabulary_.base_end = next_ = list.end();
  }

  void add(std::size_t index) {
    TokenList list = tokens_of(index);
    Vocabulary::Leaf& leaf = vocabulary_.leaves[index];
    std::uint64_t rows = 0;
    for (std::size_t i = index; i < views_.size(); ++i) {
      if (hashes_[i] == hashes_[index]) rows = std::max(rows, token_rows(views_[i]));
    }
    leaf.row_of.assign(list.end(), Vocabulary::kNoRow);
    leaf.tokens = list.tokens.size();
    for (ModelToken& token : list.tokens) {
      const std::uint64_t id = token.id;
      const auto known = rows_.find(token.text);
      if (known != rows_.end()) {
        leaf.row_of[id] = known->second;
        leaf.shared += known->second < vocabulary_.base_end ? 1 : 0;
      } else if (id < rows) {
        token.id = leaf.row_of[id] = next_++;
        take(token.text, token.id);
        vocabulary_.added.push_back({std::move(token), index, id});
      }
      if (leaf.row_of[id] != Vocabulary::kNoRow && leaf.row_of[id] != id) ++leaf.moved;
    }
  }

  // ---------------------------------------------------------------- rows

  void place_rows(std::size_t index) {
    LeafView& view = views_[index];
    Vocabulary::Leaf& leaf = vocabulary_.leaves[index];
    for (const auto& [name, tensor] : view.by_name) {
      const TensorInfo& info = view.source->tensors()[tensor];
      if (!has_token_rows(name) || info.shape.empty() || info.elements == 0) continue;
      const std::uint64_t rows = info.shape[0];
      RowRuns runs = runs_of(leaf, rows);
      const bool as_stored =
          runs.size() == 1 && runs[0].to == 0 && runs[0].from == 0 && runs[0].count == rows;
      if (as_stored) continue;
      for (RowRun& run : runs) {
        const std::uint64_t width = info.elements / rows;
        run = {run.to * width, run.from * width, run.count * width};
      }
      view.rows[name] = std::make_shared<RowRuns>(std::move(runs));
    }
  }

  // In rows.
  RowRuns runs_of(Vocabulary::Leaf& leaf, std::uint64_t rows) const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // in the output, in the leaf
    places.reserve(static_cast<std::size_t>(rows));
    std::uint64_t dropped = 0;
    for (std::uint64_t row = 0; row < rows; ++row) {
      const bool is_token = row < leaf.row_of.size() && leaf.row_of[row] != Vocabulary::kNoRow;
      if (is_token) {
        places.emplace_back(leaf.row_of[row], row);
      } else if (row >= vocabulary_.is_token.size() || !vocabulary_.is_token[row]) {
        places.emplace_back(row, row);
      } else {
        ++dropped;
      }
    }
    leaf.dropped = std::max(leaf.dropped, dropped);
    std::sort(places.begin(), places.end());
    RowRuns runs;
    for (const auto& [to, from] : places) {
      if (!runs.empty() && runs.back().to + runs.back().count == to &&
          runs.back().from + runs.back().count == from) {
        ++runs.back().count;
      } else {
        runs.push_back({to, from, 1});
      }
    }
    return runs;
  }

  // Other files may say the same.
  bool changes_nothing() const {
    return vocabulary_.added.empty() &&
           std::all_of(vocabulary_.leaves.begin(), vocabulary_.leaves.end(),
                       [](const auto& leaf) { return leaf.moved == 0 && leaf.dropped == 0; });
  }

  // ---------------------------------------------------------------- words

  void report() {
    std::string text = "the tokenizers differ: token rows are matched by text";
    const std::string& base = name_of(vocabulary_.base);
    if (vocabulary_.added.empty()) {
      text += fmt::format("; `{}` has all tokens", base);
    } else {
      text += fmt::format("; the output's tokenizer is that of `{}`, with", base);
    }
    for (std::size_t i = 0; i < views_.size(); ++i) {
      std::vector<std::string> names;
      std::size_t count = 0;
      for (const Vocabulary::NewToken& added : vocabulary_.added) {
        if (added.leaf != i) continue;
        if (++count <= kMostTokensNamed) names.push_back(quoted_token(added.token.text));
      }
      if (count == 0) continue;
      if (count > kMostTokensNamed) names.emplace_back("...");
      text += fmt::format(" {} of `{}` ({}),", count, name_of(i), fmt::join(names, " "));
    }
    if (text.back() == ',') text.pop_back();
    plan_.warnings.push_back(std::move(text));
    for (std::size_t i = 0; i < views_.size(); ++i) report_leaf(i);
  }

  void report_leaf(std::size_t index) {
    const Vocabulary::Leaf& leaf = vocabulary_.leaves[index];
    if (leaf.moved > 0) {
      plan_.warnings.push_back(
          fmt::format("{} of the {} tokens of `{}` have other rows in the output", leaf.moved,
                      leaf.tokens, name_of(index)));
    }
    if (leaf.dropped > 0) {
      plan_.warnings.push_back(
          fmt::format("{} rows of `{}` that no token stands for made room for tokens of others",
                      leaf.dropped, name_of(index)));
    }
    const double share = static_cast<double>(leaf.shared) /
                         static_cast<double>(std::max<std::uint64_t>(1, leaf.tokens));
    if (share < kHardlyAny) {
      plan_.warnings.push_back(fmt::format(
          "only {:.0f} % of the tokens of `{}` are in the tokenizer of `{}`: the result hardly "
          "speaks as both",
          100 * share, name_of(index), name_of(vocabulary_.base)));
    }
  }

  Disk& disk_;
  Plan& plan_;
  std::vector<LeafView>& views_;
  std::vector<std::string> hashes_;  // of the tokenizers, by leaf
  Vocabulary vocabulary_;
  std::unordered_map<std::string, std::uint64_t> rows_;  // of all tokens, in the output
  std::uint64_t next_ = 0;                               // row of the next new token
};

}  // namespace

std::uint64_t Vocabulary::row_of(std::size_t leaf, std::uint64_t id) const {
  const std::vector<std::uint64_t>& rows = leaves[leaf].row_of;
  return id < rows.size() && rows[id] != kNoRow ? rows[id] : id;
}

void align_by_text(Disk& disk, Plan& plan, std::vector<LeafView>& views) {
  if (views.size() < 2 || !plan.has_tokenizer) return;
  if (std::all_of(views.begin(), views.end(),
                  [](const LeafView& view) { return token_rows(view) == 0; })) {
    return;
  }
  Aligner(disk, plan, views).run();
}

}  // namespace thorns
