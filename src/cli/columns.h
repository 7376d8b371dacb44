// Text on a grid of terminal columns: how wide it is, how to cut it, wrap it and make it safe to
// show. Names of tensors, files and models come from strangers, so nothing reaches a terminal that
// has not been through `printable`. Pure functions; widths are columns, text is UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thorns::cli {

// Columns that `text` takes: wide characters two, combining ones none, broken bytes one each.
std::size_t display_width(std::string_view text);

// `text` with every control character but a newline, and every byte that is not UTF-8, as `?`.
std::string printable(std::string_view text);
// The same on one line: newlines too.
std::string printable_line(std::string_view text);

// At most `width` columns; what is cut out of the middle is marked by "...".
std::string shorten(std::string_view text, std::size_t width);

// A tensor's name in at most `width` columns: first a final ".weight" goes, then leading parts
// ("model."), as long as the layer number stays; then as `shorten`.
std::string shorten_tensor(std::string_view name, std::size_t width);

// Filled with blanks to at least `width` columns.
std::string pad_right(std::string_view text, std::size_t width);
std::string pad_left(std::string_view text, std::size_t width);

// Lines of at most `width` columns, broken at blanks (a longer word stands alone), each line led by
// `indent` blanks and ended by a newline. A newline in `text` stays one.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

// As `wrap`, for text without blanks such as keys: broken anywhere.
std::string wrap_anywhere(std::string_view text, std::size_t width, std::size_t indent);

// Rows of cells under each other, two blanks between columns, each line led by `indent` blanks. A
// column whose name in `right` is true is flush right. The last column is shortened to `width`.
std::string table(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& right,
                  std::size_t width, std::size_t indent);

}  // namespace thorns::cli
