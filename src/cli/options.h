// The options of one verb, declared with CLI11: one line each with its name, its value, what it is
// for and what it does with the value. Errors are in this program's words.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace thorns::cli {

// Throws BadUsage.
[[noreturn]] void refuse(const std::string& message, const std::string& hint = {});

// Declares options on an app. The targets must outlive the parse.
class OptionTable {
 public:
  using Setter = std::function<void(const std::string& value)>;

  explicit OptionTable(CLI::App& app) : app_(app) {}

  // The heading in the help under which the next options stand.
  void group(const std::string& heading) { heading_ = heading; }
  void positional(const std::string& name, const std::string& help, std::string& target);
  // All words that are no options, one or more.
  void positionals(const std::string& name, const std::string& help,
                   std::vector<std::string>& target);
  // `names` as CLI11 takes them: "-o,--output". BadUsage where it is given twice.
  CLI::Option* once(const std::string& names, const std::string& value, const std::string& help,
                    Setter set);
  void repeated(const std::string& names, const std::string& value, const std::string& help,
                Setter add);
  void flag(const std::string& names, const std::string& help, bool& target);

 private:
  CLI::Option* add(const std::string& names, const std::string& value, const std::string& help,
                   CLI::callback_t callback);

  CLI::App& app_;
  std::string heading_ = "Options";
};

// "--output" for the option declared as "-o,--output".
std::string shown_name(const CLI::Option& option);

// Parses what stands behind the verb. Throws BadUsage; CLI::CallForHelp where help is asked for.
void parse(CLI::App& app, std::vector<std::string> arguments);

}  // namespace thorns::cli
