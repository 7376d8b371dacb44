#include "adapter/combine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "adapter/combined_factors.h"
#include "adapter/ia3.h"
#include "adapter/numbers.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// The tensors of several sources behind one another. They are found by number alone: two sources
// may hold the same names.
class JoinedSource final : public TensorSource {
 public:
  void append(const TensorSource& source, const std::string& name) {
    for (std::size_t i = 0; i < source.tensors().size(); ++i) {
      TensorInfo info = source.tensors()[i];
      info.name = fmt::format("{}: {}", name, info.name);
      tensors_.push_back(std::move(info));
      places_.emplace_back(&source, i);
    }
  }

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    places_[tensor].first->read(places_[tensor].second, first, to);
  }
  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override {
    places_[tensor].first->will_need(places_[tensor].second, first, count);
  }
  std::string file_of(std::size_t tensor) const override {
    return places_[tensor].first->file_of(places_[tensor].second);
  }

 private:
  std::vector<TensorInfo> tensors_;
  std::vector<std::pair<const TensorSource*, std::size_t>> places_;
};

// Where one member's factors of a module stand in the joined source.
struct Share {
  double weight = 1.0;
  double scale = 1.0;
  std::uint64_t rank = 0;
  std::size_t a = 0;
  std::size_t b = 0;
};

// FNV-1a.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

class CombinedFactors final : public FactorChange {
 public:
  CombinedFactors(const Combination& how, std::vector<Share> shares,
                  std::vector<std::uint64_t> shape, bool embedding, std::uint64_t key)
      : how_(how),
        shares_(std::move(shares)),
        shape_(std::move(shape)),
        embedding_(embedding),
        key_(key) {
    for (const Share& share : shares_) ranks_.push_back(share.rank);
  }

  bool fits(const BaseTensor& base) const override {
    if (!base.transposed) return !embedding_ && base.shape == shape_;
    return base.shape.size() == 2 && shape_.size() == 2 && base.shape[0] == shape_[1] &&
           base.shape[1] == shape_[0];
  }
  std::string expected() const override {
    if (!embedding_) return shape_text(shape_);
    return shape_text(std::vector<std::uint64_t>{shape_[1], shape_[0]});
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all;
    for (const Share& share : shares_) all.insert(all.end(), {share.a, share.b});
    return all;
  }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return combining_memory(how_, ranks_, rows(), columns());
  }
  std::uint64_t rank() const override { return combined_rank(how_, ranks_, rows(), columns()); }

  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    std::vector<FactorPair> pairs;
    for (const Share& share : shares_) {
      pairs.push_back({share.weight, share.scale, share.rank, read_numbers(source, share.a),
                       read_numbers(source, share.b)});
    }
    const FactorPair made = combine_factors(how_, std::move(pairs), rows(), columns(), key_);
    // W is (out, in): B A. W is (in, out): (B A)^T = A^T B^T.
    copy(made.b, made.rank, base.transposed, base.transposed ? v : u);
    copy(made.a, columns(), base.transposed, base.transposed ? u : v);
  }

 private:
  std::uint64_t rows() const { return shape_[0]; }
  std::uint64_t columns() const {
    std::uint64_t product = 1;
    for (std::size_t i = 1; i < shape_.size(); ++i) product *= shape_[i];
    return product;
  }

  static void copy(const std::vector<double>& matrix, std::uint64_t width, bool transposed,
                   std::span<float> to) {
    const std::uint64_t height = matrix.size() / width;
    for (std::uint64_t i = 0; i < matrix.size(); ++i) {
      to[transposed ? i % width * height + i / width : i] = static_cast<float>(matrix[i]);
    }
  }

  Combination how_;
  std::vector<Share> shares_;
  std::vector<std::uint64_t> ranks_;
  std::vector<std::uint64_t> shape_;  // of W as (out, in, kernel...)
  bool embedding_;
  std::uint64_t key_;
};

class CombinedAdapter final : public Adapter {
 public:
  const std::string& path() const override { return name_; }
  const std::string& family() const override { return family_; }
  const std::string& base_model() const override { return base_model_; }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const TensorSource& source() const override { return source_; }
  bool fan_in_fan_out() const override { return fan_in_fan_out_; }

 private:
  friend class Combiner;
  std::string name_;
  std::string family_;
  std::string base_model_;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  std::vector<InputFile> files_;  // none of its own
  JoinedSource source_;
  bool fan_in_fan_out_ = false;
};

class Combiner {
 public:
  Combiner(std::vector<CombinedMember> members, const Combination& how)
      : members_(std::move(members)), how_(how) {}

  std::unique_ptr<Adapter> run(const std::string& name) {
    made_->name_ = name;
    made_->family_ = how_.rule.name;
    made_->base_model_ = members_.front().adapter->base_model();
    made_->fan_in_fan_out_ = members_.front().adapter->fan_in_fan_out();
    if (all_ia3()) return run_ia3();
    for (const CombinedMember& member : members_) collect(member);
    if (how_.rule.cuts_rank() && !how_.svd_rank) how_.svd_rank = largest_rank_;
    for (auto& [place, module] : modules_) add_update(place, module);
    return std::move(made_);
  }

 private:
  // IA3's factors add up, each times its adapter's weight: `linear` alone.
  bool all_ia3() const {
    return how_.rule.name == "linear" &&
           std::all_of(members_.begin(), members_.end(), [](const CombinedMember& member) {
             return member.adapter->family() == "IA3";
           });
  }

