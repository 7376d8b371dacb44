// Any bytes as the template of a model card: filled or refused with a place inside of the text, and
// what is filled holds no more than text and fields do.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>

#include "output/card_template.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const thorns::CardFields fields = {{"title", "{{x}}"}, {"empty", ""}};
  const std::string text(data, data + size);
  try {
    // A tag is longer than the longest field.
    if (thorns::fill_template(text, "card.md", fields).size() > size) std::abort();
  } catch (const thorns::Error& error) {
    const auto* place = std::get_if<thorns::FilePlace>(&error.where());
    if (place == nullptr || place->line == 0 || place->column == 0 || place->column > size) {
      std::abort();
    }
  }
  return 0;
}
