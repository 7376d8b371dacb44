// The options of one fold: how its adapters become one.
#pragma once

#include "key/expression.h"
#include "method/combination.h"
#include "recipe/blend_options.h"

namespace thorns {

// `fold` has options. Reports everything that has no meaning through `fail`, which must throw.
Combination bind_combination_options(const FoldExpression& fold, const FailAt& fail);

}  // namespace thorns
