#include "plan/extension.h"

#include <algorithm>
#include <cstring>

#include "kernel/kernels.h"

namespace thorns {
namespace {

struct End {  // the last row of a stored tensor
  const TensorSource* source = nullptr;
  std::size_t tensor = 0;

  const TensorInfo& info() const { return source->tensors()[tensor]; }
  std::uint64_t rows() const { return info().shape[0]; }
  std::uint64_t columns() const { return info().elements / rows(); }

  // Some elements of the row, as float64.
  std::vector<double> read(std::uint64_t column, std::size_t count) const {
    std::vector<std::byte> bytes(count * size_of(info().dtype));
    source->read(tensor, info().elements - columns() + column, bytes);
    std::vector<double> values(padded(count));
    widen(info().dtype, bytes.data(), count, values.data());
    return values;
  }
};

class Extension : public TensorSource {
 public:
  // Names in order; the longest has more rows than `own`.
  void add(const std::string& name, End own, End longest) {
    TensorInfo info;
    info.name = name;
    info.shape = longest.info().shape;
    info.shape[0] -= own.rows();
    info.elements = info.shape[0] * own.columns();
    infos_.push_back(std::move(info));
    ends_.push_back({own, longest});
  }

  std::span<const TensorInfo> tensors() const override { return infos_; }

  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    const auto& [own, longest] = ends_[tensor];
    const std::uint64_t columns = own.columns();
    const auto steps = static_cast<double>(infos_[tensor].shape[0] + 1);
    while (!to.empty()) {
      const std::uint64_t column = first % columns;
      const auto count = static_cast<std::size_t>(
          std::min<std::uint64_t>({columns - column, kLongestRun, to.size() / sizeof(float)}));
      const std::vector<double> from = own.read(column, count);
      const std::vector<double> towards = longest.read(column, count);
      const std::uint64_t row = first / columns;
      const double share = static_cast<double>(row + 1) / steps;
      for (std::size_t i = 0; i < count; ++i) {
        const auto value = static_cast<float>((1 - share) * from[i] + share * towards[i]);
        std::memcpy(to.data() + i * sizeof(float), &value, sizeof(float));
      }
      first += count;
      to = to.subspan(count * sizeof(float));
    }
  }
  void will_need(std::size_t, std::uint64_t, std::uint64_t) const override {}
  std::string file_of(std::size_t tensor) const override {
    return ends_[tensor].own.source->file_of(ends_[tensor].own.tensor);
  }

 private:
  static constexpr std::uint64_t kLongestRun = 4096;

  struct Ends {
    End own;
    End longest;
  };
  std::vector<TensorInfo> infos_;
  std::vector<Ends> ends_;
};

End end_of(const LeafView& view, const std::string& name) {
  return {view.source, view.by_name.at(name)};
}

bool can_be_extended(const End& end) {
  return is_blendable(end.info().dtype) && !end.info().shape.empty() && end.info().elements > 0;
}

}  // namespace

void extend_views(Plan& plan, std::vector<LeafView>& views) {
  std::map<std::string, End> longest;
  for (const LeafView& view : views) {
    for (const auto& [name, index] : view.by_name) {
      const End end = end_of(view, name);
      if (!has_token_rows(name) || !can_be_extended(end)) continue;
      const auto at = longest.emplace(name, end).first;
      if (at->second.rows() < end.rows()) at->second = end;
    }
  }
  for (LeafView& view : views) {
    auto extension = std::make_unique<Extension>();
    for (const auto& [name, end] : longest) {
      if (!view.by_name.contains(name)) continue;
      const End own = end_of(view, name);
      if (can_be_extended(own) && own.rows() < end.rows()) extension->add(name, own, end);
    }
    if (extension->tensors().empty()) continue;
    view.extension = extension.get();
    plan.extensions.push_back(std::move(extension));
  }
}

}  // namespace thorns
