#include "checkpoint/decoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace thorns {
namespace {

constexpr std::array<std::string_view, 9> kActivationScales = {
    ".input_scale", ".input_scale_ub", ".activation_scale", ".output_scale", ".input_zero_point",
    ".k_scale",     ".v_scale",        ".q_scale",          ".qscale_act"};

}  // namespace

Decoding::Decoding(const TensorSource& stored, const Quantisation* how, std::string path)
    : stored_(stored), how_(how), path_(std::move(path)), taken_(stored.tensors().size(), false) {}

void Decoding::refuse(const std::string& detail) const {
  Quantisation how = *how_;
  how.evidence += ": " + detail;
  refuse_quantised(how, path_);
}

std::optional<TensorReader> Decoding::take(const std::string& name) {
  const auto index = stored_.find(name);
  if (!index) return std::nullopt;
  taken_[*index] = true;
  return tensor(*index);
}

TensorReader Decoding::need(const TensorReader& part_of, const std::string& name) {
  const auto found = take(name);
  if (!found) {
    part_of.fail(fmt::format("is quantised, but its companion `{}` is missing", name));
  }
  return *found;
}

void Decoding::hide_activation_scales() {
  for (std::size_t i = 0; i < size(); ++i) {
    const std::string_view name = tensor(i).name();
    taken_[i] = taken_[i] || std::any_of(kActivationScales.begin(), kActivationScales.end(),
                                         [&](auto ending) { return name.ends_with(ending); });
  }
}

void Decoding::present(const TensorReader& codes, std::string name,
                       std::vector<std::uint64_t> shape, std::unique_ptr<Decoder> decoder,
                       const std::string& format) {
  const auto same = stored_.find(name);
  if (same && *same != codes.index()) {
    codes.fail(fmt::format("stands for `{}`, which is there, too", name));
  }
  taken_[codes.index()] = true;
  decoded_.push_back({std::move(name), std::move(shape), codes.index(), std::move(decoder)});
  formats_.insert(format);
}

std::optional<std::string> without_ending(const std::string& name, std::string_view ending) {
  if (!name.ends_with(ending)) return std::nullopt;
  return name.substr(0, name.size() - ending.size());
}

std::optional<std::int64_t> integer_field(const Json& object, const char* name) {
  const auto field = object.is_object() ? object.find(name) : object.end();
  if (!object.is_object() || field == object.end() || !field->is_number_integer()) {
    return std::nullopt;
  }
  return field->get<std::int64_t>();
}

}  // namespace thorns
