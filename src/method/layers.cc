// Where a tensor stands in the layer stack, and what a parameter is there.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "method/method.h"

namespace thorns {
namespace {

// More layers than any model has; a larger number in a name is no layer.
constexpr std::size_t kMostLayers = 100'000;

// The components that are followed by a layer's number: "layers", "encoder_layers", "resblocks",
// "block", and "h" of GPT-2.
bool is_stack_name(std::string_view component) {
  if (component == "h") return true;
  static constexpr std::array<std::string_view, 4> kEndings = {"layers", "layer", "blocks",
                                                               "block"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return component.ends_with(ending); });
}

std::optional<std::size_t> layer_number(std::string_view component) {
  std::size_t number = 0;
  const char* const end = component.data() + component.size();
  const auto [stop, code] = std::from_chars(component.data(), end, number);
  if (code != std::errc{} || stop != end || number >= kMostLayers) return std::nullopt;
  return number;
}

struct LayerName {
  std::string_view stack;  // the name up to the dot before the number
  std::size_t layer = 0;
};
std::optional<LayerName> layer_name(std::string_view name) {
  bool after_stack_name = false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    if (after_stack_name) {
      if (const auto number = layer_number(component)) {
        return LayerName{name.substr(0, begin - 1), *number};
      }
    }
    after_stack_name = is_stack_name(component);
    begin = end + 1;
  }
  return std::nullopt;
}

bool is_embedding(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  // GPT-NeoX calls its output head "embed_out"; others have an "unembed" or "output_embeddings".
  if (has("lm_head") || has("embed_out") || has("unembed") || has("output")) return false;
  return has("embed") || has("wte") || has("wpe");
}

}  // namespace

LayerStack::LayerStack(std::span<const std::string> tensor_names) {
  for (const std::string& name : tensor_names) {
    const auto place = layer_name(name);
    if (!place) continue;
    std::size_t& height = heights_[std::string(place->stack)];
    height = std::max(height, place->layer + 1);
  }
}

LayerPosition LayerStack::position(std::string_view tensor_name) const {
  if (const auto place = layer_name(tensor_name)) {
    const auto stack = heights_.find(place->stack);
    const std::size_t known = stack == heights_.end() ? 0 : stack->second;
    return {LayerPosition::Inside, place->layer, std::max(known, place->layer + 1)};
  }
  const std::size_t layers = std::max<std::size_t>(1, this->layers());
  return {is_embedding(tensor_name) ? LayerPosition::Before : LayerPosition::After, 0, layers};
}

std::size_t LayerStack::layers() const {
  std::size_t tallest = 0;
  for (const auto& [stack, height] : heights_) tallest = std::max(tallest, height);
  return tallest;
}

double gradient_at(std::span<const double> entries, const LayerPosition& position) {
  if (entries.size() == 1 || position.part == LayerPosition::Before) return entries.front();
  if (position.part == LayerPosition::After) return entries.back();
  if (position.layers < 2) return entries.front();
  const double at = static_cast<double>(position.layer) * static_cast<double>(entries.size() - 1) /
                    static_cast<double>(position.layers - 1);
  const auto below = static_cast<std::size_t>(at);
  if (below + 1 >= entries.size()) return entries.back();
  return std::lerp(entries[below], entries[below + 1], at - static_cast<double>(below));
}

std::vector<std::optional<double>> evaluate(const SpanMethod& method,
                                            std::span<const Setting> settings,
                                            std::string_view tensor_name,
                                            const LayerPosition& position) {
  const auto& parameters = method.parameters();
  std::vector<std::optional<double>> values;
  values.reserve(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto setting = std::find_if(settings.begin(), settings.end(), [&](const Setting& one) {
      return one.parameter == i && tensor_name.find(one.filter) != std::string_view::npos;
    });
    values.push_back(setting != settings.end()
                         ? std::optional(gradient_at(setting->values, position))
                         : parameters[i].default_value);
  }
  return values;
}

}  // namespace thorns
