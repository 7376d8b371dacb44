// Text with fields, as a user writes it for the model card. A small part of Mustache:
//
//   {{name}}                   the text of a field, taken as it is
//   {{#name}} ... {{/name}}    left out where the field is empty
//
// A line with nothing but one of the latter two is no line of the result.
#pragma once

#include <map>
#include <string>

namespace thorns {

using CardFields = std::map<std::string, std::string>;

// `path` is where `text` is from, for errors. Throws BadRecipe with file, line and column for a
// field that is not in `fields`, and for a tag or section that does not end.
std::string fill_template(const std::string& text, const std::string& path,
                          const CardFields& fields);

}  // namespace thorns
