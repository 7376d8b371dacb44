// The report as one HTML page; thorns/report.h declares to_html. Its style and script:
#pragma once

#include <string_view>

namespace thorns {

std::string_view page_style();
std::string_view page_script();

}  // namespace thorns
