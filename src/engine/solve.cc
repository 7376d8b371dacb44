#include "engine/solve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernel/kernels.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Vector = std::vector<double>;  // coefficients over the operands

using Point = NodePoint;

class Solver {
 public:
  Solver(const Program& program, const CellGrams& grams)
      : program_(program), grams_(grams), n_(program.operands.size()) {
    for (std::size_t b = 0; b <= program.blocks.size(); ++b) {
      first_cell_.push_back(program.cells_before(b));
    }
  }

  Solution run() {
    for (const ProgramNode& node : program_.nodes) {
      if (node.sum) {
        points_.push_back(solve_sum(*node.sum));
      } else if (node.method) {
        points_.push_back(solve_method(*node.method));
      } else if (node.map) {
        points_.push_back(solve_map(*node.map));
      } else {
        points_.push_back(solve_norm(*node.norm));
      }
    }
    const Point& result = points_.back();
    double square = 0;
    for (std::size_t b = 0; b < blocks() && program_.blocks[b].written; ++b) {
      for (std::size_t cell = first_cell_[b]; cell < first_cell_[b + 1]; ++cell) {
        square += inner(at(result, cell), at(result, cell), cell);
      }
    }
    solution_.norm = std::sqrt(std::max(0.0, square));
    for (std::size_t i = 0; i < n_; ++i) solution_.distances.push_back(distance(i));
    solution_.last = last_step();
    solution_.coefficients = points_.back().values;
    solution_.points = std::move(points_);
    return std::move(solution_);
  }

 private:
  std::size_t blocks() const { return program_.blocks.size(); }
  // Whether every node has every row: what its parts lack adds nothing.
  bool has_all_rows() const {
    return program_.vocabulary == VocabularyRule::Zero ||
           program_.vocabulary == VocabularyRule::Gradient;
  }
  const double* at(const Point& point, std::size_t cell) const {
    return point.values.data() + cell * n_;
  }
  double* at(Point& point, std::size_t cell) const { return point.values.data() + cell * n_; }

  Point empty_point() const {
    Point point;
    point.present.assign(blocks(), false);
    point.values.assign(first_cell_.back() * n_, 0.0);
    return point;
  }

