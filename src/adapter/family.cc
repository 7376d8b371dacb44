#include "adapter/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

// A function's static, because the families register in an order that nobody controls.
std::vector<AdapterFamily>& families() {
  static std::vector<AdapterFamily> list;
  return list;
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

RegisterFamily::RegisterFamily(AdapterFamily family) {
  auto& list = families();
  const auto place = std::lower_bound(
      list.begin(), list.end(), family,
      [](const AdapterFamily& a, const AdapterFamily& b) { return a.type < b.type; });
  list.insert(place, std::move(family));
}

const std::vector<AdapterFamily>& family_catalogue() { return families(); }

const AdapterFamily* find_family(std::string_view type) {
  for (const AdapterFamily& family : families()) {
    if (family.type == type) return &family;
  }
  return nullptr;
}

const AdapterFamily* family_of_tensor(std::string_view tensor) {
  for (const AdapterFamily& family : families()) {
    if (contains(family.tensors, tensor) || contains(family.shared, tensor)) return &family;
  }
  return nullptr;
}

bool AdapterFamily::knows(std::string_view tensor) const {
  return contains(tensors, tensor) || contains(borrowed, tensor) || contains(shared, tensor);
}

const std::string& AdapterFamily::name_for(const ConfigFields& config) const {
  for (const Variant& variant : variants) {
    if (variant.is(config)) return variant.name;
  }
  return name;
}

void OpeningAdapter::refuse(ErrorCode code, const std::string& what, const std::string& tensor,
                            const std::string& hint) const {
  Where where = FilePlace{weights_path};
  if (!tensor.empty()) where = TensorPlace{tensor, std::nullopt, weights_path};
  throw Error(code, fmt::format("the adapter `{}` {}", path, what), where, hint);
}

void OpeningAdapter::check_floating(std::size_t tensor) const {
  if (!is_blendable(source->tensors()[tensor].dtype)) refuse_type(tensor);
}

void OpeningAdapter::refuse_type(std::size_t tensor) const {
  const TensorInfo& info = source->tensors()[tensor];
  refuse(ErrorCode::Unsupported,
         fmt::format("holds a tensor of type {}, which cannot be folded: `{}`",
                     to_string(info.dtype), info.name),
         info.name, "save the adapter in a 16-bit or 32-bit floating type");
}

std::size_t FamilyModule::take(std::string_view tensor) {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end()) {
    refuse(ErrorCode::Corrupt, fmt::format("has no {} for `{}`", tensor, name_),
           "the file was saved incompletely");
  }
  used_.insert(found->first);
  return found->second;
}

std::size_t FamilyModule::need(std::string_view tensor) {
  const std::size_t index = take(tensor);
  adapter_.check_floating(index);
  return index;
}

std::size_t FamilyModule::need_indices(std::string_view tensor) {
  const std::size_t index = take(tensor);
  if (!holds_indices(info(index).dtype)) adapter_.refuse_type(index);
  return index;
}

std::size_t FamilyModule::need_shared(std::string_view tensor) {
  used_.insert(std::string(tensor));
  const auto found = adapter_.shared.find(tensor);
  if (found == adapter_.shared.end()) {
    if (has(tensor)) return need(tensor);
    refuse(ErrorCode::Unsupported,
           fmt::format("holds no {}, which all its layers share, only perhaps the seed of the "
                       "random numbers in it",
                       tensor),
           "save it once more where it was trained, with save_projection=True");
  }
  adapter_.check_floating(found->second);
  return found->second;
}

void FamilyModule::check_matrix(std::size_t tensor) const {
  if (shape(tensor).size() == 2 && info(tensor).elements > 0) return;
  refuse(ErrorCode::Corrupt,
         fmt::format("has a factor of shape {}, expected a matrix: `{}`", shape_text(shape(tensor)),
                     info(tensor).name),
         tensor, "a sharded training run saves empty tensors unless they are gathered first");
}

