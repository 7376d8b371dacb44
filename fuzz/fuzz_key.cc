// Any bytes as a key: a key or an error, and a key that was read can be printed and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "key/expression.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  thorns::ExpressionPtr expression;
  try {
    expression = thorns::parse_key(text);
  } catch (const thorns::Error& error) {
    const auto* span = std::get_if<thorns::KeySpan>(&error.where());
    if (span == nullptr || span->begin > span->end || span->end > span->text.size()) std::abort();
    to_string(error);
    return 0;
  }
  const std::string key = to_string(*expression);
  if (mentioned_models(*expression).empty()) std::abort();
  mentioned_adapters(*expression);
  draw_tree(*expression);
  legend(*expression);
  // Quotes and backslashes can make the canonical key longer than the limit.
  if (key.size() > thorns::kMaxKeyBytes) return 0;
  const thorns::ExpressionPtr again = thorns::parse_key(key);
  if (!same(*expression, *again) || to_string(*again) != key ||
      depth_of(*expression) != depth_of(*again)) {
    std::abort();
  }
  return 0;
}
