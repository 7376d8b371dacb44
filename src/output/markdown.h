// User text made safe for the places of a model card: Markdown, YAML front matter, shell commands.
#pragma once

#include <string>
#include <string_view>

namespace thorns {

// Reads as itself in running text and in a table cell; one line.
std::string markdown_text(std::string_view text);
// A code span; one line. Bars are escaped when it stands in a table.
std::string markdown_code(std::string_view text, bool in_table = false);
// A fenced block that no text inside can close.
std::string markdown_block(std::string_view text, std::string_view language);
// A YAML scalar that is a string for every reader: plain where that is safe, else double-quoted.
std::string yaml_string(std::string_view text);
// One word of a POSIX shell command.
std::string shell_word(std::string_view text);

}  // namespace thorns
