// VeRA (Kopiczko et al. 2024): W + diag(lambda_b) B diag(lambda_d) A. A and B are random matrices
// that all layers share; of each a layer takes as many columns and rows as it has.
#include <fmt/format.h>

#include <memory>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

class VeraProduct final : public ProductChange {
 public:
  struct Tensors {
    std::size_t a;         // rank x at least in
    std::size_t b;         // at least out x rank
    std::size_t lambda_d;  // rank
    std::size_t lambda_b;  // out
  };
  VeraProduct(const FamilyModule& module, const Tensors& tensors)
      : ProductChange(module.info(tensors.lambda_d).elements),
        tensors_(tensors),
        out_(module.info(tensors.lambda_b).elements),
        most_in_(module.shape(tensors.a)[1]) {}

  std::string expected() const override {
    return fmt::format("{} outputs and at most {} inputs", out_, most_in_);
  }
  std::vector<std::size_t> tensors() const override {
    return {tensors_.a, tensors_.b, tensors_.lambda_d, tensors_.lambda_b};
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return out == out_ && in <= most_in_;
  }
  void make(const TensorSource& source, std::span<float> b, std::span<float> a) const override {
    const std::vector<double> lambda_d = read_numbers(source, tensors_.lambda_d);
    const std::vector<double> lambda_b = read_numbers(source, tensors_.lambda_b);
    read_floats(source, tensors_.b, b);  // its first rows
    for (std::size_t i = 0; i < b.size(); ++i) b[i] *= static_cast<float>(lambda_b[i / rank()]);
    const std::size_t in = a.size() / rank();
    for (std::size_t k = 0; k < rank(); ++k) {
      const std::span<float> row = a.subspan(k * in, in);
      read_floats(source, tensors_.a, row, k * most_in_);
      for (float& value : row) value *= static_cast<float>(lambda_d[k]);
    }
  }

  Tensors tensors_;
  std::uint64_t out_;
  std::uint64_t most_in_;
};

void fold(FamilyModule& module) {
  const VeraProduct::Tensors all = {module.need_shared("vera_A"), module.need_shared("vera_B"),
                                    module.need("vera_lambda_d"), module.need("vera_lambda_b")};
  module.check_matrix(all.a);
  module.check_matrix(all.b);
  const std::uint64_t rank = module.shape(all.a)[0];
  if (module.shape(all.lambda_d) != std::vector<std::uint64_t>{rank} ||
      module.shape(all.lambda_b).size() != 1 || module.shape(all.b)[1] != rank ||
      module.shape(all.b)[0] < module.shape(all.lambda_b)[0]) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has a vera_A of shape {} and a vera_B of {}, which are too small or "
                    "of another rank for a vera_lambda_d of {} and a vera_lambda_b of {}: "
                    "`{}`",
                    shape_text(module.shape(all.a)), shape_text(module.shape(all.b)),
                    shape_text(module.shape(all.lambda_d)), shape_text(module.shape(all.lambda_b)),
                    module.info(all.lambda_d).name),
        all.lambda_d);
  }
  module.add(UpdateKind::LowRank, std::make_shared<VeraProduct>(module, all));
}

const RegisterFamily registered(
    {.type = "VERA",
     .name = "VeRA",
     .reference = "Kopiczko et al. 2024",
     .update = "W + diag(λ_b)·B·diag(λ_d)·A, with A and B shared by all "
               "layers",
     .layers = "linear, Conv1D",
     .tensors = {"vera_lambda_b", "vera_lambda_d"},
     .shared = {"vera_A", "vera_B"},
     .fold = fold});

}  // namespace
}  // namespace thorns
