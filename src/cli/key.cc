// thorns key: a key read back.
#include "cli/key_drawing.h"
#include "cli/summary.h"
#include "cli/verbs.h"

namespace thorns::cli {

int run_key(const KeyArguments& arguments, Console& console) {
  std::string key = arguments.key;
  if (key == "-") {
    key = read_standard_input(kLongestInput);
    if (key.ends_with('\n')) key.pop_back();
  }
  const KeyReport report = read_key(key);
  if (arguments.talk.json) return answer(console, to_json(report) + "\n");
  const std::size_t width = console.out.width();
  return answer(console, arguments.draw ? draw_key(report, width, console.out.has_unicode())
                                        : key_text(report, width));
}

}  // namespace thorns::cli
