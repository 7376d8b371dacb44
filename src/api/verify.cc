// thorns::verify: a finished folder read again and held against its manifest, and where the inputs
// are at hand, made again and held against what comes out.
#include "thorns/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "api/repositories.h"
#include "api/requests.h"
#include "base/disk_resume.h"
#include "base/hash.h"
#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/weights_file.h"
#include "engine/engine.h"
#include "output/comparison.h"
#include "output/config_files.h"
#include "output/manifest.h"
#include "output/manifest_check.h"
#include "plan/part.h"
#include "recipe/binder.h"

namespace thorns {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;
// Of the manifest's size: its text, JSON and fields, of this one and the one it is held against.
constexpr std::uint64_t kManifestMemory = 8;
constexpr int kDeepest = 8;  // folders within folders, when files that are too many are listed

using Kind = ResumableDisk::Kind;

// Passes on what the engine tells, after what has been done already.
class Continued : public Observer {
 public:
  Continued(Observer& observer, Progress before)
      : observer_(observer), before_(std::move(before)) {}
  void progress(const Progress& now) override {
    Progress whole = now;
    whole.bytes_done += before_.bytes_done;
    whole.bytes_total = before_.bytes_total;
    observer_.progress(whole);
  }
  bool cancelled() override { return observer_.cancelled(); }

 private:
  Observer& observer_;
  Progress before_;
};

class Verifier {
 public:
  Verifier(Disk& disk, const VerifyOptions& options, Observer& observer)
      : disk_(disk),
        options_(options),
        folder_(located(disk, options.folder)),
        observer_(observer),
        manifest_(read_manifest(disk, folder_)) {}

  VerifyReport run() {
    report_.folder = options_.folder;
    report_.key = manifest_.key;
    report_.files = manifest_.files.size();
    report_.tensors = manifest_.tensors.size();
    for (const ManifestFile& file : manifest_.files) now_.bytes_total += file.size;
    PlanResult made;
    if (options_.remake) made = make_plan();
    for (const ManifestFile& file : manifest_.files) check_file(file);
    check_tensors();
    std::set<std::string> known = {kManifestFile};
    for (const ManifestFile& file : manifest_.files) known.insert(file.name);
    list_extra("", known, kDeepest);
    check_key();
    if (options_.remake) remake(made);
    std::stable_sort(
        report_.problems.begin(), report_.problems.end(),
        [](const VerifyProblem& a, const VerifyProblem& b) { return a.check < b.check; });
    return report_;
  }

 private:
  void complain(const std::string& file, const std::string& tensor, std::string message) {
    report_.problems.push_back({VerifyCheck::Files, file, tensor, std::move(message)});
  }
  void complain_of_recipe(const std::string& tensor, std::string message) {
    report_.problems.push_back({VerifyCheck::Recipe, kManifestFile, tensor, std::move(message)});
  }

  // ---------------------------------------------------------------- files