FamilyModule::Factors FamilyModule::need_factors(const std::string& mark, bool matrices) {
  const Factors factors{need(mark + "A"), need(mark + "B")};
  for (const std::size_t factor : {factors.a, factors.b}) {
    if (matrices || shape(factor).size() < 2 || info(factor).elements == 0) check_matrix(factor);
  }
  const std::vector<std::uint64_t>& a = shape(factors.a);
  const std::vector<std::uint64_t>& b = shape(factors.b);
  if (a[0] != b[1]) {
    refuse(ErrorCode::Corrupt,
           fmt::format("has factors of different rank for `{}`: {}A is {}, {}B is {}", name_, mark,
                       shape_text(a), mark, shape_text(b)),
           factors.b,
           a.size() > 2 ? "factors on a convolution of several groups have no product" : "");
  }
  // On a convolution A has its kernel and B is one pixel wide, so that the product is that of two
  // matrices, with A read as rank x (channels * kernel).
  if (info(factors.b).elements != b[0] * b[1]) {
    refuse(ErrorCode::Unsupported,
           fmt::format("has a {}B of shape {} on a convolution; only kernels of one element can be "
                       "multiplied out: `{}`",
                       mark, shape_text(b), info(factors.b).name),
           factors.b);
  }
  return factors;
}

std::uint64_t FamilyModule::rank(std::optional<std::uint64_t> of_tensors,
                                 const std::string& parameter) {
  if (!adapter_.ranks) {
    adapter_.ranks.emplace(config().counts("rank_pattern"),
                           fmt::format("rank_pattern of `{}`", config().path()));
  }
  const auto patterned = adapter_.ranks->find(pattern_name(parameter));
  const std::uint64_t expected = patterned ? *patterned : config().count("r", kDefaultRank);
  if (of_tensors && *of_tensors != expected) {
    adapter_.differing_ranks.push_back(
        fmt::format("{} ({} instead of {})", name_, *of_tensors, expected));
  }
  rank_ = of_tensors.value_or(expected);
  return rank_;
}

double FamilyModule::alpha(const char* field, const std::string& parameter) {
  if (!adapter_.alphas) {
    adapter_.alphas.emplace(config().numbers("alpha_pattern"),
                            fmt::format("alpha_pattern of `{}`", config().path()));
  }
  const auto patterned = adapter_.alphas->find(pattern_name(parameter));
  alpha_ = patterned ? *patterned : config().number(field, kDefaultAlpha);
  return *alpha_;
}

std::string FamilyModule::pattern_name(const std::string& parameter) const {
  return parameter.empty() ? known_as_ : known_as_ + "." + parameter;
}

void FamilyModule::add(Update update) {
  update.module = name_;
  if (update.rank == 0) update.rank = rank_;
  if (!update.alpha) update.alpha = alpha_;
  adapter_.updates.push_back(std::move(update));
}

void FamilyModule::add(UpdateKind kind, std::shared_ptr<const Change> change, double scale) {
  Update update;
  update.kind = kind;
  update.parameter = "weight";
  update.scale = scale;
  if (const auto* product = dynamic_cast<const FactorChange*>(change.get())) {
    update.rank = product->rank();
  }
  update.change = std::move(change);
  add(std::move(update));
}

void FamilyModule::warn(const std::string& message) {
  if (!contains(adapter_.warnings, message)) adapter_.warnings.push_back(message);
}

void FamilyModule::refuse(ErrorCode code, const std::string& what, const std::string& hint) const {
  adapter_.refuse(code, what, name_, hint);
}

void FamilyModule::refuse(ErrorCode code, const std::string& what, std::size_t tensor,
                          const std::string& hint) const {
  adapter_.refuse(code, what, info(tensor).name, hint);
}

void FamilyModule::check_all_used() const {
  std::vector<std::string> left;
  for (const auto& [name, index] : tensors_) {
    if (!used_.contains(name)) left.push_back(info(index).name);
  }
  if (left.empty()) return;
  adapter_.refuse(ErrorCode::Corrupt,
                  fmt::format("holds tensors that have no part in the update of `{}`: {}", name_,
                              list_text(left)),
                  left.front(), "the file and its adapter_config.json do not belong together");
}

}  // namespace thorns
