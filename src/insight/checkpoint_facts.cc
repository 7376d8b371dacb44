#include "insight/checkpoint_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "checkpoint/config.h"
#include "insight/tokenizer_facts.h"
#include "method/method.h"
#include "plan/match.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostInNote = 6;  // names spelled out in a note
constexpr std::array<std::string_view, 5> kWeightsEndings = {".safetensors", ".gguf", ".pth", ".pt",
                                                             ".bin"};

// The first of `names` that is a number, in the configuration or in that of its language model.
std::optional<std::uint64_t> number_field(const Json& config,
                                          std::initializer_list<const char*> names) {
  if (!config.is_object()) return std::nullopt;
  for (const char* name : names) {
    const auto field = config.find(name);
    if (field != config.end() && field->is_number_unsigned()) return field->get<std::uint64_t>();
  }
  const auto text = config.find("text_config");
  if (text == config.end() || !text->is_object() || text->contains("text_config")) {
    return std::nullopt;
  }
  return number_field(*text, names);
}

ModelShape shape_of(const Json& config) {
  ModelShape shape;
  shape.model_type = text_field(config, "model_type");
  shape.architecture = architecture_in(config);
  shape.dtype = text_field(config, "dtype");
  if (shape.dtype.empty()) shape.dtype = text_field(config, "torch_dtype");
  shape.layers = number_field(config, {"num_hidden_layers", "n_layer", "num_layers", "n_layers"});
  shape.hidden_size = number_field(config, {"hidden_size", "n_embd", "d_model", "dim"});
  shape.intermediate_size =
      number_field(config, {"intermediate_size", "n_inner", "ffn_dim", "d_ff"});
  shape.heads = number_field(config, {"num_attention_heads", "n_head", "num_heads", "n_heads"});
  shape.key_value_heads = number_field(config, {"num_key_value_heads", "num_kv_heads"});
  shape.head_size = number_field(config, {"head_dim"});
  shape.experts = number_field(config, {"num_local_experts", "num_experts", "n_routed_experts"});
  shape.vocabulary = number_field(config, {"vocab_size"});
  shape.positions = number_field(config, {"max_position_embeddings", "n_positions", "n_ctx"});
  return shape;
}

class CheckpointReader {
 public:
  CheckpointReader(Disk& disk, const Checkpoint& model, std::vector<InspectNote>& notes)
      : disk_(disk), model_(model), notes_(notes) {}

  CheckpointFacts read() {
    facts_.shape = shape_of(model_.config());
    facts_.quantisation = model_.quantisation();
    facts_.tokenizer = tokenizer_facts(disk_, model_.path(), model_.tokenizer_files(),
                                       model_.files().front().path, notes_);
    view();
    look_at_head();
    look_at_rows();
    look_at_layers();
    look_at_tensors();
    look_at_files();
    return std::move(facts_);
  }

 private:
  void note(const char* code, std::string message) { notes_.push_back({code, std::move(message)}); }

  // As a merge would see it; what stops that is a note.
  void view() {
    try {
      view_ = view_leaf(model_, model_.path(), dropped_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::Unsupported) throw;
      note("no-leaf", error.message());
      for (std::size_t i = 0; i < model_.tensors().size(); ++i) {
        view_.by_name.emplace(model_.tensors()[i].name, i);
      }
      view_.source = &model_;
    }
    embedding_ = find_embedding(view_);
  }

  // The head, and what a merge would leave out.
  void look_at_head() {
    const auto is_head = [&](const Dropped& one) { return one.tensor == view_.head; };
    const bool equal = std::any_of(dropped_.begin(), dropped_.end(), is_head);
    const bool stored = equal || view_.has_head();
    const bool tied = embedding_ && model_.ties_embeddings();
    facts_.head = tied ? (stored ? "tied and stored" : "tied") : (stored ? "stored" : "none");
    std::map<std::string, std::vector<std::string>> buffers;  // reason -> names
    for (const Dropped& one : dropped_) {
      if (!is_head(one)) buffers[one.reason].push_back(one.tensor);
    }
    if (tied && stored) {
      note(equal ? "head-stored-equal" : "head-stored-differs",
           fmt::format("the configuration ties {} to the embedding, and it is stored even so: {}",
                       view_.head, equal ? "equal to it; a merge drops it" : "with other numbers"));
    }
    for (const auto& [reason, names] : buffers) {
      note("recomputed-buffers",
           fmt::format("{} ({}), which a merge drops: {}",
                       names.size() == 1 ? std::string("1 buffer")
                                         : fmt::format("{} buffers", names.size()),
                       reason, list_text(names, 2)));
    }
  }

