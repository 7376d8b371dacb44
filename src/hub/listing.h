// What the Hub's API says of a repository. Its answers are a stranger's: names that could leave a
// folder, hashes that are none, sizes and counts without bound are refused.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thorns {

struct HubFile {
  std::string name;  // relative, parts separated by /
  std::uint64_t size = 0;
  // 64 hexadecimal digits: the SHA-256 of a file in large file storage. 40: the SHA-1 of a Git
  // blob, which is the header "blob SIZE\0" and the file.
  std::string hash;
};

struct HubListing {
  std::string commit;
  std::vector<HubFile> files;  // by name
};

// The commit in the answer to /api/models/ID/revision/REVISION. `place` names the answer in errors,
// which are Corrupt.
std::string read_commit(const std::string& answer, const std::string& place);

// Adds the files in one page of the answer to /api/models/ID/tree/COMMIT?recursive=true.
void read_tree_page(const std::string& answer, const std::string& place,
                    std::vector<HubFile>& files);
// Puts the files of all pages in order; a name that stands twice is Corrupt.
void sort_tree(std::vector<HubFile>& files, const std::string& place);

// The URL of the next page in a `Link` header (RFC 8288: <url>; rel="next"); empty where there is
// none.
std::string next_page(const std::string& link_header);

}  // namespace thorns
