// A tiny plan made by hand, its leaves and adapter invented, to drive the output room with: no
// tensor data is read, the bytes of every output tensor follow from its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns::test {

class FakeCheckpoint : public Checkpoint {
 public:
  std::string path_;
  std::vector<InputFile> files_;
  Json config_ = nullptr;
  std::optional<std::string> generation_;
  std::vector<std::string> tokenizer_;
  std::vector<TensorInfo> tensors_;  // sorted by name

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  void read(std::size_t, std::uint64_t, std::span<std::byte>) const override {}
  void will_need(std::size_t, std::uint64_t, std::uint64_t) const override {}
  std::string file_of(std::size_t) const override { return path_; }
  const std::string& path() const override { return path_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const Json& config() const override { return config_; }
  const std::optional<std::string>& generation_config() const override { return generation_; }
  const std::vector<std::string>& tokenizer_files() const override { return tokenizer_; }
};

class FakeAdapter : public Adapter {
 public:
  std::string path_;
  std::string family_ = "LoRA";
  std::string base_model_;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  std::vector<InputFile> files_;
  FakeCheckpoint source_;

  const std::string& path() const override { return path_; }
  const std::string& family() const override { return family_; }
  const std::string& base_model() const override { return base_model_; }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const TensorSource& source() const override { return source_; }
  bool fan_in_fan_out() const override { return false; }
};

class FakeMethod : public SpanMethod {
 public:
  const std::string& name() const override { return name_; }
  const std::string& summary() const override { return name_; }
  const std::string& reference() const override { return name_; }
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  std::size_t least_models() const override { return 2; }
  std::size_t most_models() const override { return 2; }
  std::optional<Complaint> check(const MethodUse&) const override { return std::nullopt; }
  Coefficients coefficients(const Gram&, std::span<const double>, ParameterValues) const override {
    return {};
  }

 private:
  std::string name_ = "slerp";
  std::vector<Parameter> parameters_ = {{"t", ParameterType::Number, 0.5, 0, 1, "place"}};
};

inline const FakeMethod& fake_slerp() {
  static const FakeMethod method;
  return method;
}

inline TensorInfo info(std::string name, Dtype dtype, std::vector<std::uint64_t> shape) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : shape) elements *= dim;
  return {std::move(name), dtype, std::move(shape), elements};
}

inline Program program(ProgramKind kind, const TensorInfo& info,
                       const std::vector<std::string>& labels) {
  Program program;
  program.tensor = info.name;
  program.shape = info.shape;
  program.elements = info.elements;
  program.dtype = info.dtype;
  program.kind = kind;
  for (const std::string& label : labels) {
    Operand operand;
    operand.label = label;
    operand.dtype = info.dtype;
    program.operands.push_back(operand);
  }
  if (kind != ProgramKind::Blend) return program;
  for (std::size_t i = 0; i < 2; ++i) {
    ProgramNode leaf;
    leaf.sum = SumNode{{{true, i, 1.0}}};
    if (i == 0 && labels.size() > 2) leaf.sum->terms.push_back({true, 2, 0.5});
    program.nodes.push_back(leaf);
  }
  ProgramNode blend;
  blend.method = MethodNode{&fake_slerp(), {0, 1}, {1.0, 1.0}, {0.5}, 3};
  program.nodes.push_back(blend);
  return program;
}

inline std::unique_ptr<FakeCheckpoint> fake_leaf(const std::string& path) {
  auto leaf = std::make_unique<FakeCheckpoint>();
  leaf->path_ = path;
  leaf->files_ = {{path + "/model.safetensors", 1234}};
  leaf->config_ = Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "vocab_size": 2, "torch_dtype": "float32", "tie_word_embeddings": true, "odd": [1e-05]})");
  leaf->tensors_ = {info("ids", Dtype::I64, {1}), info("lm_head.weight", Dtype::BF16, {3, 2}),
                    info("model.embed_tokens.weight", Dtype::BF16, {3, 2}),
                    info("model.norm.weight", Dtype::F32, {2})};
  return leaf;
}