  void check_file(const ManifestFile& listed) {
    try {
      path_within(disk_, folder_, listed.name);
    } catch (const Error&) {
      // Bytes would be vouched for that are not in the folder.
      return complain(listed.name, "", "is a link to a file outside of the folder");
    }
    std::unique_ptr<ReadFile> file;
    try {
      file = disk_.open(join_path(folder_, listed.name));
    } catch (const Error& error) {
      if (error.code() == ErrorCode::NotFound) return complain(listed.name, "", "is missing");
      if (error.code() == ErrorCode::Unsupported) return complain(listed.name, "", "is no file");
      throw;
    }
    if (file->size() != listed.size) {
      return complain(
          listed.name, "",
          fmt::format("has {} bytes; it was written with {}", file->size(), listed.size));
    }
    Sha256 hash;
    std::vector<std::byte> piece(kPiece);
    for (std::uint64_t at = 0; at < listed.size; at += piece.size()) {
      if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, listed.size - at)));
      file->read(at, piece);
      hash.update(piece);
      now_.bytes_done += piece.size();
      now_.tensor = listed.name;
      observer_.progress(now_);
    }
    report_.bytes_read += listed.size;
    if (const std::string found = hash.hex(); found != listed.sha256) {
      complain(listed.name, "",
               fmt::format("has other bytes than were written: SHA-256 {}, written with {}", found,
                           listed.sha256));
    }
  }

  // A manifest that was changed to fit changed files does not fit their headers, unless those were
  // changed too.
  void check_tensors() {
    if (!report_.problems.empty()) return;  // what cannot be read or was replaced
    std::map<std::string, std::unique_ptr<TensorSource>> shards;
    std::uint64_t stored = 0;
    for (const ManifestTensor& tensor : manifest_.tensors) {
      auto& shard = shards[tensor.file];
      if (!shard) {
        try {
          shard = open_weights(disk_, join_path(folder_, tensor.file));
        } catch (const Error& error) {
          if (error.code() != ErrorCode::Corrupt) throw;
          return complain(tensor.file, "", "cannot be read: " + error.message());
        }
        stored += shard->tensors().size();
      }
      const auto at = shard->find(tensor.name);
      if (!at) {
        complain(tensor.file, tensor.name, "is not in the file");
        continue;
      }
      const TensorInfo& found = shard->tensors()[*at];
      if (found.dtype != tensor.dtype || found.shape != tensor.shape) {
        complain(tensor.file, tensor.name,
                 fmt::format("is {} {}; the manifest has {} {}", to_string(found.dtype),
                             shape_text(found.shape), to_string(tensor.dtype),
                             shape_text(tensor.shape)));
      }
    }
    if (report_.problems.empty() && stored != manifest_.tensors.size()) {
      complain(
          kManifestFile, "",
          fmt::format("lists {} tensors; its files hold {}", manifest_.tensors.size(), stored));
    }
  }

  void list_extra(const std::string& within, const std::set<std::string>& known, int deeper) {
    const std::string folder = within.empty() ? folder_ : join_path(folder_, within);
    for (const std::string& name : disk_.list(folder)) {
      const std::string relative = within.empty() ? name : join_path(within, name);
      if (known.contains(relative)) continue;
      // Links are followed no further.
      if (deeper > 0 && resumable(disk_)->kind(join_path(folder_, relative)) == Kind::Folder) {
        list_extra(relative, known, deeper - 1);
      } else {
        report_.extra.push_back(relative);
      }
    }
  }

  // ---------------------------------------------------------------- recipe and tensors

  // What the manifest says of its recipe, as far as it can be told without the inputs.
  void check_key() {
    KeyReport key;
    try {
      key = read_key(manifest_.key);
    } catch (const Error& error) {
      return complain_of_recipe("", "has a key that cannot be read: " + error.message());
    }
    if (key.canonical != manifest_.key) {
      complain_of_recipe("", fmt::format("has the key `{}`, whose canonical form is `{}`",
                                         manifest_.key, key.canonical));
    }
    const auto check_names = [&](const char* what, const auto& inputs, const auto& names) {
      for (const auto& input : inputs) {
        if (std::find(names.begin(), names.end(), input.name) != names.end()) continue;
        complain_of_recipe(
            "", fmt::format("lists the {} `{}`, which its key does not name", what, input.name));
      }
    };
    check_names("model", manifest_.leaves, key.models);
    check_names("adapter", manifest_.adapters, key.adapters);
  }

  // The plan that the manifest's recipe and settings make of the inputs as they are now.
  PlanResult make_plan() const {
    Recipe recipe = bind_key(disk_, manifest_.key, bindings(options_.inputs));
    RecipeSettings& settings = recipe.settings;
    settings.name = manifest_.settings.name;
    settings.dtype = output_dtype(manifest_.settings.dtype);
    settings.shard_size = manifest_.settings.shard_size;
    settings.tokenizer = manifest_.settings.tokenizer;
    settings.vocabulary = manifest_.settings.vocabulary;
    settings.prompt = manifest_.settings.prompt;
    settings.license = manifest_.settings.license;
    PlanOptions plan;
    const std::uint64_t manifest = disk_.stat(join_path(folder_, kManifestFile)).size;
    plan.memory = options_.memory - std::min(options_.memory, kManifestMemory * manifest);
    plan.threads = thread_count(options_.threads);
    PlanResult made = thorns::make_plan(disk_, std::move(recipe), plan);
    for (const Error& problem : made.problems) {
      // Names that lead nowhere and a low ceiling are no fault of the folder.
      if (exit_code(problem.code()) == 2 || problem.code() == ErrorCode::NoSpace) {
        throw Error(problem);
      }
    }
    return made;
  }

  void remake(PlanResult& made) {
    for (const Error& problem : made.problems) {
      complain_of_recipe("", "has a recipe that cannot be made any more: " + problem.message());
    }
    if (!made.problems.empty()) return;
    Plan& plan = made.plan;
    const auto differences = recipe_differences(disk_, manifest_, plan);
    for (const auto& [tensor, message] : differences) complain_of_recipe(tensor, message);
    if (differences.empty()) check_configuration(plan);
    if (options_.sample) keep_only(plan, spread(*options_.sample, plan.programs.size()));
    now_.bytes_total = now_.bytes_done + plan.bytes_read + plan.bytes_out;
    Continued continued(observer_, now_);
    Comparison comparison(disk_, folder_, plan);
    // Where the merge allowed NaN and infinities they are in the folder, too.
    const EngineFacts facts = thorns::run(plan, comparison, continued, {true});
    report_.bytes_read += facts.bytes_read + comparison.bytes_read();
    report_.remade = comparison.compared();
    if (differences.empty()) {
      for (const auto& [tensor, message] : number_differences(manifest_, plan, comparison.facts()))
        complain_of_recipe(tensor, message);
    }
    if (comparison.first()) complain_of_difference(comparison);
  }

  // A forged config.json has a forged hash in the manifest.
  void check_configuration(const Plan& plan) {
    const auto text = config_text(plan);
    const std::string path = join_path(folder_, kConfigFile);
    const bool said =
        std::any_of(report_.problems.begin(), report_.problems.end(),
                    [](const VerifyProblem& problem) { return problem.file == kConfigFile; });
    if (!text || said) return;
    if (disk_.stat(path).size == text->size() && read_text(disk_, path, text->size()) == *text) {
      return;
    }
    report_.problems.push_back(
        {VerifyCheck::Recipe, kConfigFile, "", "is not the configuration that the recipe makes"});
  }

  void complain_of_difference(const Comparison& comparison) {
    const TensorDifference& first = *comparison.first();
    report_.problems.push_back(
        {VerifyCheck::Tensors, first.file, first.tensor,
         fmt::format("has {} as element {}; the recipe makes {} ({} of {} tensors differ)",
                     first.stored, first.element, first.made, comparison.differing(),
                     comparison.compared()),
         first.element});
  }

  Disk& disk_;
  const VerifyOptions& options_;
  std::string folder_;  // of the files; options_.folder is how the caller called it
  Observer& observer_;
  Manifest manifest_;
  Progress now_;
  VerifyReport report_;
};

}  // namespace

const char* to_string(VerifyCheck check) {
  switch (check) {
    case VerifyCheck::Files:
      return "files";
    case VerifyCheck::Recipe:
      return "recipe";
    case VerifyCheck::Tensors:
      return "tensors";
  }
  return "";
}

VerifyReport verify(const VerifyOptions& options, Observer& observer) {
  return Verifier(real_disk(), options, observer).run();
}

}  // namespace thorns
