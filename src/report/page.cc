// One section of the page after the other, each from the numbers of the report.
#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "base/text.h"
#include "report/drawing.h"
#include "report/html.h"
#include "thorns/report.h"
#include "thorns/words.h"

namespace thorns {
namespace {

constexpr std::size_t kMostColumns = 64;  // of a table of numbers by layer and module
constexpr int kShades = 9;
const double kAveraging = std::acos(0.9995);  // SLERP of a smaller angle is linear interpolation

using Kind = ReportInput::Kind;

// ---------------------------------------------------------------- tables

struct Cell {
  std::string text;
  std::optional<double> shade;  // 0 to 1
};

Cell shaded(std::string text, double value, double most) {
  const double part = most > 0 ? value / most : 0.0;
  if (!std::isfinite(part)) return {std::move(text), {}};
  return {std::move(text), std::clamp(part, 0.0, 1.0)};
}

struct Row {
  std::string head;
  std::vector<Cell> cells;
};

std::string row_html(const Row& row, std::size_t text_columns) {
  std::string text = fmt::format(R"(<tr><th scope="row">{}</th>)", html(row.head));
  for (std::size_t c = 0; c < row.cells.size(); ++c) {
    const Cell& cell = row.cells[c];
    if (cell.shade) {
      const int shade = std::min(kShades - 1, static_cast<int>(*cell.shade * kShades));
      text += fmt::format("<td class=s{}>{}</td>", shade, html(cell.text));
    } else {
      text += fmt::format("<td{}>{}</td>", c < text_columns ? " class=t" : "", html(cell.text));
    }
  }
  return text + "</tr>\n";
}

// A table that scrolls within itself. The first `text_columns` after the row's head hold no
// numbers; `foot` stays below the rows however they are sorted.
std::string table(const std::string& caption, const char* kind, const std::string& corner,
                  const std::vector<std::string>& columns, const std::vector<Row>& rows,
                  std::size_t text_columns = 0, const Row* foot = nullptr) {
  std::string text = fmt::format(
      R"(<div class="scroll" role="region" tabindex="0" aria-label="{0}"><table class="{1} sort">)"
      R"(<caption>{0}</caption><thead><tr><th scope="col">{2}</th>)",
      html(caption), kind, html(corner));
  for (std::size_t c = 0; c < columns.size(); ++c) {
    text += fmt::format(R"(<th scope="col"{}><span>{}</span></th>)",
                        c < text_columns ? "" : R"( class="n")", html(columns[c]));
  }
  text += "</tr></thead><tbody>\n";
  for (const Row& row : rows) text += row_html(row, text_columns);
  text += "</tbody>";
  if (foot != nullptr) text += "<tfoot>" + row_html(*foot, text_columns) + "</tfoot>";
  return text + "</table></div>\n";
}

// The scale of shades from 0 to `most`; `mark` is drawn as a line on it.
std::string scale(const std::string& most, double mark_at, const std::string& mark) {
  std::string text = R"(<div class="scale"><span>0</span><span class="shades" aria-hidden="true">)";
  for (int i = 0; i < kShades; ++i) text += fmt::format("<i class=s{}></i>", i);
  if (!mark.empty() && mark_at >= 0 && mark_at <= 1) {
    text += fmt::format(R"(<b style="left:{:.2f}%"></b>)", mark_at * 100);
  }
  text += fmt::format("</span><span>{}</span>", html(most));
  if (!mark.empty()) text += fmt::format(R"(<span class="mark">{}</span>)", html(mark));
  return text + "</div>\n";
}

// The last component of every module, or all of it where that would be ambiguous.
std::vector<std::string> short_names(const std::vector<std::string>& modules) {
  const auto last = [](const std::string& name) {
    const std::size_t dot = name.rfind('.');
    return dot == std::string::npos ? name : name.substr(dot + 1);
  };
  std::map<std::string, int> uses;
  for (const std::string& module : modules) ++uses[last(module)];
  std::vector<std::string> names;
  for (const std::string& module : modules) {
    const std::string name = last(module);
    names.push_back(uses[name] == 1 && name != "bias" ? name : module);
  }
  return names;
}

// What `cell_of` says of every place: layers down, modules across, and after them the tensors
// outside of the layers. Places of which it says nothing are left out.
template <class CellOf>
std::string by_module(const Report& report, const std::string& caption, CellOf cell_of) {
  std::vector<std::string> modules;
  std::map<std::string, std::size_t> column_of;
  std::map<std::size_t, std::vector<Cell>> cells;
  std::vector<Row> outside;
  for (const ReportPlace& place : report.places) {
    const std::optional<Cell> cell = cell_of(place.numbers);
    if (!cell) continue;
    if (!place.layer) {
      outside.push_back({place.tensor, {*cell}});
      continue;
    }
    const auto [column, is_new] = column_of.emplace(place.module, modules.size());
    if (is_new) modules.push_back(place.module);
    std::vector<Cell>& row = cells[*place.layer];
    if (modules.size() <= kMostColumns) {
      row.resize(std::max(row.size(), column->second + 1));
      row[column->second] = *cell;
    }
  }
  std::string text;
  if (modules.size() > kMostColumns) {
    text += fmt::format("<p>The layers have {} different modules, too many for a table.</p>\n",
                        modules.size());
  } else if (!modules.empty()) {
    std::vector<Row> rows;
    for (auto& [layer, row] : cells) {
      row.resize(modules.size());
      rows.push_back({std::to_string(layer), std::move(row)});
    }
    text += table(caption, "heat modules", "layer", short_names(modules), rows);
  }
  if (!outside.empty()) {
    text += table(modules.empty() ? caption : "Outside of the layers", "heat", "tensor", {"value"},
                  outside);
  }
  return text;
}

// ---------------------------------------------------------------- sections

std::string section(const char* id, const char* title, const std::string& body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-title\"><h2 "
      "id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
      id, title, body);
}

std::string count_of(std::uint64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

double part_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::size_t count_kind(const Report& report, Kind kind) {
  return static_cast<std::size_t>(
      std::count_if(report.inputs.begin(), report.inputs.end(),
                    [&](const ReportInput& input) { return input.kind == kind; }));
}

std::string fact(const char* name, const std::string& value, const std::string& more) {
  return fmt::format("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", name, html(value),
                     html(more));
}

std::string glance(const Report& report) {
  const ReportNumbers& whole = report.whole;
  std::map<std::string, std::uint64_t> made;
  for (const ReportPlace& place : report.places) made[place.made] += place.numbers.tensors;
  std::vector<std::string> kinds;
  for (const auto& [kind, count] : made) kinds.push_back(fmt::format("{} {}", count, kind));
  std::string text = "<dl class=\"facts\">\n";
  text += fact("made of", count_of(count_kind(report, Kind::Model), "model"),
               count_of(count_kind(report, Kind::Adapter), "adapter"));
  text += fact("size", human_bytes(report.bytes), report.dtype);
  text += fact("tensors", std::to_string(whole.tensors), list_text(kinds));
  std::uint64_t angles = 0;
  std::uint64_t averaged = 0;
  double largest = 0;
  for (const ReportAngles& node : whole.angles) {
    angles += node.tensors;
    averaged += node.averaged;
    largest = std::max(largest, node.largest);
  }
  if (angles > 0) {
    text += fact("only averaged", percent_text(part_of(averaged, angles)) + " %",
                 fmt::format("{} of {}", averaged, count_of(angles, "angle")));
    text += fact("largest angle", degrees_text(largest) + "\xC2\xB0", "between two models");
  }
  if (whole.sampled > 0) {
    text += fact("one more rounding", percent_text(part_of(whole.changed, whole.sampled)) + " %",
                 "of elements would differ");
  }
  return section("glance", "At a glance", text + "</dl>\n");
}

std::string key_section(const Report& report) {
  std::string text = fmt::format("<code class=\"key\">{}</code>\n", html(report.published));
  const std::string drawing = draw_key(report);
  if (drawing.empty()) {
    text += "<p>The key has too many parts to be drawn.</p>\n";
  } else {
    text +=
        "<p>Every edge is labelled with its share: the part of the result that arrives through it, "
        "by the "
        "length (L2 norm) of what it contributes.</p>\n<div class=\"scroll\" role=\"region\" "
        "tabindex=\"0\" "
        "aria-label=\"The key as a tree\">" +
        drawing + "</div>\n<details><summary>The same in words</summary>\n" + key_list(report) +
        "</details>\n";
  }
  return section("key", "The key", text);
}

std::string angles_section(const Report& report) {
  if (report.measured.empty()) return {};
  const std::vector<std::size_t> numbers = blend_numbers(report);
  double largest = 0;
  for (const ReportAngles& node : report.whole.angles) largest = std::max(largest, node.largest);
  std::string text = fmt::format(
      "<p>The angle between the two models of a node, in degrees. Below {0}\xC2\xB0 (a cosine "
      "above "
      "0.9995) a SLERP is linear interpolation: such angles are marked \xE2\x89\x88.</p>\n",
      degrees_text(kAveraging));
  text += scale(degrees_text(largest) + "\xC2\xB0", largest > 0 ? kAveraging / largest : -1,
                "| " + degrees_text(kAveraging) + "\xC2\xB0: averaged to the left of the line");
  text += "<div class=\"side\">\n";
  for (std::size_t m = 0; m < report.measured.size(); ++m) {
    const ReportNode& node = report.nodes[report.measured[m]];
    const ReportAngles& whole = report.whole.angles[m];
    text += fmt::format(
        "<article><h3>Node {}: {}</h3>\n<p><code>{}</code><br>{}\xC2\xB0 to {}\xC2\xB0, on average "
        "{}\xC2\xB0; {} of {} averaged</p>\n",
        numbers[report.measured[m]], html(node.method), html(node.key),
        degrees_text(whole.smallest), degrees_text(whole.largest), degrees_text(whole.mean),
        whole.averaged, whole.tensors);
    text += by_module(
        report, fmt::format("Angles at node {}, degrees", numbers[report.measured[m]]),
        [&](const ReportNumbers& all) -> std::optional<Cell> {
          const ReportAngles& angles = all.angles[m];
          if (angles.tensors == 0) return std::nullopt;
          return shaded((angles.averaged > 0 ? "\xE2\x89\x88" : "") + degrees_text(angles.mean),
                        angles.mean, largest);
        });
    text += "</article>\n";
  }
  return section("angles", "Angles", text + "</div>\n");
}

// One column for every input of which `value_of` knows something; layers down, all tensors last.
template <class ValueOf, class TextOf>
std::string by_layer(const Report& report, const std::string& caption, double most,
                     ValueOf value_of, TextOf text_of) {
  std::vector<std::string> columns;
  std::vector<std::size_t> inputs;
  for (std::size_t i = 0; i < report.inputs.size(); ++i) {
    if (!value_of(report.whole, i)) continue;
    inputs.push_back(i);
    columns.push_back((report.inputs[i].kind == Kind::Adapter ? "+ " : "") + report.inputs[i].name);
  }
  if (inputs.empty()) return {};
  const auto row_of = [&](const std::string& head, const ReportNumbers& numbers) {
    Row row{head, {}};
    for (const std::size_t input : inputs) {
      const std::optional<double> value = value_of(numbers, input);
      row.cells.push_back(value ? shaded(text_of(value), *value, most) : Cell{text_of(value), {}});
    }
    return row;
  };
  std::vector<Row> rows;
  for (const ReportLayer& layer : report.layers) {
    rows.push_back(row_of(std::to_string(layer.layer), layer.numbers));
  }
  const Row whole = row_of("all tensors", report.whole);
  return table(caption, "heat", "layer", columns, rows, 0, &whole);
}

std::string shares_section(const Report& report) {
  const auto share = [](const ReportNumbers& numbers, std::size_t input) {
    return numbers.parts[input].share;
  };
  const std::string table =
      by_layer(report, "Share of every model and adapter (+), percent", 1.0, share, percent_text);
  if (table.empty()) return {};
  return section(
      "shares", "Shares",
      "<p>What every model and adapter contributes to a layer: the length of its part (coefficient "
      "times norm) over the sum of all lengths.</p>\n" +
          scale("100 %", -1, {}) + table);
}

// How much of the models' mean norm is left.
std::optional<double> kept(const ReportNumbers& numbers) {
  double sum = 0;
  double count = 0;
  for (const ReportPart& part : numbers.parts) {
    if (!part.norm) continue;
    sum += *part.norm;
    ++count;
  }
  if (!numbers.norm || count == 0 || sum == 0) return std::nullopt;
  return *numbers.norm * count / sum;
}

std::string norms_section(const Report& report) {
  std::vector<std::string> columns;
  std::vector<std::size_t> models;
  for (std::size_t i = 0; i < report.inputs.size(); ++i) {
    if (!report.whole.parts[i].norm) continue;
    models.push_back(i);
    columns.push_back(report.inputs[i].name);
  }
  if (models.empty()) return {};
  columns.insert(columns.end(), {"result", "kept, %"});
  const auto row_of = [&](const std::string& head, const ReportNumbers& numbers) {
    Row row{head, {}};
    for (const std::size_t model : models) {
      row.cells.push_back({number_text(numbers.parts[model].norm), {}});
    }
    row.cells.push_back({number_text(numbers.norm), {}});
    row.cells.push_back({percent_text(kept(numbers)), {}});
    return row;
  };
  std::vector<Row> rows;
  for (const ReportLayer& layer : report.layers) {
    rows.push_back(row_of(std::to_string(layer.layer), layer.numbers));
  }
  const Row whole = row_of("all tensors", report.whole);
  std::string chart = draw_norms(report);
  if (!chart.empty()) {
    chart = R"(<div class="scroll" role="region" tabindex="0" aria-label="Chart of the norms">)" +
            chart + "</div>\n";
  }
  return section("norms", "Norms before and after",
                 "<p>L2 norms of the models and of the result. Linear averages are shorter than "
                 "what they are made of, SLERPs hardly; <em>kept</em> is the result's norm over "
                 "the mean of the models'.</p>\n" +
                     chart + table("Norms by layer", "plain", "layer", columns, rows, 0, &whole));
}

std::optional<double> relative_distance(const ReportNumbers& numbers, std::size_t input) {
  const auto& distance = numbers.parts[input].distance;
  if (!distance || !numbers.norm || *numbers.norm == 0) return std::nullopt;
  return *distance / *numbers.norm;
}

std::string distances_section(const Report& report) {
  double most = 0;
  for (std::size_t i = 0; i < report.inputs.size(); ++i) {
    for (const ReportLayer& layer : report.layers) {
      most = std::max(most, relative_distance(layer.numbers, i).value_or(0));
    }
    most = std::max(most, relative_distance(report.whole, i).value_or(0));
  }
  const std::string table =
      by_layer(report, "Distance of the result from every model, percent of the result's norm",
               most, relative_distance, percent_text);
  if (table.empty()) return {};
  return section("distances", "Distance to each parent",
                 "<p>How far the result is from every model (L2 norm of the difference), relative "
                 "to the norm of "
                 "the result.</p>\n" +
                     scale(percent_text(most) + " %", -1, {}) + table);
}

std::string rounding_section(const Report& report) {
  const ReportNumbers& whole = report.whole;
  std::string text = fmt::format(
      "<p>Every element was rounded once, at the end: {} % of {} are not exactly the sum, because "
      "the output's "
      "type cannot hold it. {} became infinite for being too large, {} are NaN or infinite.</p>\n",
      percent_text(part_of(whole.rounded, whole.elements)), count_of(whole.elements, "element"),
      whole.clipped, whole.nonfinite);
  if (whole.sampled == 0) {
    text +=
        "<p>What one more rounding would have changed was not counted: no merge was left to store "
        "in between, "
        "or the output has no 16-bit tensors, or an older thorns made it.</p>\n";
    return section("rounding", "Rounding", text);
  }
  text += fmt::format(
      "<p>Had the last node's models been stored in 16 bits before it, as a chain of tools does "
      "that writes each "
      "merge, <strong>{} % of the elements</strong> would be other numbers ({} of a sample of {}: "
      "the first 128 of "
      "every 65536 or fewer).</p>\n",
      percent_text(part_of(whole.changed, whole.sampled)), whole.changed, whole.sampled);
  double most = 0;
  for (const ReportPlace& place : report.places) {
    most = std::max(most, part_of(place.numbers.changed, place.numbers.sampled));
  }
  text += scale(percent_text(most) + " %", -1, {});
  text += by_module(report, "Elements that one more rounding would change, percent",
                    [&](const ReportNumbers& numbers) -> std::optional<Cell> {
                      if (numbers.sampled == 0) return std::nullopt;
                      const double part = part_of(numbers.changed, numbers.sampled);
                      return shaded(percent_text(part), part, most);
                    });
  return section("rounding", "Rounding", text);
}

std::string tensors_section(const Report& report) {
  std::vector<std::string> columns = {"made by", "type", "shape", "norm"};
  std::vector<std::size_t> models;
  for (std::size_t i = 0; i < report.inputs.size(); ++i) {
    if (!report.whole.parts[i].distance) continue;
    models.push_back(i);
    columns.push_back("from " + report.inputs[i].name);
  }
  columns.emplace_back("rounded, %");
  columns.emplace_back("one more step, %");
  std::vector<Row> rows;
  for (const ReportPlace& place : report.places) {
    const ReportNumbers& numbers = place.numbers;
    const std::string more =
        numbers.tensors > 1 ? fmt::format(" and {} more", numbers.tensors - 1) : std::string();
    Row row{place.tensor + more,
            {{place.made, {}},
             {to_string(place.dtype), {}},
             {fmt::format("{}", fmt::join(place.shape, "\xC3\x97")), {}},
             {number_text(numbers.norm), {}}}};
    for (const std::size_t model : models) {
      row.cells.push_back({number_text(numbers.parts[model].distance), {}});
    }
    row.cells.push_back({percent_text(part_of(numbers.rounded, numbers.elements)), {}});
    row.cells.push_back(
        {percent_text(numbers.sampled == 0
                          ? std::nullopt
                          : std::optional(part_of(numbers.changed, numbers.sampled))),
         {}});
    rows.push_back(std::move(row));
  }
  return section("tensors", "All tensors",
                 "<p>Norms and distances are L2, of the exact result. Tensors whose names differ "
                 "in a number within "
                 "their layer (experts) stand in one row.</p>\n<details open><summary>" +
                     count_of(rows.size(), "row") + "</summary>\n" +
                     table("Every tensor of the result", "plain", "tensor", columns, rows, 3) +
                     "</details>\n");
}

std::string inputs_section(const Report& report) {
  std::vector<Row> rows;
  for (const ReportInput& input : report.inputs) {
    const char* const kind = input.kind == Kind::Model     ? "model"
                             : input.kind == Kind::Adapter ? "adapter"
                                                           : "other";
    rows.push_back({input.name,
                    {{kind, {}},
                     {input.what, {}},
                     {input.where, {}},
                     {input.base_model, {}},
                     {input.bytes == 0 ? "" : human_bytes(input.bytes), {}}}});
  }
  return section("inputs", "Models and adapters",
                 table("What the key's names were", "plain", "name",
                       {"what", "kind", "where it came from", "trained on", "weights"}, rows, 4));
}

std::string notes_section(const Report& report) {
  if (report.warnings.empty() && report.dropped.empty()) return {};
  std::string text;
  if (!report.warnings.empty()) {
    text += "<ul>\n";
    for (const std::string& warning : report.warnings) text += "<li>" + html(warning) + "</li>\n";
    text += "</ul>\n";
  }
  if (!report.dropped.empty()) {
    std::vector<Row> rows;
    for (const ReportDropped& one : report.dropped) {
      rows.push_back({one.tensor, {{one.leaf, {}}, {one.reason, {}}}});
    }
    text += table("Tensors that are not in the result", "plain", "tensor", {"of", "why"}, rows, 2);
  }
  return section("notes", "Warnings and what was left out", text);
}

std::string files_section(const Report& report) {
  std::vector<Row> rows;
  for (const ReportFile& file : report.files) {
    rows.push_back({file.name, {{file.sha256, {}}, {fmt::format("{}", file.size), {}}}});
  }
  return section(
      "files", "Files",
      "<p><code>thorns verify</code> reads them again and says whether they are as the merge wrote "
      "them.</p>\n" +
          table("Files of the folder", "plain", "file", {"SHA-256", "bytes"}, rows, 1));
}

std::string navigation(const std::string& body) {
  static constexpr std::pair<const char*, const char*> kSections[] = {
      {"glance", "At a glance"}, {"key", "Key"},         {"angles", "Angles"},
      {"shares", "Shares"},      {"norms", "Norms"},     {"distances", "Distances"},
      {"rounding", "Rounding"},  {"tensors", "Tensors"}, {"inputs", "Inputs"},
      {"notes", "Warnings"},     {"files", "Files"}};
  std::string text = "<nav aria-label=\"Sections\"><ul>";
  for (const auto& [id, title] : kSections) {
    if (body.find(fmt::format("<section id=\"{}\"", id)) == std::string::npos) continue;
    text += fmt::format(R"(<li><a href="#{}">{}</a></li>)", id, title);
  }
  return text + "</ul></nav>\n";
}

}  // namespace

std::string to_html(const Report& report) {
  const std::string body = glance(report) + key_section(report) + angles_section(report) +
                           shares_section(report) + norms_section(report) +
                           distances_section(report) + rounding_section(report) +
                           tensors_section(report) + inputs_section(report) +
                           notes_section(report) + files_section(report);
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; "
      "script-src {0}\">\n<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{1}: what it is made "
      "of</title>\n"
      "<style>{2}</style></head>\n<body><a class=\"skip\" href=\"#main\">Skip to the report</a>\n"
      "<header><h1>{1}</h1><p>What this merge is made of. Merged by thorns {3}.</p>{4}</header>\n"
      "<main id=\"main\">\n{5}</main>\n<script>{6}</script></body></html>\n",
      script_hash(page_script()), html(report.name), page_style(), html(report.program_version),
      navigation(body), body, page_script());
}

}  // namespace thorns
