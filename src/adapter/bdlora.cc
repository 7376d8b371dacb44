// BD-LoRA (Wang et al. 2025): of the blocks of a block-diagonal factor the file has no more than
// those, each below the one before. A of r x in is stored as r x in / n, B of out x r as
// out x r / n.
#include "adapter/bdlora.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr const char* kField = "use_bdlora";

// Row i of a block-diagonal matrix of `rows` rows: its numbers `row`, in their place, and zeros.
void place(std::span<const float> row, std::uint64_t i, std::uint64_t rows, std::uint64_t blocks,
           std::span<float> to) {
  std::fill(to.begin(), to.end(), 0.0F);
  const std::uint64_t block = i / (rows / blocks);
  std::copy(row.begin(), row.end(), to.begin() + static_cast<std::ptrdiff_t>(block * row.size()));
}

// The factor `tensor`, rows x columns, which holds all of it or its blocks.
void read_factor(const TensorSource& source, std::size_t tensor, std::uint64_t columns,
                 std::uint64_t blocks, std::span<float> to) {
  const std::uint64_t rows = to.size() / columns;
  if (blocks == 1) return read_floats(source, tensor, to);
  std::vector<float> row(columns / blocks);
  for (std::uint64_t i = 0; i < rows; ++i) {
    read_floats(source, tensor, row, i * row.size());
    place(row, i, rows, blocks, to.subspan(i * columns, columns));
  }
}

class BlockProduct final : public ProductChange {
 public:
  struct Factor {
    std::size_t tensor;
    std::uint64_t rows;
    std::uint64_t columns;
    std::uint64_t blocks;  // 1: stored whole
  };
  BlockProduct(const Factor& a, const Factor& b) : ProductChange(a.rows), a_(a), b_(b) {}

  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{b_.rows, a_.columns});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override {
    return {{b_.rows, a_.columns}};
  }
  std::vector<std::size_t> tensors() const override { return {a_.tensor, b_.tensor}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) + std::max(a_.columns, b_.columns) * sizeof(float);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return out == b_.rows && in == a_.columns;
  }
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    read_factor(source, a_.tensor, a_.columns, a_.blocks, a);
    read_factor(source, b_.tensor, b_.columns, b_.blocks, b);
  }

  Factor a_;
  Factor b_;
};

// Whether the list `name` has a part of the module's whole name.
bool names(const ConfigFields& fields, const char* name, const std::string& module) {
  const std::vector<std::string> parts = fields.texts(name);
  return std::any_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return module.find(part) != module.npos; });
}

}  // namespace

bool is_bdlora(const ConfigFields& config) { return config.is_set(kField); }

std::shared_ptr<const FactorChange> block_diagonal_product(FamilyModule& module) {
  if (!is_bdlora(module.config())) return nullptr;
  const Json* const field = module.config().find(kField);
  if (!field->is_object()) module.config().wrong(kField, "an object");
  const ConfigFields fields(*field, module.config().path());
  const bool in_a = names(fields, "target_modules_bd_a", module.name());
  const bool in_b = names(fields, "target_modules_bd_b", module.name());
  if (!in_a && !in_b) return nullptr;
  const std::uint64_t blocks = fields.count("nblocks", 1);
  BlockProduct::Factor a{module.need("lora_A"), 0, 0, in_a ? blocks : 1};
  BlockProduct::Factor b{module.need("lora_B"), 0, 0, in_b ? blocks : 1};
  bool whole = !(in_a && in_b);
  for (BlockProduct::Factor* factor : {&a, &b}) {
    module.check_matrix(factor->tensor);
    factor->rows = module.shape(factor->tensor)[0];
    whole = whole && factor->rows % factor->blocks == 0;
    if (whole) factor->columns = module.shape(factor->tensor)[1] * factor->blocks;
  }
  if (!whole || a.rows != b.columns) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has no product for `{}`: a lora_A of {} and a lora_B of {}, where one "
                    "should be {} blocks",
                    module.name(), shape_text(module.shape(a.tensor)),
                    shape_text(module.shape(b.tensor)), blocks),
        b.tensor);
  }
  return std::make_shared<BlockProduct>(a, b);
}

}  // namespace thorns
