// The program of one tensor, in words.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "plan/memory.h"
#include "plan/plan.h"
#include "thorns/error.h"

namespace thorns {
namespace {

std::string number(double value) { return fmt::format("{:.6g}", value); }

// The tensors that an update is made of: "a.lora_A.weight (16, 64) and ... in FILE".
std::string tensors_text(const TensorSource& source, const Update& update) {
  std::vector<std::string> names;
  std::string file;
  for (const std::size_t index : update.tensors()) {
    const TensorInfo& info = source.tensors()[index];
    names.push_back(fmt::format("{} {}", info.name, shape_text(info.shape)));
    file = source.file_of(index);
  }
  return fmt::format("{} in {}", fmt::join(names, " and "), file);
}

std::string operand_line(const Operand& operand) {
  if (operand.is_stored()) {
    const TensorInfo& info = operand.source->tensors()[operand.tensor];
    return fmt::format("{}  {} {} {} {} {}", operand.label, info.name, to_string(info.dtype),
                       shape_text(info.shape), info.nominal ? "decoded from" : "in",
                       operand.source->file_of(operand.tensor));
  }
  const std::string tensors = tensors_text(operand.adapter->source(), *operand.update);
  const std::string& family = operand.adapter->family();
  if (operand.is_mapped()) {
    return fmt::format("{}  v{} changed by {}: {}", operand.label, operand.mapped + 1, family,
                       tensors);
  }
  if (operand.is_generated()) return fmt::format("{}  {}: {}", operand.label, family, tensors);
  const bool computed = operand.update->change != nullptr;
  return fmt::format("{}  {}, rank {}: {}", operand.label,
                     computed                  ? family + ", a product of two factors"
                     : operand.base.transposed ? "(B A)^T"
                                               : "B A",
                     operand.update->rank, tensors);
}

std::string sum_text(const SumNode& sum) {
  std::string text;
  for (const SumNode::Term& term : sum.terms) {
    if (!text.empty()) text += " + ";
    if (term.scale != 1.0) text += number(term.scale) + " ";
    text += fmt::format("{}{}", term.is_operand ? "v" : "x", term.index + 1);
  }
  return text.empty() ? "0, as its model lacks the tensor" : text;
}

std::string method_text(const Recipe& recipe, const MethodNode& node) {
  std::vector<std::string> arguments;
  for (const std::size_t model : node.models) arguments.push_back(fmt::format("x{}", model + 1));
  std::string text = fmt::format("{}({}", node.method->name(), fmt::join(arguments, ", "));
  if (std::any_of(node.weights.begin(), node.weights.end(), [](double w) { return w != 1.0; })) {
    text += "; weights";
    for (const double weight : node.weights) text += " " + number(weight);
  }
  for (std::size_t i = 0; i < node.parameters.size(); ++i) {
    if (!node.parameters[i]) continue;
    text +=
        fmt::format("; {} = {}", node.method->parameters()[i].name, number(*node.parameters[i]));
  }
  return text + ")    " + recipe.nodes[node.recipe_node].key;
}

std::string map_text(const MapNode& node) {
  std::vector<std::string> images;
  for (const MapNode::Image& image : node.images)
    images.push_back(fmt::format("v{} for v{}", image.to + 1, image.from + 1));
  return fmt::format("x{} with {}    [{}]", node.model + 1, fmt::join(images, ", "), node.label);
}

std::string norm_text(const NormNode& node, Lines lines) {
  return fmt::format("x{}, every {} scaled to the norm that {} gives it    [{}]", node.model + 1,
                     lines == Lines::Rows ? "row" : "column",
                     tensors_text(node.adapter->source(), *node.update), node.label);
}

std::string node_text(const Plan& plan, const Program& program, const ProgramNode& node) {
  if (node.sum) return sum_text(*node.sum);
  if (node.map) return map_text(*node.map);
  if (node.norm) return norm_text(*node.norm, program.lines);
  return method_text(plan.recipe, *node.method);
}

// Which vectors have which rows, where vocabularies differ.
std::string blocks_text(const Program& program) {
  std::string text = "rows\n";
  const std::uint64_t row = program.elements / program.shape[0];
  constexpr std::size_t kMostBlocks = 24;  // spelled out
  for (std::size_t b = 0; b < program.blocks.size(); ++b) {
    const Block& block = program.blocks[b];
    if (b == kMostBlocks) {
      return text + fmt::format("  and {} more parts\n", program.blocks.size() - b);
    }
    std::vector<std::string> present;
    for (std::size_t i = 0; i < program.operands.size(); ++i) {
      if (block.has(program.operands[i])) present.push_back(fmt::format("v{}", i + 1));
    }
    text +=
        fmt::format("  {} to {}: {}{}\n", block.first / row, (block.first + block.count) / row - 1,
                    fmt::join(present, " "), block.written ? "" : " (dropped)");
  }
  return text;
}

const char* kind_text(ProgramKind kind) {
  switch (kind) {
    case ProgramKind::Copy:
      return "copied unchanged";
    case ProgramKind::Cast:
      return "rounded to another type";
    case ProgramKind::Same:
      return "integers: all inputs must be equal, the first is copied";
    case ProgramKind::Blend:
      return "measured, solved and blended";
  }
  return "";
}

}  // namespace

std::string explain(const Plan& plan, const std::string& tensor) {
  const auto at = std::find_if(plan.programs.begin(), plan.programs.end(),
                               [&](const Program& program) { return program.tensor == tensor; });
  if (at == plan.programs.end()) {
    std::vector<std::string> names;
    for (const Program& program : plan.programs) names.push_back(program.tensor);
    throw Error(ErrorCode::NotFound, fmt::format("the output has no tensor `{}`", tensor), Where{},
                did_you_mean(tensor, names));
  }
  const Program& program = *at;
  const auto index = static_cast<std::size_t>(at - plan.programs.begin());
  const auto shard = std::find_if(plan.shards.begin(), plan.shards.end(), [&](const Shard& s) {
    return index >= s.first && index < s.first + s.count;
  });
  std::string text = fmt::format("{} {} {} in {}\n  {}\n", program.tensor, to_string(program.dtype),
                                 shape_text(program.shape), shard->file, kind_text(program.kind));
  text += "vectors\n";
  for (std::size_t i = 0; i < program.operands.size(); ++i) {
    text += fmt::format("  v{} = {}\n", i + 1, operand_line(program.operands[i]));
  }
  if (program.blocks.size() > 1) text += blocks_text(program);
  if (program.kind == ProgramKind::Blend) {
    text += "steps\n";
    for (std::size_t i = 0; i < program.nodes.size(); ++i) {
      text += fmt::format("  x{} = {}\n", i + 1, node_text(plan, program, program.nodes[i]));
    }
    text += fmt::format("result\n  x{}, as one weighted sum of v1..v{}{}, rounded once to {}\n",
                        program.nodes.size(), program.operands.size(),
                        program.lines == Lines::None   ? ""
                        : program.lines == Lines::Rows ? " in every row"
                                                       : " in every column",
                        to_string(program.dtype));
  }
  const std::uint64_t again = reread_bytes(program, plan.memory);
  text +=
      fmt::format("tiles\n  {} of at most {} elements; {}\n",
                  written_tiles(program, plan.memory).size(), tile_elements(program, plan.memory),
                  again == 0 ? "read once"
                             : fmt::format("{} stay in memory, the others are read twice",
                                           kept_tiles(program, plan.memory)));
  return text;
}

}  // namespace thorns
