// recut: rows that llama.cpp reordered, and low-rank updates of projections that the model keeps in
// one matrix and the adapter apart, or the other way round. The rows of a joined matrix are those
// of its parts, one part after the other: [q; k; v] and [gate; up]. (Matrices that take turns by
// head, as in GPT-NeoX, are not in the table: an adapter of theirs has to name them as the model
// does.)
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "adapter/adapter_view.h"
#include "adapter/numbers.h"
#include "adapter/refit.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

enum class Part { Query, Key, Value, Gate, Up };

struct Fusion {
  std::string_view whole;
  std::string_view part;
  Part which;
};
constexpr std::array<Fusion, 8> kFusions = {{{"qkv_proj", "q_proj", Part::Query},
                                             {"qkv_proj", "k_proj", Part::Key},
                                             {"qkv_proj", "v_proj", Part::Value},
                                             {"W_pack", "q_proj", Part::Query},
                                             {"W_pack", "k_proj", Part::Key},
                                             {"W_pack", "v_proj", Part::Value},
                                             {"gate_up_proj", "gate_proj", Part::Gate},
                                             {"gate_up_proj", "up_proj", Part::Up}}};

// Where a part of `rows` rows begins in a matrix of `all`: keys and values have as many rows as
// each other and no more than the queries; gate and up are halves. nullopt where it cannot be.
std::optional<std::uint64_t> first_row(Part part, std::uint64_t rows, std::uint64_t all) {
  if (rows == 0 || rows >= all) return std::nullopt;
  const std::uint64_t rest = all - rows;
  switch (part) {
    case Part::Query:
      if (rest % 2 != 0 || rest / 2 > rows) return std::nullopt;
      return 0;
    case Part::Key:
    case Part::Value:
      if (rest / 2 < rows) return std::nullopt;
      return part == Part::Value ? rest : rest - rows;
    case Part::Gate:
    case Part::Up:
      if (rest != rows) return std::nullopt;
      return part == Part::Gate ? 0 : rows;
  }
  return std::nullopt;
}

bool is_straight_matrix(const BaseTensor& base) {
  return base.shape.size() == 2 && !base.transposed;
}

// One part's own factors.
struct Piece {
  Part part = Part::Query;
  std::size_t a = 0;  // in the adapter's source
  std::size_t b = 0;
  std::uint64_t rank = 0;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  double scale = 1.0;
};

// Parts put together: V is all A below one another, U has every B at its own rows and columns.
class Joined final : public FactorChange {
 public:
  explicit Joined(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
    for (const Piece& piece : pieces_) rank_ += piece.rank;
  }

  std::uint64_t rank() const override { return rank_; }
  bool fits(const BaseTensor& base) const override {
    return is_straight_matrix(base) &&
           std::all_of(pieces_.begin(), pieces_.end(), [&](const Piece& piece) {
             return piece.columns == base.columns() &&
                    first_row(piece.part, piece.rows, base.rows()).has_value();
           });
  }
  std::string expected() const override {
    std::vector<std::string> shapes;
    for (const Piece& piece : pieces_) {
      shapes.push_back(fmt::format("[{}, {}]", piece.rows, piece.columns));
    }
    return fmt::format("parts of {}", fmt::join(shapes, ", "));
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all;
    for (const Piece& piece : pieces_) all.insert(all.end(), {piece.a, piece.b});
    return all;
  }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    std::uint64_t most = 0;
    for (const Piece& piece : pieces_) {
      most = std::max(most, piece.rank * std::max(piece.rows, piece.columns));
    }
    return most * 2 * sizeof(double);
  }
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    std::fill(u.begin(), u.end(), 0.0F);
    std::size_t at = 0;  // the first of this piece's ranks
    for (const Piece& piece : pieces_) {
      const std::vector<double> a = read_numbers(source, piece.a);
      std::transform(a.begin(), a.end(),
                     v.begin() + static_cast<std::ptrdiff_t>(at * base.columns()),
                     [](double number) { return static_cast<float>(number); });
      const std::vector<double> b = read_numbers(source, piece.b);
      const std::uint64_t first = *first_row(piece.part, piece.rows, base.rows());
      const double factor = piece.scale / pieces_.front().scale;
      for (std::uint64_t row = 0; row < piece.rows; ++row) {
        for (std::uint64_t k = 0; k < piece.rank; ++k) {
          u[(first + row) * rank_ + at + k] = static_cast<float>(factor * b[row * piece.rank + k]);
        }
      }
      at += piece.rank;
    }
  }

 private:
  std::vector<Piece> pieces_;
  std::uint64_t rank_ = 0;
};

// A part of a joined update: some rows of B, all of A.
class Sliced final : public FactorChange {
 public:
  explicit Sliced(const Piece& whole) : whole_(whole) {}

