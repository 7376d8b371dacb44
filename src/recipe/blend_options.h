// The options of one blend, checked against the method catalogue.
#pragma once

#include <functional>
#include <string>

#include "key/expression.h"
#include "recipe/recipe.h"

namespace thorns {

// Throws an error at a span of the key.
using FailAt = std::function<void(Span span, const std::string& message, const std::string& hint)>;

// Fills in method, settings and weights of `node`; reports everything that has no meaning through
// `fail`, which must throw.
void bind_options(const BlendExpression& blend, Span span, const FailAt& fail, BlendNode& node);

}  // namespace thorns