// {Rose[Dew]+"Thorn X"}: four tensors in `shards` files (1 or 2). Paths of inputs lie in `folder`.
inline Plan small_plan(const std::string& folder, std::size_t shards = 1) {
  Plan plan;
  Recipe& recipe = plan.recipe;
  recipe.leaves = {{"Rose", folder + "/rose", "garden/Rose-7b@main", {}},
                   {"Thorn X", folder + "/thorn", folder + "/thorn", {}}};
  recipe.adapters = {{"Dew", folder + "/dew", "./adapters/dew", {}}};
  recipe.nodes.resize(4);
  recipe.nodes[0] = {LeafNode{0}, "Rose", "", {}};
  recipe.nodes[1] = {FoldNode{0, {{0, 0.5}}, {}}, "Rose[0.5*Dew]", "", {}};
  recipe.nodes[2] = {LeafNode{1}, "Thorn X", "", {}};
  recipe.nodes[3] = {BlendNode{{1, 2}, {1, 1}, false, &fake_slerp(), {{0, "attn", {0.25, 0.75}}}},
                     "{Rose[0.5*Dew]+Thorn X;t(attn)=[0.25,0.75]}",
                     "",
                     {}};
  recipe.root = 3;
  recipe.key = recipe.nodes[3].key;
  recipe.published = "{Rose[0.5*Dew] + Thorn X; t(attn)=[0.25, 0.75]}";

  plan.leaves.push_back(fake_leaf(folder + "/rose"));
  plan.leaves.push_back(fake_leaf(folder + "/thorn"));
  auto adapter = std::make_unique<FakeAdapter>();
  adapter->path_ = folder + "/dew";
  adapter->base_model_ = "/home/somebody/rose";
  adapter->files_ = {{folder + "/dew/adapter_model.safetensors", 99}};
  plan.adapters.push_back(std::move(adapter));

  const std::vector<std::string> all = {"Rose", "Thorn X", "Dew: lora_B * lora_A"};
  const FakeCheckpoint& tensors = static_cast<FakeCheckpoint&>(*plan.leaves.front());
  plan.programs = {program(ProgramKind::Same, tensors.tensors_[0], {"Rose", "Thorn X"}),
                   program(ProgramKind::Cast, tensors.tensors_[3], {"Rose"}),
                   program(ProgramKind::Copy, tensors.tensors_[1], {"Rose"}),
                   program(ProgramKind::Blend, tensors.tensors_[2], all)};
  if (shards == 1) {
    plan.shards = {{"model.safetensors", 0, 4, 8 + 8 + 12 + 12}};
  } else {
    plan.shards = {{"model-00001-of-00002.safetensors", 0, 3, 8 + 8 + 12},
                   {"model-00002-of-00002.safetensors", 3, 1, 12}};
  }
  plan.bytes_out = 40;
  plan.base_dtype = "bfloat16";
  plan.dropped = {{"model.rotary_emb.inv_freq", "Rose", "transformers computes it"}};
  plan.warnings = {"`" + folder + "/thorn` says nothing of its tokenizer"};
  return plan;
}

inline std::vector<std::byte> fake_bytes(std::size_t program, std::uint64_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(program * 37 + i);
  return bytes;
}

inline TensorFacts fake_facts(const Program& program) {
  TensorFacts facts;
  facts.coefficients.assign(program.operands.size(), 0.1);
  if (program.kind != ProgramKind::Same) facts.norms.assign(program.operands.size(), 1.5);
  facts.norm = 0.30000000000000004;
  if (program.kind == ProgramKind::Blend) {
    facts.nodes = {{3, {0.7071067811865476, 0.7071067811865476}, 1.5707963267948966, false}};
    facts.rounded = 2;
    facts.sampled = 6;
    facts.changed = 1;
    facts.distances = {0.25, 0.5, std::numeric_limits<double>::quiet_NaN()};
    facts.distances.resize(program.operands.size());
  }
  return facts;
}

// Hands one tensor to the sink in two pieces, as an engine would.
inline void feed_one(Sink& sink, const Plan& plan, std::size_t i) {
  const std::vector<std::byte> bytes = fake_bytes(i, plan.programs[i].bytes());
  const std::size_t half = bytes.size() / 2;
  sink.write(i, std::span(bytes).first(half));
  sink.write(i, std::span(bytes).subspan(half));
  sink.finished(i, fake_facts(plan.programs[i]));
}

inline void feed(Sink& sink, const Plan& plan) {
  for (std::size_t i = 0; i < plan.programs.size(); ++i) feed_one(sink, plan, i);
}

}  // namespace thorns::test