  void look_at_rows() {
    if (!embedding_) return;
    const std::vector<std::uint64_t>& embedding = view_.tensor(*embedding_).shape;
    if (embedding.size() != 2) return;
    const std::uint64_t rows = embedding[0];
    const ModelShape& shape = facts_.shape;
    if (shape.vocabulary && *shape.vocabulary != rows) {
      note("vocabulary-rows",
           fmt::format("the configuration has a vocabulary of {}, the embedding {} rows",
                       *shape.vocabulary, rows));
    }
    if (shape.hidden_size && *shape.hidden_size != embedding[1]) {
      note("hidden-size",
           fmt::format("the configuration has a hidden size of {}, the embedding {} columns",
                       *shape.hidden_size, embedding[1]));
    }
    if (const auto found = view_.by_name.find(std::string(view_.head));
        found != view_.by_name.end()) {
      const std::vector<std::uint64_t>& head = model_.tensors()[found->second].shape;
      if (head.size() == 2 && head[0] != rows) {
        note("head-rows", fmt::format("the head has {} rows, the embedding {}", head[0], rows));
      }
    }
    const auto tokens = facts_.tokenizer ? facts_.tokenizer->tokens : std::nullopt;
    if (tokens && *tokens > rows) {
      note("tokens-without-rows",
           fmt::format("the tokenizer has {} tokens, the embedding {} rows", *tokens, rows));
    } else if (tokens && *tokens < rows) {
      note("rows-without-tokens",
           fmt::format("the embedding has {} rows, the tokenizer {} tokens", rows, *tokens));
    }
  }

  void look_at_layers() {
    const auto& layers = facts_.shape.layers;
    std::vector<std::string> names;
    for (const TensorInfo& info : model_.tensors()) names.push_back(info.name);
    const LayerStack stack(names);
    if (!layers || stack.layers() == 0) return;
    // A model may have several stacks, of which one is meant.
    const bool found = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      const LayerPosition position = stack.position(name);
      return position.part == LayerPosition::Inside && position.layers == *layers;
    });
    if (found) return;
    note("layers-differ", fmt::format("the configuration has {} layers, the tensors are of {}",
                                      *layers, stack.layers()));
  }

  void look_at_tensors() {
    std::vector<std::string> empty;
    std::map<std::string, std::uint64_t> floats;
    bool decoded = false;
    for (const TensorInfo& info : model_.tensors()) {
      if (info.elements == 0) empty.push_back(info.name);
      if (is_blendable(info.dtype)) ++floats[to_string(info.dtype)];
      decoded = decoded || info.nominal;
    }
    if (!empty.empty()) {
      note("empty-tensors",
           fmt::format("tensors without elements: {}", list_text(empty, kMostInNote)));
    }
    if (decoded || floats.size() < 2) return;
    std::vector<std::string> counts;
    for (const auto& [name, count] : floats) counts.push_back(fmt::format("{} {}", count, name));
    note("mixed-types",
         fmt::format("numbers of several types: {} tensors", list_text(counts, kMostInNote)));
  }

  // Weights in the folder that were not read.
  void look_at_files() {
    if (!disk_.stat(model_.path()).is_folder) return;
    if (!model_.config().is_object()) note("no-configuration", "the folder has no config.json");
    std::set<std::string> read;
    for (const InputFile& file : model_.files()) read.insert(base_name(file.path));
    std::vector<std::string> others;
    for (const std::string& name : disk_.list(model_.path())) {
      const bool weights = std::any_of(kWeightsEndings.begin(), kWeightsEndings.end(),
                                       [&](std::string_view end) { return name.ends_with(end); });
      if (weights && !read.contains(name)) others.push_back(name);
    }
    if (others.empty()) return;
    note("unread-files", fmt::format("files that are no part of these weights: {}",
                                     list_text(others, kMostInNote)));
  }

  Disk& disk_;
  const Checkpoint& model_;
  std::vector<InspectNote>& notes_;
  LeafView view_;
  std::vector<Dropped> dropped_;
  std::optional<std::string> embedding_;  // by the view's name
  CheckpointFacts facts_;
};

}  // namespace

CheckpointFacts checkpoint_facts(Disk& disk, const Checkpoint& model,
                                 std::vector<InspectNote>& notes) {
  return CheckpointReader(disk, model, notes).read();
}

CheckpointFacts checkpoint_facts(Disk& disk, const std::string& path,
                                 const CheckpointListing& listing,
                                 std::vector<InspectNote>& notes) {
  CheckpointFacts facts;
  facts.shape = shape_of(listing.config);
  if (listing.config.is_object()) {
    const auto how = listing.config.find("quantization_config");
    if (how != listing.config.end()) facts.quantisation = text_field(*how, "quant_method");
  }
  facts.tokenizer =
      tokenizer_facts(disk, path, listing.tokenizer, listing.files.front().path, notes);
  return facts;
}

}  // namespace thorns