  std::unique_ptr<Adapter> run_ia3() {
    struct Scales {
      Update update;
      std::vector<WeightedScale> scales;
    };
    std::map<std::pair<std::string, std::string>, Scales> modules;
    for (const CombinedMember& member : members_) {
      const std::size_t offset = made_->source_.tensors().size();
      made_->source_.append(member.adapter->source(), member.name);
      for (const Update& update : member.adapter->updates()) {
        if (update.kind != UpdateKind::Map) {
          refuse(ErrorCode::Unsupported, *member.adapter,
                 fmt::format("`{}` replaces `{}.{}`, which linear cannot combine", member.name,
                             update.module, update.parameter));
        }
        Scales& module = modules[{update.module, update.parameter}];
        if (module.scales.empty()) module.update = update;
        module.scales.push_back({update.change.get(), member.weight, offset});
      }
    }
    for (auto& [place, module] : modules) {
      module.update.change = sum_of_scales(module.scales);
      if (module.update.change == nullptr) {
        refuse(
            ErrorCode::Mismatch, *members_.back().adapter,
            fmt::format("the adapters scale different sides of `{}`, or layers of different size",
                        place.first));
      }
      made_->updates_.push_back(std::move(module.update));
    }
    return std::move(made_);
  }

  struct Module {
    std::vector<std::uint64_t> shape;
    bool embedding = false;
    std::vector<Share> shares;
    std::string first;  // member that it is from
  };

  void collect(const CombinedMember& member) {
    const Adapter& adapter = *member.adapter;
    if (adapter.family() != "LoRA" && adapter.family() != "rsLoRA") {
      refuse(ErrorCode::Unsupported, adapter,
             fmt::format("`{}` is {}, and {} combines the factors of plain LoRA alone", member.name,
                         adapter.family(), how_.rule.name));
    }
    const std::size_t offset = made_->source_.tensors().size();
    made_->source_.append(adapter.source(), member.name);
    for (const Update& update : adapter.updates()) {
      if (update.kind != UpdateKind::LowRank || update.change != nullptr) {
        refuse(ErrorCode::Unsupported, adapter,
               fmt::format("`{}` does more to `{}.{}` than add a product of two factors, which is "
                           "all that {} can combine",
                           member.name, update.module, update.parameter, how_.rule.name));
      }
      add_share(member, update, offset);
    }
  }

  void add_share(const CombinedMember& member, const Update& update, std::size_t offset) {
    const auto tensors = member.adapter->source().tensors();
    std::vector<std::uint64_t> shape = tensors[update.first].shape;
    shape[0] = tensors[update.second].shape[0];
    const auto [at, is_new] = modules_.try_emplace(
        {update.module, update.parameter}, Module{shape, update.embedding, {}, member.name});
    Module& module = at->second;
    if (module.shape != shape || module.embedding != update.embedding) {
      refuse(
          ErrorCode::Mismatch, *member.adapter,
          fmt::format("`{}` and `{}` are for models of different shape: `{}` is {} in one and {} "
                      "in the other",
                      module.first, member.name, update.module, shape_text(module.shape),
                      shape_text(shape)));
    }
    if (how_.rule.part == CombinedPart::Factors && !is_new &&
        module.shares.front().rank != update.rank) {
      throw Error(ErrorCode::Mismatch,
                  fmt::format("{} needs factors of one rank: that of `{}` is {} in `{}` and {} in "
                              "`{}`",
                              how_.rule.name, update.module, module.shares.front().rank,
                              module.first, update.rank, member.name),
                  FilePlace{member.adapter->path()},
                  how_.rule.prunes() ? fmt::format("`cat`, `svd` and `{}_svd` combine adapters of "
                                                   "different ranks",
                                                   how_.rule.name)
                                     : "`cat` and `svd` combine adapters of different ranks");
    }
    module.shares.push_back(
        {member.weight, update.scale, update.rank, offset + update.first, offset + update.second});
    largest_rank_ = std::max(largest_rank_, update.rank);
  }

  void add_update(const std::pair<std::string, std::string>& place, Module& module) {
    Update update;
    update.kind = UpdateKind::LowRank;
    update.module = place.first;
    update.parameter = place.second;
    update.embedding = module.embedding;
    const std::uint64_t key = hash_of(fmt::format("{} {}", how_.seed, place.first));
    const auto change = std::make_shared<CombinedFactors>(
        how_, std::move(module.shares), std::move(module.shape), module.embedding, key);
    update.rank = change->rank();
    update.change = change;
    made_->updates_.push_back(std::move(update));
  }

  [[noreturn]] static void refuse(ErrorCode code, const Adapter& adapter,
                                  const std::string& message) {
    throw Error(code, message, FilePlace{adapter.path()},
                "fold the adapters one after the other: `A[L+K]`");
  }

  std::vector<CombinedMember> members_;
  Combination how_;
  std::unique_ptr<CombinedAdapter> made_ = std::make_unique<CombinedAdapter>();
  std::map<std::pair<std::string, std::string>, Module> modules_;
  std::uint64_t largest_rank_ = 1;
};

}  // namespace

std::unique_ptr<Adapter> combine(std::vector<CombinedMember> members, const Combination& how,
                                 const std::string& name) {
  return Combiner(std::move(members), how).run(name);
}

}  // namespace thorns
