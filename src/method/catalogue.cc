// The list of all merge methods, filled by their own files before main begins.
#include <algorithm>

#include "method/method.h"

namespace thorns {
namespace {

// A function's static, because the methods register in an order that nobody controls.
std::vector<const SpanMethod*>& methods() {
  static std::vector<const SpanMethod*> list;
  return list;
}

}  // namespace

RegisterMethod::RegisterMethod(const SpanMethod* method) {
  auto& list = methods();
  const auto place = std::lower_bound(
      list.begin(), list.end(), method,
      [](const SpanMethod* a, const SpanMethod* b) { return a->name() < b->name(); });
  list.insert(place, method);
}

const std::vector<const SpanMethod*>& method_catalogue() { return methods(); }

const SpanMethod* find_method(std::string_view name) {
  for (const SpanMethod* method : methods()) {
    if (method->name() == name) return method;
  }
  return nullptr;
}

}  // namespace thorns