  std::uint64_t rank() const override { return whole_.rank; }
  bool fits(const BaseTensor& base) const override {
    return is_straight_matrix(base) && base.columns() == whole_.columns &&
           first_row(whole_.part, base.rows(), whole_.rows).has_value();
  }
  std::string expected() const override {
    return fmt::format("a part of [{}, {}]", whole_.rows, whole_.columns);
  }
  std::vector<std::size_t> tensors() const override { return {whole_.a, whole_.b}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return whole_.rank * std::max(whole_.rows, whole_.columns) * 2 * sizeof(double);
  }
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    const auto narrow = [](double number) { return static_cast<float>(number); };
    const std::vector<double> a = read_numbers(source, whole_.a);
    std::transform(a.begin(), a.end(), v.begin(), narrow);
    const std::vector<double> b = read_numbers(source, whole_.b);
    const std::uint64_t first = *first_row(whole_.part, base.rows(), whole_.rows);
    const auto begin = b.begin() + static_cast<std::ptrdiff_t>(first * whole_.rank);
    std::transform(begin, begin + static_cast<std::ptrdiff_t>(base.rows() * whole_.rank), u.begin(),
                   narrow);
  }

 private:
  Piece whole_;
};

// B of llama.cpp with its rows as transformers has them: row t D/2 + i of a head of D rows is
// stored as row 2 i + t.
class Unrotated final : public FactorChange {
 public:
  Unrotated(const Piece& piece, std::uint64_t head_rows) : piece_(piece), head_rows_(head_rows) {}

  std::uint64_t rank() const override { return piece_.rank; }
  bool fits(const BaseTensor& base) const override {
    return is_straight_matrix(base) && base.rows() == piece_.rows &&
           base.columns() == piece_.columns && piece_.rows % head_rows_ == 0;
  }
  std::string expected() const override {
    return fmt::format("[{}, {}] in heads of {} rows", piece_.rows, piece_.columns, head_rows_);
  }
  std::vector<std::size_t> tensors() const override { return {piece_.a, piece_.b}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return piece_.rank * std::max(piece_.rows, piece_.columns) * 2 * sizeof(double);
  }
  void load(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> u,
            std::span<float> v) const override {
    const auto narrow = [](double number) { return static_cast<float>(number); };
    const std::vector<double> a = read_numbers(source, piece_.a);
    std::transform(a.begin(), a.end(), v.begin(), narrow);
    const std::vector<double> b = read_numbers(source, piece_.b);
    for (std::uint64_t row = 0; row < piece_.rows; ++row) {
      const std::uint64_t within = row % head_rows_;
      const std::uint64_t half = head_rows_ / 2;
      const std::uint64_t stored = row - within + 2 * (within % half) + within / half;
      for (std::uint64_t k = 0; k < piece_.rank; ++k) {
        u[row * piece_.rank + k] = narrow(b[stored * piece_.rank + k]);
      }
    }
  }

 private:
  Piece piece_;
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
    for (auto& [module, pieces] : joined_) {
      Update update;
      update.module = module;
      update.parameter = "weight";
      update.scale = pieces.front().scale;
      update.change = std::make_shared<Joined>(pieces);
      for (const Piece& piece : pieces) update.rank += piece.rank;
      updates_.push_back(std::move(update));
    }
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
        std::make_shared<Unrotated>(factors_of(update, Part::Query), head_rows_);
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
    joined_[child(parent, fusion->whole)].push_back(piece_of(update, fusion->which, fusion->whole));
    return true;
  }

  bool split(const Update& update) {
    const std::string_view parent = parent_of(update.module);
    bool found = false;
    for (const Fusion& fusion : kFusions) {
      if (last_component(update.module) != fusion.whole) continue;
      if (!cuts_.has_instead(parent, fusion.part, fusion.whole)) continue;
      const Piece whole = piece_of(update, fusion.which, fusion.part);
      Update part = update;
      part.module = child(parent, fusion.part);
      part.change = std::make_shared<Sliced>(whole);
      updates_.push_back(std::move(part));
      found = true;
    }
    split_ = split_ || found;
    return found;
  }

  Piece piece_of(const Update& update, Part part, std::string_view other) const {
    const auto tensors = adapter_.source().tensors();
    const bool plain = update.kind == UpdateKind::LowRank && update.change == nullptr &&
                       update.parameter == "weight" && !update.embedding &&
                       tensors[update.first].shape.size() == 2;
    if (!plain) {
      throw Error(
          ErrorCode::Unsupported,
          fmt::format("the adapter `{}` and the model cut their projections differently: "
                      "`{}` is `{}` in the model, and only the products of two factors can "
                      "be cut to fit, which its `{}` is not",
                      adapter_.path(), update.module, other, update.parameter),
          TensorPlace{update.module + "." + update.parameter, std::nullopt, adapter_.path()},
          "fold it into a model that has the modules it was trained on");
    }
    return factors_of(update, part);
  }

  // Of an update of two stored factors.
  Piece factors_of(const Update& update, Part part) const {
    const auto tensors = adapter_.source().tensors();
    return {part,
            update.first,
            update.second,
            update.rank,
            tensors[update.second].shape[0],
            tensors[update.first].shape[1],
            update.scale};
  }

  const Adapter& adapter_;
  Cuts cuts_;
  std::uint64_t head_rows_;
  std::vector<Update> updates_;
  std::map<std::string, std::vector<Piece>> joined_;  // by module of the model
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
