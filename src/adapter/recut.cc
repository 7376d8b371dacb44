// recut: rows that llama.cpp reordered, and updates of projections that the model keeps in one
// matrix and the adapter apart, or the other way round (pieces.h). (Matrices whose parts take turns
// by head, as in GPT-NeoX, are not in the table: an adapter of theirs has to name them as the model
// does.)
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "adapter/adapter_view.h"
#include "adapter/numbers.h"
#include "adapter/pieces.h"
#include "adapter/refit.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

struct Fusion {
  std::string_view whole;
  std::string_view part;
  Projection which;
};
constexpr std::array<Fusion, 8> kFusions = {{{"qkv_proj", "q_proj", Projection::Query},
                                             {"qkv_proj", "k_proj", Projection::Key},
                                             {"qkv_proj", "v_proj", Projection::Value},
                                             {"W_pack", "q_proj", Projection::Query},
                                             {"W_pack", "k_proj", Projection::Key},
                                             {"W_pack", "v_proj", Projection::Value},
                                             {"gate_up_proj", "gate_proj", Projection::Gate},
                                             {"gate_up_proj", "up_proj", Projection::Up}}};

bool is_straight_matrix(const BaseTensor& base) {
  return base.shape.size() == 2 && !base.transposed;
}

// B of llama.cpp with its rows as transformers has them: row t D/2 + i of a head of D rows is
// stored as row 2 i + t.
class Unrotated final : public FactorChange {
 public:
  Unrotated(const RowPiece& piece, std::uint64_t head_rows)
      : piece_(piece), head_rows_(head_rows) {}

  std::uint64_t rank() const override { return piece_.rank; }
  bool fits(const BaseTensor& base) const override {
    return is_straight_matrix(base) && base.rows() == piece_.rows &&
           base.columns() == piece_.columns && piece_.rows % head_rows_ == 0;
  }
  std::string expected() const override {
    return fmt::format("[{}, {}] in heads of {} rows", piece_.rows, piece_.columns, head_rows_);
  }
  std::vector<std::size_t> tensors() const override { return {piece_.a, piece_.tensor}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return piece_.rank * std::max(piece_.rows, piece_.columns) * 2 * sizeof(double);
  }
  void load(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> u,
            std::span<float> v) const override {
    read_floats(source, piece_.a, v);
    const std::vector<double> b = read_numbers(source, piece_.tensor);
    for (std::uint64_t row = 0; row < piece_.rows; ++row) {
      const std::uint64_t within = row % head_rows_;
      const std::uint64_t half = head_rows_ / 2;
      const std::uint64_t stored = row - within + 2 * (within % half) + within / half;
      for (std::uint64_t k = 0; k < piece_.rank; ++k) {
        u[row * piece_.rank + k] = static_cast<float>(b[stored * piece_.rank + k]);
      }
    }
  }

 private:
  RowPiece piece_;
  std::uint64_t head_rows_;
};

std::string_view last_component(std::string_view module) {
  return module.substr(module.rfind('.') + 1);  // npos + 1 == 0
}

// Which projections a model keeps in one matrix, asked by the end of a module's name.
class Cuts {
 public:
  explicit Cuts(std::span<const TensorInfo> tensors) {
    constexpr std::string_view kWeight = ".weight";
    for (const TensorInfo& info : tensors) {
      if (!info.name.ends_with(kWeight)) continue;
      const std::string_view module =
          std::string_view(info.name).substr(0, info.name.size() - kWeight.size());
      const std::string_view last = last_component(module);
      const bool known = std::any_of(kFusions.begin(), kFusions.end(), [&](const Fusion& fusion) {
        return last == fusion.whole || last == fusion.part;
      });
      if (!known) continue;
      for (std::size_t at = 0; at != module.npos;) {
        endings_.emplace(module.substr(at));
        const std::size_t dot = module.find('.', at);
        at = dot == module.npos ? module.npos : dot + 1;
      }
    }
  }

