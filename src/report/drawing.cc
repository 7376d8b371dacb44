#include "report/drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/html.h"

namespace thorns {
namespace {

constexpr std::size_t kMostParts = 200;  // of a recipe that is drawn
constexpr std::size_t kMostLines = 24;   // of the chart of norms

// At most `most` characters of a name, the rest marked; the bytes of a character stay together.
std::string cut(const std::string& name, std::size_t most) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if ((static_cast<unsigned char>(name[i]) & 0xC0) == 0x80) continue;
    if (++characters > most) return name.substr(0, i) + "\xE2\x80\xA6";
  }
  return name;
}

// About the pixels that a name takes on the drawing: letters of other scripts are wide.
double width_of(const std::string& name) {
  double width = 0;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    width += byte < 0x80 ? 7.6 : byte < 0xE0 ? 4.5 : 5.0;
  }
  return width;
}

bool is_drawn(const Report& report) {
  std::size_t parts = report.nodes.size();
  for (const ReportNode& node : report.nodes) parts += node.edges.size();
  return !report.nodes.empty() && parts <= kMostParts;
}

std::string node_title(const ReportNode& node, std::size_t number) {
  if (node.method.empty()) return "fold";
  return fmt::format("{} {}", number, cut(node.method, 9));
}

class KeyDrawing {
 public:
  explicit KeyDrawing(const Report& report)
      : report_(report), numbers_(blend_numbers(report)), seen_(report.nodes.size(), false) {
    for (const ReportInput& input : report.inputs) {
      names_ = std::max(names_, width_of("+ " + cut(input.name, kMostShown)) + 12);
    }
  }

  std::string svg() {
    const Point root = node(report_.root);
    const double end = root.x + kStep / 2;
    edge(root, {end, root.y, 0}, report_.nodes[report_.root].share, false, {});
    text_ += fmt::format(R"(<text class="result" x="{:.0f}" y="{:.0f}">{}</text>)", end + 8,
                         root.y + 5, html(cut(report_.name, 24)));
    const double width = end + 190;
    return fmt::format(
        R"(<svg class="key" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" role="img" )"
        R"(aria-label="The key as a tree; the same in words follows">{}{}</svg>)",
        width, kRow * static_cast<double>(rows_), width, kRow * static_cast<double>(rows_), lines_,
        text_);
  }

 private:
  static constexpr double kRow = 38;
  static constexpr std::size_t kMostShown = 24;  // characters of a name
  static constexpr double kStep = 168;
  static constexpr double kBox = 76;

  struct Point {  // where a part's edge begins
    double x = 0;
    double y = 0;
    std::size_t level = 0;
  };

  Point row(const std::string& name, const char* what) {
    const double y = kRow * (static_cast<double>(rows_++) + 0.5);
    text_ += fmt::format(
        R"(<text class="{}" x="{:.0f}" y="{:.0f}" text-anchor="end">{}<title>{}</title></text>)",
        what, names_ - 8, y + 5, html(cut(name, kMostShown)), html(name));
    return {names_, y, 0};
  }

  Point node(std::size_t index) {
    const ReportNode& node = report_.nodes[index];
    if (node.leaf) return row(report_.inputs[*node.leaf].name, "model");
    if (seen_[index])
      return row(
          "again " + (numbers_[index] > 0 ? fmt::format("node {}", numbers_[index]) : node.key),
          "model");
    seen_[index] = true;
    std::vector<Point> parts;
    Point made;
    for (const ReportEdge& edge : node.edges) {
      parts.push_back(edge.to_adapter ? row("+ " + report_.inputs[edge.index].name, "adapter")
                                      : this->node(edge.index));
      made.level = std::max(made.level, parts.back().level + 1);
      made.y += parts.back().y / static_cast<double>(node.edges.size());
    }
    const double left = names_ + static_cast<double>(made.level) * kStep - kBox;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const ReportEdge& from = node.edges[i];
      std::string weight;
      if (from.to_adapter && from.weight != 1) weight = fmt::format(" \xC3\x97{:.3g}", from.weight);
      edge(parts[i], {left, made.y, 0}, from.share, from.to_adapter, weight);
    }
    text_ += fmt::format(
        R"(<rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="26" rx="6"/>)"
        R"(<text class="node" x="{:.0f}" y="{:.0f}" text-anchor="middle">{}<title>{}</title></text>)",
        left, made.y - 13, kBox, left + kBox / 2, made.y + 5,
        html(node_title(node, numbers_[index])), html(node.key));
    made.x = left + kBox;
    return made;
  }

  void edge(const Point& from, const Point& to, std::optional<double> share, bool adapter,
            const std::string& weight) {
    const double known = std::isfinite(share.value_or(0)) ? share.value_or(0) : 0;
    const double width = 1.5 + 10.5 * std::clamp(known, 0.0, 1.0);
    const double bend = std::max(from.x + 46, to.x - 46);  // room for the label before it
    lines_ += fmt::format(
        R"(<path class="{}" d="M{:.1f} {:.1f}H{:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}" )"
        R"(stroke-width="{:.1f}"/>)",
        adapter ? "edge adapter" : "edge", from.x, from.y, bend, (bend + to.x) / 2, from.y,
        (bend + to.x) / 2, to.y, to.x, to.y, width);
    if (share || !weight.empty()) {
      text_ += fmt::format(R"(<text class="share" x="{:.0f}" y="{:.1f}">{}{}</text>)", from.x + 5,
                           from.y - width / 2 - 3, share ? percent_text(share) + " %" : "", weight);
    }
  }

  const Report& report_;
  std::vector<std::size_t> numbers_;
  std::vector<bool> seen_;
  std::size_t rows_ = 0;
  double names_ = 120;  // where the edges of inputs begin
  std::string lines_;
  std::string text_;
};