  double inner(const double* x, const double* y, std::size_t cell) const {
    const double* const gram = grams_.of(cell);
    double sum = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      if (x[i] == 0) continue;
      double row = 0;
      for (std::size_t j = 0; j < n_; ++j) {
        row += gram[i <= j ? pair_index(i, j, n_) : pair_index(j, i, n_)] * y[j];
      }
      sum += x[i] * row;
    }
    return sum;
  }

  void add(double* to, double scale, const double* from) const {
    for (std::size_t i = 0; i < n_; ++i) to[i] += scale * from[i];
  }

  // From the result to an operand, over the written blocks that both have.
  double distance(std::size_t operand) const {
    if (program_.operands[operand].adapter != nullptr) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    double square = 0;
    Vector difference(n_);
    for (std::size_t b = 0; b < blocks() && program_.blocks[b].written; ++b) {
      if (!program_.blocks[b].has(program_.operands[operand])) continue;
      for (std::size_t cell = first_cell_[b]; cell < first_cell_[b + 1]; ++cell) {
        std::copy_n(at(points_.back(), cell), n_, difference.begin());
        difference[operand] -= 1;
        square += inner(difference.data(), difference.data(), cell);
      }
    }
    return std::sqrt(std::max(0.0, square));
  }

  LastStep last_step() const {
    const ProgramNode& last = program_.nodes.back();
    LastStep step{{}, Vector(n_, 0.0)};
    Vector scales;
    const auto add_model = [&](std::size_t node, double scale) {
      const double* const x = at(points_[node], 0);
      const auto one = static_cast<std::size_t>(std::find(x, x + n_, 1.0) - x);
      if (one < n_ && program_.operands[one].is_stored() &&
          std::count(x, x + n_, 0.0) == static_cast<std::ptrdiff_t>(n_) - 1) {
        step.coefficients[one] += scale;
      } else {
        step.models.emplace_back(x, x + n_);
        scales.push_back(scale);
      }
    };
    if (program_.lines != Lines::None) return {};
    if (last.method && all_have(*last.method, 0)) {
      const Vector& found = solution_.nodes.back().coefficients;
      for (std::size_t i = 0; i < found.size(); ++i) add_model(last.method->models[i], found[i]);
    } else if (last.sum) {
      for (const SumNode::Term& term : last.sum->terms) {
        if (term.is_operand) {
          step.coefficients[term.index] += term.scale;
        } else {
          add_model(term.index, term.scale);
        }
      }
    }
    step.coefficients.insert(step.coefficients.end(), scales.begin(), scales.end());
    return step;
  }

  Point solve_sum(const SumNode& sum) const {
    Point point = empty_point();
    for (std::size_t b = 0; b < blocks(); ++b) {
      bool whole = true;
      for (const SumNode::Term& term : sum.terms) {
        const bool present = term.is_operand ? program_.blocks[b].has(program_.operands[term.index])
                                             : points_[term.index].present[b];
        whole = whole && present;
      }
      if (!whole && !has_all_rows()) continue;
      point.present[b] = true;
      for (std::size_t cell = first_cell_[b]; cell < first_cell_[b + 1]; ++cell) {
        for (const SumNode::Term& term : sum.terms) {
          if (term.is_operand) {
            if (!program_.blocks[b].has(program_.operands[term.index])) continue;
            at(point, cell)[term.index] += term.scale;
          } else if (points_[term.index].present[b]) {
            add(at(point, cell), term.scale, at(points_[term.index], cell));
          }
        }
      }
    }
    return point;
  }

  bool all_have(const MethodNode& node, std::size_t block) const {
    return std::all_of(node.models.begin(), node.models.end(),
                       [&](std::size_t model) { return points_[model].present[block]; });
  }

  Point solve_method(const MethodNode& node) {
    const std::size_t models = node.models.size();
    Vector products(models * models, 0.0);
    for (std::size_t i = 0; i < models; ++i) {
      for (std::size_t j = i; j < models; ++j) {
        double product = 0;
        for (std::size_t b = 0; b < blocks(); ++b) {
          if (!all_have(node, b)) continue;
          for (std::size_t cell = first_cell_[b]; cell < first_cell_[b + 1]; ++cell) {
            product +=
                inner(at(points_[node.models[i]], cell), at(points_[node.models[j]], cell), cell);
          }
        }
        // A square is never negative, whatever rounding says.
        products[i * models + j] = products[j * models + i] =
            i == j ? std::max(0.0, product) : product;
      }
    }
    const Coefficients found =
        node.method->coefficients(Gram(products, models), node.weights, node.parameters);
    solution_.nodes.push_back({node.recipe_node, found.values, found.angle, found.fell_back});
    if (found.angle) solution_.nodes.back().padded_angle = padded_angle(node);
    Point point = empty_point();
    for (std::size_t b = 0; b < blocks(); ++b) {
      if (all_have(node, b)) {
        combine(node, found.values, b, point);
      } else if (program_.vocabulary == VocabularyRule::Union) {
        const Vector shares = shares_of(node, b);
        if (!shares.empty()) combine(node, shares, b, point);
      }
    }
    return point;
  }

  // The angle between two models over all rows, zero in the one that lacks them; nullopt where none
  // lacks any.
  std::optional<double> padded_angle(const MethodNode& node) const {
    const Point& a = points_[node.models.front()];
    const Point& b = points_[node.models.back()];
    if (node.models.size() != 2 || a.present == b.present) return std::nullopt;
    double aa = 0;
    double ab = 0;
    double bb = 0;
    for (std::size_t cell = 0; cell < first_cell_.back(); ++cell) {
      aa += inner(at(a, cell), at(a, cell), cell);
      ab += inner(at(a, cell), at(b, cell), cell);
      bb += inner(at(b, cell), at(b, cell), cell);
    }
    if (!(aa > 0 && bb > 0)) return std::nullopt;
    return std::acos(std::clamp(ab / std::sqrt(aa) / std::sqrt(bb), -1.0, 1.0));
  }

  void combine(const MethodNode& node, const Vector& values, std::size_t block,
               Point& point) const {
    point.present[block] = true;
    for (std::size_t cell = first_cell_[block]; cell < first_cell_[block + 1]; ++cell) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Point& model = points_[node.models[i]];
        if (model.present[block]) add(at(point, cell), values[i], at(model, cell));
      }
    }
  }

  // The weights of the models that have the block, among themselves; empty where none has it.
  Vector shares_of(const MethodNode& node, std::size_t block) const {
    Vector shares(node.models.size(), 0.0);
    double sum = 0;
    double count = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (!points_[node.models[i]].present[block]) continue;
      shares[i] = node.weights[i];
      sum += shares[i];
      ++count;
    }
    if (count == 0) return {};
    // One model's rows are taken as they are, whatever its weight; so are equal shares of several
    // whose weights cancel out.
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (!points_[node.models[i]].present[block]) continue;
      shares[i] = count == 1 || sum == 0 ? 1 / count : shares[i] / sum;
    }
    return shares;
  }

  Point solve_map(const MapNode& node) const {
    const Point& model = points_[node.model];
    Point point = empty_point();
    point.present = model.present;
    for (std::size_t cell = 0; cell < first_cell_.back(); ++cell) {
      for (const MapNode::Image& image : node.images) {
        at(point, cell)[image.to] += at(model, cell)[image.from];
      }
    }
    return point;
  }

  // The lines of a block with Lines::Rows are its own; those with Lines::Columns pass through all
  // blocks.
  Point solve_norm(const NormNode& node) const {
    const auto& change = static_cast<const NormChange&>(*node.update->change);
    const auto norms = change.load(node.adapter->source(), node.base);
    Point point = points_[node.model];
    const std::size_t columns =
        program_.lines == Lines::Columns ? program_.cells_of(0) : norms.size();
    Vector squares(norms.size(), 0.0);
    const auto each = [&](auto body) {
      for (std::size_t b = 0; b < blocks(); ++b) {
        if (!point.present[b]) continue;
        for (std::size_t cell = first_cell_[b]; cell < first_cell_[b + 1]; ++cell) {
          const std::size_t line = program_.lines == Lines::Columns ? cell % columns : cell;
          // Rows that only a longer model has are none of the adapter's.
          if (line < norms.size()) body(cell, line);
        }
      }
    };
    each([&](std::size_t cell, std::size_t line) {
      squares[line] += inner(at(point, cell), at(point, cell), cell);
    });
    for (std::size_t line = 0; line < norms.size(); ++line) {
      if (squares[line] > 0 || !norms[line]) continue;
      throw Error(
          ErrorCode::NonFinite,
          fmt::format("`{}` scales every {} of `{}` to a norm, but {} {} is zero", node.label,
                      program_.lines == Lines::Rows ? "row" : "column", program_.tensor,
                      program_.lines == Lines::Rows ? "row" : "column", line),
          TensorPlace{program_.tensor},
          "the adapter and the model do not belong together, or the model is damaged");
    }
    each([&](std::size_t cell, std::size_t line) {
      if (!norms[line]) return;
      const double scale = *norms[line] / std::sqrt(squares[line]);
      for (std::size_t i = 0; i < n_; ++i) at(point, cell)[i] *= scale;
    });
    return point;
  }

  const Program& program_;
  const CellGrams& grams_;
  std::size_t n_;
  std::vector<std::size_t> first_cell_;  // by block, and the end of the last
  std::vector<Point> points_;
  Solution solution_;
};

}  // namespace

Solution solve(const Program& program, const CellGrams& grams) {
  return Solver(program, grams).run();
}

}  // namespace thorns
