#include "adapter/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "adapter/family.h"
#include "adapter/foreign.h"

namespace thorns {
namespace {

using Parts = std::vector<std::string_view>;

// Components that begin like this name a tensor of an adapter, and of none that a family in the
// catalogue knows. They stand at the end of a key, at most an adapter's name and `weight` behind
// them. The first that fits decides.
struct ForeignMark {
  std::string_view beginning;
  const char* what;
};
constexpr std::array<ForeignMark, 34> kForeign = {{
    {"dora_scale", "DoRA"},
    {"lora_diag", "KaSA"},
    {"lora_up", "LoRA in the layout of Kohya or diffusers"},
    {"lora_down", "LoRA in the layout of Kohya or diffusers"},
    {"lora_a", "LoRA in the layout of MLX"},
    {"lora_b", "LoRA in the layout of MLX"},
    {"hada_", "LoHa"},
    {"lokr_", "LoKr"},
    {"vera_", "VeRA"},
    {"pvera_", "PVeRA"},
    {"oft_", "OFT"},
    {"boft_", "BOFT"},
    {"fourierft_", "FourierFT"},
    {"hra_", "HRA"},
    {"miss_", "MiSS"},
    {"bone_", "Bone"},
    {"randlora_", "RandLoRA"},
    {"shira_", "SHiRA"},
    {"vblora_", "VB-LoRA"},
    {"hira_", "HiRA"},
    {"trainable_tokens_", "trainable tokens"},
    {"c3a_", "C3A"},
    {"road_", "RoAd"},
    {"delora_", "DeLoRA"},
    {"gralora_", "GraLoRA"},
    {"deft_", "DEFT"},
    {"glora_", "GLoRA"},
    {"psoft_", "PSOFT"},
    {"tinylora_", "TinyLoRA"},
    {"unilora_", "UniLoRA"},
    {"waveft_", "WaveFT"},
    {"xlora_", "X-LoRA"},
    {"prompt_embeddings", "a prompt-learning method"},
    {"lora_", "an unknown kind of LoRA"},
}};
constexpr std::size_t kMarkDepth = 3;  // mark, adapter's name, "weight"

Parts split(std::string_view key) {
  Parts parts;
  for (;;) {
    const std::size_t dot = key.find('.');
    parts.push_back(key.substr(0, dot));
    if (dot == key.npos) return parts;
    key.remove_prefix(dot + 1);
  }
}

template <typename Iterator>
std::string join(Iterator first, Iterator last) {
  return fmt::format("{}", fmt::join(first, last, "."));
}

// Removes what wrappers around the model put before and between its own names: PEFT, data parallel
// training, torch.compile, FSDP.
void remove_wrappers(Parts& parts) {
  std::erase_if(parts, [](std::string_view part) {
    return part == "_orig_mod" || part == "_fsdp_wrapped_module" ||
           part == "_checkpoint_wrapped_module" || part == "_forward_module" ||
           part == "token_adapter";
  });
  std::size_t front = 0;
  while (front + 1 < parts.size()) {
    if (parts[front] == "base_model") {
      front += parts[front + 1] == "model" && front + 2 < parts.size() ? 2 : 1;
    } else if (parts[front] == "module") {
      ++front;
    } else {
      break;
    }
  }
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(front));
}

bool is_parameter(std::string_view part) { return part == "weight" || part == "bias"; }

// What variants of LoRA keep for training: the noise of MonteCLoRA, the projections of VeLoRA.
bool is_for_training(std::string_view part) {
  return part == "lora_monteclora_sampler" || part == "lora_velora_embed";
}

AdapterKey foreign(std::string what) {
  AdapterKey key;
  key.role = AdapterKey::Role::Foreign;
  key.foreign = std::move(what);
  return key;
}

const char* foreign_mark(const Parts& parts) {
  const std::size_t looked = std::min(parts.size(), kMarkDepth);
  for (std::size_t i = parts.size() - looked; i < parts.size(); ++i) {
    if (family_of_tensor(parts[i]) != nullptr || !kohya_tag(parts[i]).empty()) continue;
    for (const auto& [beginning, what] : kForeign) {
      if (parts[i].starts_with(beginning)) return what;
    }
  }
  return nullptr;
}

// A key with the name of a family's tensor at `at`: an adapter's name and `weight` or `bias` may
// follow. A `base_layer` right before it is a wrapper of the module's parameters around another,
// one further up that of a layer which holds this one and is wrapped itself: multi-head attention
// around its out_proj.
AdapterKey family_key(Parts parts, std::size_t at) {
  auto mark = parts.begin() + static_cast<std::ptrdiff_t>(at);
  const AdapterFamily& family = *family_of_tensor(*mark);
  std::string nested;
  auto wrapper = mark;
  for (; wrapper != parts.begin() && *std::prev(wrapper) == "base_layer"; --wrapper) {
    nested += kNested;
  }
  const auto holder = std::find(parts.begin(), wrapper, "base_layer");
  const std::string held_by = holder == wrapper ? std::string() : join(parts.begin(), holder);
  mark = parts.erase(std::remove(parts.begin(), mark, "base_layer"), mark);
  const bool shared =
      std::find(family.shared.begin(), family.shared.end(), *mark) != family.shared.end();
  if (mark == parts.begin() && !shared) return foreign(family.name + " without a module");
  AdapterKey key;
  key.role = AdapterKey::Role::Family;
  key.module = join(parts.begin(), mark);
  key.known_as = held_by.empty() ? key.module : held_by;
  key.tensor = *mark;
  auto rest = std::next(mark);
  if (rest != parts.end() && !is_parameter(*rest)) key.infix = *rest++;
  if (rest != parts.end() && *rest == "bias") key.tensor += ".bias";
  if (rest != parts.end() && is_parameter(*rest)) ++rest;
  if (rest != parts.end() || family_of_tensor(key.tensor) == nullptr) {
    return foreign("an unknown kind of " + family.name);
  }
  key.tensor = nested + key.tensor;
  return key;
}

}  // namespace

AdapterKey parse_adapter_key(const std::string& name) {
  Parts parts = split(name);
  remove_wrappers(parts);
  if (std::find(parts.begin(), parts.end(), "original_module") != parts.end()) {
    AdapterKey key;
    key.role = AdapterKey::Role::Copy;
    return key;
  }
  if (std::any_of(parts.begin(), parts.end(), is_for_training)) {
    AdapterKey key;
    key.role = AdapterKey::Role::Training;
    return key;
  }
  if (const char* what = foreign_mark(parts)) return foreign(what);
  const auto mark = std::find_if(parts.begin(), parts.end(), [](std::string_view part) {
    return family_of_tensor(part) != nullptr;
  });
  if (mark != parts.end()) {
    return family_key(parts, static_cast<std::size_t>(mark - parts.begin()));
  }

  AdapterKey key;
  const auto saved = std::find(parts.begin(), parts.end(), "modules_to_save");
  if (saved != parts.end()) {
    auto rest = parts.erase(saved);
    if (rest != parts.end() && !is_parameter(*rest) && std::next(rest) != parts.end()) {
      key.infix = *rest;
      parts.erase(rest);
    }
  }
  key.wrapped = std::erase(parts, "base_layer") > 0;
  if (parts.empty() || parts.back().empty()) return foreign("a tensor without a name");
  key.parameter = parts.back();
  key.module = join(parts.begin(), std::prev(parts.end()));
  return key;
}

}  // namespace thorns