class KeyList {
 public:
  explicit KeyList(const Report& report)
      : report_(report), numbers_(blend_numbers(report)), seen_(report.nodes.size(), false) {}

  std::string node(std::size_t index, std::optional<double> share) {
    const ReportNode& node = report_.nodes[index];
    const std::string arrives = share ? ", " + percent_text(share) + " %" : "";
    if (node.leaf) return item(report_.inputs[*node.leaf].name, arrives);
    if (seen_[index]) return item("again " + node.key, arrives);
    seen_[index] = true;
    std::string parts;
    for (const ReportEdge& edge : node.edges) {
      if (!edge.to_adapter) {
        parts += this->node(edge.index, edge.share);
        continue;
      }
      const std::string amount = edge.share ? ", " + percent_text(edge.share) + " %" : "";
      parts += item("adapter " + report_.inputs[edge.index].name,
                    fmt::format(", weight {:.3g}{}", edge.weight, amount));
    }
    const std::string title =
        node.method.empty() ? "fold of"
                            : fmt::format("node {}, {} of", numbers_[index], html(node.method));
    return fmt::format("<li>{}{}<ul>{}</ul></li>", title, arrives, parts);
  }

 private:
  static std::string item(const std::string& name, const std::string& rest) {
    return fmt::format("<li>{}{}</li>", html(name), rest);
  }

  const Report& report_;
  std::vector<std::size_t> numbers_;
  std::vector<bool> seen_;
};

// ---------------------------------------------------------------- norms

struct Line {
  std::string name;
  bool is_result = false;
  std::vector<std::optional<double>> values;  // by layer

  double last() const {
    const auto found = std::find_if(values.rbegin(), values.rend(),
                                    [](const auto& value) { return value.has_value(); });
    return found == values.rend() ? 0 : **found;
  }
};

std::vector<Line> norm_lines(const Report& report) {
  std::vector<Line> lines;
  const auto add = [&](const std::string& name, bool is_result, auto value_of) {
    Line line{name, is_result, {}};
    bool any = false;
    for (const ReportLayer& layer : report.layers) {
      const std::optional<double> value = value_of(layer.numbers);
      line.values.push_back(value && std::isfinite(*value) ? value : std::nullopt);
      any = any || line.values.back();
    }
    if (any) lines.push_back(std::move(line));
  };
  for (std::size_t i = 0; i < report.inputs.size(); ++i) {
    if (report.inputs[i].kind != ReportInput::Kind::Model) continue;
    add(report.inputs[i].name, false, [&](const ReportNumbers& all) { return all.parts[i].norm; });
  }
  add("result", true, [](const ReportNumbers& all) { return all.norm; });
  return lines;
}

}  // namespace