  bool empty() const { return endings_.empty(); }

  // Where the longest end of the parent's name that the model has with either component has it with
  // `wanted` alone.
  bool has_instead(std::string_view parent, std::string_view wanted, std::string_view given) const {
    for (;;) {
      const std::string stem = parent.empty() ? std::string() : std::string(parent) + '.';
      const bool wanted_there = endings_.contains(stem + std::string(wanted));
      const bool given_there = endings_.contains(stem + std::string(given));
      if (wanted_there || given_there) return wanted_there && !given_there;
      if (parent.empty()) return false;
      const std::size_t dot = parent.find('.');
      parent = dot == parent.npos ? std::string_view() : parent.substr(dot + 1);
    }
  }

 private:
  std::set<std::string, std::less<>> endings_;  // of the modules in question
};

class Recutter {
 public:
  Recutter(const Adapter& adapter, const FoldTarget& target)
      : adapter_(adapter), cuts_(target.tensors), head_rows_(target.head_rows) {}

  // nullopt where everything is as it should be.
  std::optional<std::vector<Update>> run() {
    if (cuts_.empty() && !adapter_.rotates_neighbours()) return std::nullopt;
    for (const Update& update : adapter_.updates()) {
      if (!unrotate(update) && !join(update) && !split(update)) updates_.push_back(update);
    }
    if (joined_.empty() && !split_ && !adapter_.rotates_neighbours()) return std::nullopt;
    for (auto& [tensor, pieces] : joined_) add(tensor, std::move(pieces));
    return std::move(updates_);
  }

 private:
  static std::string_view parent_of(std::string_view module) {
    const std::size_t dot = module.rfind('.');
    return dot == module.npos ? std::string_view() : module.substr(0, dot);
  }
  static std::string child(std::string_view parent, std::string_view name) {
    return parent.empty() ? std::string(name) : fmt::format("{}.{}", parent, name);
  }

  bool unrotate(const Update& update) {
    const std::string_view last = last_component(update.module);
    if (!adapter_.rotates_neighbours() || (last != "q_proj" && last != "k_proj")) return false;
    if (head_rows_ == 0 || head_rows_ % 2 != 0) {
      throw Error(ErrorCode::Mismatch,
                  fmt::format("the adapter `{}` has the rows of q and k in llama.cpp's order, and "
                              "the model does not say how many rows a head has",
                              adapter_.path()),
                  FilePlace{adapter_.path()}, "that stands in the model's config.json");
    }
    updates_.push_back(update);
    updates_.back().change =
        std::make_shared<Unrotated>(factors_of(update, Projection::Query), head_rows_);
    return true;
  }

  bool join(const Update& update) {
    const std::string_view parent = parent_of(update.module);
    const auto* const fusion =
        std::find_if(kFusions.begin(), kFusions.end(), [&](const Fusion& one) {
          return last_component(update.module) == one.part &&
                 cuts_.has_instead(parent, one.whole, one.part);
        });
    if (fusion == kFusions.end()) return false;
    Tensor whole{child(parent, fusion->whole), update.parameter, sort_of(update)};
    joined_[whole].push_back(piece_of(update, fusion->which, fusion->whole));
    return true;
  }

  bool split(const Update& update) {
    const std::string_view parent = parent_of(update.module);
    bool found = false;
    for (const Fusion& fusion : kFusions) {
      if (last_component(update.module) != fusion.whole) continue;
      if (!cuts_.has_instead(parent, fusion.part, fusion.whole)) continue;
      RowPiece whole = piece_of(update, fusion.which, fusion.part);
      whole.whole = true;
      add({child(parent, fusion.part), update.parameter, sort_of(update)}, {whole});
      found = true;
    }
    split_ = split_ || found;
    return found;
  }

  // A tensor of the model, and how pieces change it: as factors, rows or norms.
  using Tensor = std::tuple<std::string, std::string, UpdateKind>;
  // What is replaced is cleared and added.
  static UpdateKind sort_of(const Update& update) {
    return update.kind == UpdateKind::Replace ? UpdateKind::Add : update.kind;
  }

