// Parameters of a method for one tensor: filters, gradients, the layer stack.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "method/method.h"

namespace thorns {
namespace {

// The layer number in a tensor name: the first dotted component that is a number.
std::optional<std::size_t> layer_number(std::string_view name) {
  std::size_t begin = 0;
  while (begin <= name.size()) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    std::size_t number = 0;
    const auto [stop, code] = std::from_chars(name.data() + begin, name.data() + end, number);
    if (code == std::errc{} && stop == name.data() + end && number < 1'000'000) return number;
    begin = end + 1;
  }
  return std::nullopt;
}

bool is_embedding(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kParts = {"embed_tokens", "embeddings", "wte.",
                                                             "wpe.", "embed_in"};
  return std::any_of(kParts.begin(), kParts.end(), [&](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  });
}

}  // namespace

LayerStack::LayerStack(std::span<const std::string> tensor_names) {
  for (const std::string& name : tensor_names) {
    if (const auto number = layer_number(name)) layers_ = std::max(layers_, *number + 1);
  }
}

LayerPosition LayerStack::position(std::string_view tensor_name) const {
  const std::size_t layers = std::max<std::size_t>(1, layers_);
  if (const auto number = layer_number(tensor_name))
    return {LayerPosition::Inside, *number, layers};
  return {is_embedding(tensor_name) ? LayerPosition::Before : LayerPosition::After, 0, layers};
}

double gradient_at(std::span<const double> entries, const LayerPosition& position) {
  if (entries.size() == 1 || position.part == LayerPosition::Before) return entries.front();
  if (position.part == LayerPosition::After) return entries.back();
  if (position.layers < 2) return entries.front();
  const double place = static_cast<double>(position.layer) /
                       static_cast<double>(position.layers - 1) *
                       static_cast<double>(entries.size() - 1);
  const auto lower = std::min(static_cast<std::size_t>(place), entries.size() - 2);
  return std::lerp(entries[lower], entries[lower + 1], place - static_cast<double>(lower));
}

std::vector<std::optional<double>> evaluate(const SpanMethod& method,
                                            std::span<const Setting> settings,
                                            std::string_view tensor_name,
                                            const LayerPosition& position) {
  const std::vector<Parameter>& parameters = method.parameters();
  std::vector<std::optional<double>> values;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto setting =
        std::find_if(settings.begin(), settings.end(), [&](const Setting& candidate) {
          return candidate.parameter == i &&
                 tensor_name.find(candidate.filter) != std::string_view::npos;
        });
    if (setting == settings.end()) {
      values.push_back(parameters[i].default_value);
    } else {
      values.emplace_back(gradient_at(setting->values, position));
    }
  }
  return values;
}

}  // namespace thorns