std::vector<std::size_t> blend_numbers(const Report& report) {
  std::vector<std::size_t> numbers;
  std::size_t last = 0;
  for (const ReportNode& node : report.nodes) numbers.push_back(node.method.empty() ? 0 : ++last);
  return numbers;
}

std::string draw_key(const Report& report) {
  return is_drawn(report) ? KeyDrawing(report).svg() : std::string();
}

std::string key_list(const Report& report) {
  if (!is_drawn(report)) return {};
  const ReportNode& root = report.nodes[report.root];
  return fmt::format("<ul>{}</ul>", KeyList(report).node(report.root, root.share));
}

std::string draw_norms(const Report& report) {
  std::vector<Line> lines = norm_lines(report);
  if (report.layers.size() < 2 || lines.size() < 2 || lines.size() > kMostLines) return {};
  double least = std::numeric_limits<double>::infinity();
  double most = 0;
  for (const Line& line : lines) {
    for (const auto& value : line.values) {
      if (value) least = std::min(least, *value), most = std::max(most, *value);
    }
  }
  const double room = most > least ? (most - least) * 0.08 : std::max(most, 1e-300) * 0.1;
  least -= room;
  most += room;

  constexpr double kLeft = 64;
  constexpr double kRight = 600;
  constexpr double kTop = 14;
  const double bottom = std::max(230.0, 40 + 17 * static_cast<double>(lines.size()));
  const auto x = [&](std::size_t layer) {
    return kLeft + (kRight - kLeft) * static_cast<double>(layer) /
                       static_cast<double>(report.layers.size() - 1);
  };
  const auto y = [&](double value) {
    return bottom - (bottom - kTop) * (value - least) / (most - least);
  };

  std::string text;
  for (int i = 0; i <= 3; ++i) {
    const double value = least + (most - least) * i / 3;
    text += fmt::format(
        R"(<path class="rule" d="M{:.0f} {:.1f}H{:.0f}"/><text x="{:.0f}" y="{:.1f}" text-anchor="end">{:.4g}</text>)",
        kLeft, y(value), kRight, kLeft - 6, y(value) + 4, value);
  }
  const std::size_t step = std::max<std::size_t>(1, (report.layers.size() + 9) / 10);
  for (std::size_t l = 0; l < report.layers.size(); l += step) {
    text += fmt::format(R"(<text x="{:.1f}" y="{:.0f}" text-anchor="middle">{}</text>)", x(l),
                        bottom + 18, report.layers[l].layer);
  }
  text += fmt::format(R"(<text x="{:.0f}" y="{:.0f}" text-anchor="middle">layer</text>)",
                      (kLeft + kRight) / 2, bottom + 36);

  // Names stand where their lines end, apart from each other.
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.last() > b.last(); });
  std::vector<double> at;
  for (const Line& line : lines) {
    at.push_back(std::max(y(line.last()), at.empty() ? kTop : at.back() + 17));
  }
  for (std::size_t i = at.size(); i-- > 0;) {
    at[i] = std::min(at[i], i + 1 == at.size() ? bottom : at[i + 1] - 17);
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string path;
    bool pen_up = true;
    for (std::size_t l = 0; l < lines[i].values.size(); ++l) {
      const auto& value = lines[i].values[l];
      if (value) path += fmt::format("{}{:.1f} {:.1f}", pen_up ? 'M' : 'L', x(l), y(*value));
      pen_up = !value;
    }
    const char* const what = lines[i].is_result ? "result" : "model";
    text += fmt::format(
        R"(<path class="line {}" d="{}"/><path class="lead" d="M{:.0f} {:.1f}L{:.0f} {:.1f}"/>)"
        R"(<text class="{}" x="{:.0f}" y="{:.1f}">{}</text>)",
        what, path, kRight + 3, y(lines[i].last()), kRight + 16, at[i], what, kRight + 20,
        at[i] + 4, html(cut(lines[i].name, 18)));
  }
  return fmt::format(
      R"(<svg class="norms" viewBox="0 0 760 {:.0f}" role="img" aria-label="Norms of the models and )"
      R"(of the result over the layers; the numbers follow as a table">{}</svg>)",
      bottom + 44, text);
}

}  // namespace thorns