  void add(const Tensor& tensor, std::vector<RowPiece> pieces) {
    Update update;
    std::tie(update.module, update.parameter, update.kind) = tensor;
    if (update.kind == UpdateKind::LowRank) {
      update.scale = pieces.front().scale;
      for (const RowPiece& piece : pieces) update.rank += piece.rank;
      update.change = recut_factors(std::move(pieces));
    } else if (update.kind == UpdateKind::Normalise) {
      update.change = recut_norms(std::move(pieces));
    } else {
      if (std::any_of(pieces.begin(), pieces.end(),
                      [](const RowPiece& one) { return one.replaces; })) {
        update.kind = UpdateKind::Map;
        update.change = recut_clearing(pieces);
        updates_.push_back(update);
      }
      update.kind = UpdateKind::Generate;
      update.change = recut_rows(std::move(pieces));
    }
    updates_.push_back(std::move(update));
  }

  RowPiece piece_of(const Update& update, Projection part, std::string_view other) const {
    const TensorInfo& first = adapter_.source().tensors()[update.first];
    const std::size_t dimensions = first.shape.size();
    switch (update.kind) {
      case UpdateKind::LowRank:
        if (update.change != nullptr || update.embedding || dimensions != 2) break;
        if (update.parameter == "weight") return factors_of(update, part);
        break;
      case UpdateKind::Add:
      case UpdateKind::Replace: {
        if (dimensions < 1 || dimensions > 2 || first.elements == 0) break;
        RowPiece piece;
        piece.part = part;
        piece.tensor = update.first;
        piece.rows = first.shape[0];
        piece.dimensions = dimensions;
        piece.columns = first.elements / piece.rows;
        piece.scale = update.scale;
        piece.replaces = update.kind == UpdateKind::Replace;
        return piece;
      }
      case UpdateKind::Normalise: {
        const auto& norms = dynamic_cast<const NormChange&>(*update.change);
        if (norms.by_column({})) break;
        RowPiece piece;
        piece.part = part;
        piece.tensor = norms.tensors().front();
        piece.rows = adapter_.source().tensors()[piece.tensor].elements;
        return piece;
      }
      default:
        break;
    }
    throw Error(
        ErrorCode::Unsupported,
        fmt::format("the adapter `{}` and the model cut their projections differently: `{}` is "
                    "`{}` in the model, and what it does to its `{}` is none of what can be cut to "
                    "fit: products of two factors, DoRA's norms and stored tensors",
                    adapter_.path(), update.module, other, update.parameter),
        TensorPlace{update.module + "." + update.parameter, std::nullopt, adapter_.path()},
        "fold it into a model that has the modules it was trained on");
  }

  // Of an update of two stored factors.
  RowPiece factors_of(const Update& update, Projection part) const {
    const auto tensors = adapter_.source().tensors();
    RowPiece piece;
    piece.part = part;
    piece.tensor = update.second;
    piece.rows = tensors[update.second].shape[0];
    piece.columns = tensors[update.first].shape[1];
    piece.scale = update.scale;
    piece.a = update.first;
    piece.rank = update.rank;
    return piece;
  }

  const Adapter& adapter_;
  Cuts cuts_;
  std::uint64_t head_rows_;
  std::vector<Update> updates_;
  std::map<Tensor, std::vector<RowPiece>> joined_;
  bool split_ = false;
};

}  // namespace

void recut(std::unique_ptr<Adapter>& adapter, const FoldTarget& target) {
  std::optional<std::vector<Update>> updates = Recutter(*adapter, target).run();
  if (!updates) return;
  std::vector<std::string> warnings = adapter->warnings();
  adapter = std::make_unique<AdapterView>(std::move(adapter), std::move(*updates),
                                          std::move(warnings), false);
}

}  // namespace thorns
