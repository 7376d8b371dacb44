// Which models explain an unknown merge: least squares in the inner products that a survey
// measures.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/solve.h"
#include "plan/plan.h"
#include "thorns/diff.h"

namespace thorns {

// A recipe whose survey measures the inner products of `unknown`, its first leaf, with every model
// and every adapter of `recipe`. What it would build has no meaning.
Recipe blame_recipe(Recipe recipe, RecipeLeaf unknown);

class BlameSurvey {
 public:
  // `plan` is that of a blame_recipe and must outlive this.
  explicit BlameSurvey(const Plan& plan);

  // What `survey` of the engine measured of one program.
  void add(std::size_t program, const CellGrams& grams);

  // All but the model's path, the recipe and what was read.
  BlameReport report() const;

 private:
  const Plan& plan_;
  std::size_t models_;
  std::size_t candidates_;
  std::vector<Explanation> tensors_;
  // Over all tensors, by the squared norm of the unknown: of the coefficients, of their weights, of
  // what is left, and of all.
  std::vector<double> coefficients_;
  std::vector<double> weights_;
  double left_ = 0;
  double all_ = 0;
};

}  // namespace thorns
