#include <algorithm>

#include "method/method.h"

namespace thorns {
namespace {

// A function's static, because methods register before main in an order that nobody fixes.
std::vector<const SpanMethod*>& registry() {
  static std::vector<const SpanMethod*> methods;
  return methods;
}

}  // namespace

RegisterMethod::RegisterMethod(const SpanMethod* method) {
  std::vector<const SpanMethod*>& methods = registry();
  const auto at = std::find_if(methods.begin(), methods.end(), [&](const SpanMethod* other) {
    return other->name() > method->name();
  });
  methods.insert(at, method);
}

const std::vector<const SpanMethod*>& method_catalogue() { return registry(); }

const SpanMethod* find_method(std::string_view name) {
  for (const SpanMethod* method : registry()) {
    if (method->name() == name) return method;
  }
  return nullptr;
}

}  // namespace thorns
