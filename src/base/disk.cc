#include "base/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/vfs.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/descriptors.h"
#include "base/disk_links.h"
#include "base/disk_resume.h"
#include "base/mapping.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// One system call moves at most this much (Linux stops at 2^31 - 4096 anyway).
constexpr std::size_t kMostPerCall = std::size_t{1} << 30;

// The error that belongs to errno; `doing` is a verb phrase: "open", "write to".
[[noreturn]] void fail(int number, const char* doing, const std::string& path) {
  const std::string message = fmt::format("cannot {} `{}`: {}", doing, path, std::strerror(number));
  const Where where = FilePlace{path};
  switch (number) {
    case ENOENT:
    case ENOTDIR:
      throw Error(ErrorCode::NotFound, message, where);
    case EEXIST:
    case ENOTEMPTY:
      throw Error(ErrorCode::Exists, message, where);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      throw Error(ErrorCode::NoSpace, message, where, "free space on that disk, or choose another");
    case EMFILE:
    case ENFILE:
      throw Error(ErrorCode::Io, message, where, "raise the limit of open files (ulimit -n)");
    case ELOOP:
      throw Error(ErrorCode::Io, message, where,
                  "a link is in its place, or links lead in a circle: remove it");
    case EROFS:
    case EACCES:
    case EPERM:
      throw Error(ErrorCode::Io, message, where, "check the permissions of the folder");
    default:
      throw Error(ErrorCode::Io, message, where);
  }
}

int open_retrying(const char* path, int flags, mode_t mode = 0) {
  for (;;) {
    const int number = ::open(path, flags | O_CLOEXEC, mode);
    if (number >= 0) return number;
    if (errno == EINTR) continue;
    // Files that are only kept open for the next read make room.
    if (errno != EMFILE || !read_descriptors().close_one()) return -1;
  }
}

// A file's descriptor, and by what it is known again.
std::pair<Descriptor, FileStamp> open_to_read(const std::string& path) {
  // Without O_NONBLOCK a pipe in a stranger's folder would be waited for without end.
  Descriptor descriptor(open_retrying(path.c_str(), O_RDONLY | O_NONBLOCK));
  if (descriptor.get() < 0) fail(errno, "open", path);
  struct ::stat info {};
  if (::fstat(descriptor.get(), &info) != 0) fail(errno, "look at", path);
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}` is not a file", path), FilePlace{path});
  }
  return {std::move(descriptor), FileStamp(info)};
}

class RealReadFile : public ReadFile {
 public:
  explicit RealReadFile(const std::string& path) : RealReadFile(path, open_to_read(path)) {}
  ~RealReadFile() override { read_descriptors().forget(this); }
  RealReadFile(const RealReadFile&) = delete;
  RealReadFile& operator=(const RealReadFile&) = delete;

  void read(std::uint64_t offset, std::span<std::byte> to) const override {
    const auto descriptor = get();
    std::size_t done = 0;
    while (done < to.size()) {
      const std::size_t want = std::min(to.size() - done, kMostPerCall);
      const ssize_t got =
          ::pread(descriptor->get(), to.data() + done, want, static_cast<off_t>(offset + done));
      if (got < 0) {
        if (errno == EINTR) continue;
        fail(errno, "read", path_);
      }
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    require_unchanged(*descriptor);
    if (done < to.size()) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("`{}` ends at byte {}, {} bytes before it should", path_,
                              offset + done, to.size() - done),
                  FilePlace{path_, offset + done}, "the file was cut short; fetch it again");
    }
  }

  std::unique_ptr<FilePart> map(std::uint64_t offset, std::size_t bytes) const override {
    if (bytes == 0 || offset > size() || bytes > size() - offset) return nullptr;
    auto mapping = Mapping::make(get()->get(), offset, bytes);
    if (mapping == nullptr) return nullptr;
    return std::make_unique<Part>(*this, std::move(mapping));
  }

  void will_need(std::uint64_t offset, std::uint64_t bytes) const override {
    try {
      ::posix_fadvise(get()->get(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                      POSIX_FADV_WILLNEED);
    } catch (const Error&) {  // only advice: the read that follows reports what is wrong
    }
  }

  std::uint64_t size() const override { return static_cast<std::uint64_t>(stamp_.size); }
  const std::string& path() const override { return path_; }

 private:
  class Part : public FilePart {
   public:
    Part(const RealReadFile& file, std::unique_ptr<Mapping> mapping)
        : file_(file), mapping_(std::move(mapping)) {}
    std::span<const std::byte> bytes() const override { return mapping_->bytes(); }
    void require_intact() const override {
      file_.require_unchanged(*file_.get());
      if (mapping_->is_damaged()) fail(EIO, "read", file_.path_);
    }

   private:
    const RealReadFile& file_;
    std::unique_ptr<Mapping> mapping_;
  };

  RealReadFile(std::string path, std::pair<Descriptor, FileStamp> opened)
      : path_(std::move(path)), stamp_(opened.second) {
    read_descriptors().get(this, [&] { return std::move(opened.first); });
  }

  std::shared_ptr<const Descriptor> get() const {
    return read_descriptors().get(this, [&] {
      auto [descriptor, stamp] = open_to_read(path_);
      require_same(stamp);
      return std::move(descriptor);
    });
  }

  // What was read counts only if nobody has written meanwhile.
  void require_unchanged(const Descriptor& descriptor) const {
    struct ::stat info {};
    if (::fstat(descriptor.get(), &info) != 0) fail(errno, "look at", path_);
    require_same(FileStamp(info));
  }

  void require_same(const FileStamp& now) const {
    if (now == stamp_) return;
    const std::string sizes =
        now.size == stamp_.size
            ? std::string()
            : fmt::format(": it had {} bytes and has {} now", stamp_.size, now.size);
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` changed while it was in use{}", path_, sizes),
                FilePlace{path_}, "wait until nothing writes to it any more, then start again");
  }

  std::string path_;
  FileStamp stamp_;
};

class RealWriteFile : public WriteFile {
 public:
  RealWriteFile(int number, std::string path, std::uint64_t written = 0)
      : descriptor_(number), path_(std::move(path)), written_(written), started_(written) {}

  void append(std::span<const std::byte> bytes) override {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const std::size_t want = std::min(bytes.size() - done, kMostPerCall);
      const ssize_t put = ::write(descriptor_.get(), bytes.data() + done, want);
      if (put < 0) {
        if (errno == EINTR) continue;
        fail(errno, "write to", path_);
      }
      done += static_cast<std::size_t>(put);
    }
    written_ += bytes.size();
    start_writeback();
  }

  void finish() override {
    while (::fsync(descriptor_.get()) != 0) {
      if (errno != EINTR) fail(errno, "flush", path_);
    }
    if (::close(descriptor_.release()) != 0 && errno != EINTR) fail(errno, "close", path_);
  }

 private:
  // Starts the device early, so that the flush at the end has little left to do.
  void start_writeback() {
#ifdef __linux__
    constexpr std::uint64_t kWindow = std::uint64_t{8} << 20;
    if (written_ - started_ < kWindow) return;
    ::sync_file_range(descriptor_.get(), static_cast<off_t>(started_),
                      static_cast<off_t>(written_ - started_), SYNC_FILE_RANGE_WRITE);
    started_ = written_;
#endif
  }

  Descriptor descriptor_;
  std::string path_;
  std::uint64_t written_;
  std::uint64_t started_;  // of it, being brought to the device
};

class RealFileLock : public FileLock {
 public:
  explicit RealFileLock(int number) : descriptor_(number) {}

 private:
  Descriptor descriptor_;  // closing it gives the lock back
};

enum class LockAnswer { Granted, Held };

LockAnswer try_flock(int number, const std::string& path) {
  while (::flock(number, LOCK_EX | LOCK_NB) != 0) {
    switch (errno) {
      case EINTR:
        continue;
      case EWOULDBLOCK:
        return LockAnswer::Held;
      case ENOLCK:  // file systems without locks
      case ENOSYS:
      case EINVAL:
      case EOPNOTSUPP:
        return LockAnswer::Granted;
      default:
        fail(errno, "lock", path);
    }
  }
  return LockAnswer::Granted;
}

// Reserves the blocks without changing the size; file systems that cannot are none the worse. The
// errno of a disk that is too full, else 0.
int reserve(int number, std::uint64_t expected) {
#ifdef __linux__
  // Memory file systems would fill pages with zeros here, one thread's work for nothing.
  struct ::statfs system {};
  const bool in_memory = ::fstatfs(number, &system) == 0 &&
                         (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
  if (expected == 0 || in_memory) return 0;
  int result = 0;
  do {
    result = ::fallocate(number, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(expected));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return errno;
#else
  static_cast<void>(number);
  static_cast<void>(expected);
#endif
  return 0;
}

class RealDisk : public Disk, public ResumableDisk, public LinkingDisk {
 public:
  std::unique_ptr<ReadFile> open(const std::string& path) override {
    return std::make_unique<RealReadFile>(path);
  }

  std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t expected) override {
    // What a stranger put in the place of a file to be must not lead elsewhere.
    Descriptor descriptor(
        open_retrying(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
    if (descriptor.get() < 0) fail(errno, "create", path);
    if (const int number = reserve(descriptor.get(), expected); number != 0) {
      ::unlink(path.c_str());
      fail(number, "reserve space for", path);
    }
    return std::make_unique<RealWriteFile>(descriptor.release(), path);
  }

  std::unique_ptr<WriteFile> reopen(const std::string& path, std::uint64_t keep,
                                    std::uint64_t expected) override {
    Descriptor descriptor(open_retrying(path.c_str(), O_WRONLY | O_NOFOLLOW));
    if (descriptor.get() < 0) fail(errno, "open", path);
    struct ::stat info {};
    if (::fstat(descriptor.get(), &info) != 0) fail(errno, "look at", path);
    if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) < keep) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("`{}` ends before byte {}, up to which it was written", path, keep),
                  FilePlace{path});
    }
    // A file that has the size already keeps the space that is reserved beyond it.
    while (static_cast<std::uint64_t>(info.st_size) != keep &&
           ::ftruncate(descriptor.get(), static_cast<off_t>(keep)) != 0) {
      if (errno != EINTR) fail(errno, "shorten", path);
    }
    if (::lseek(descriptor.get(), static_cast<off_t>(keep), SEEK_SET) < 0) {
      fail(errno, "write to", path);
    }
    if (const int number = reserve(descriptor.get(), expected); number != 0) {
      fail(number, "reserve space for", path);
    }
    return std::make_unique<RealWriteFile>(descriptor.release(), path, keep);
  }

  Kind kind(const std::string& path) override {
    struct ::stat info {};
    if (::lstat(path.c_str(), &info) == 0) {
      return S_ISREG(info.st_mode)   ? Kind::File
             : S_ISDIR(info.st_mode) ? Kind::Folder
                                     : Kind::Other;
    }
    if (errno == ENOENT || errno == ENOTDIR) return Kind::None;
    fail(errno, "look at", path);
  }

  std::int64_t modified(const std::string& path) override {
    struct ::stat info {};
    if (::stat(path.c_str(), &info) != 0) fail(errno, "look at", path);
    return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  }

  std::uint64_t occupied(const std::string& path) override {
    struct ::stat info {};
    if (::stat(path.c_str(), &info) != 0) fail(errno, "look at", path);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }

  bool exists(const std::string& path) override {
    struct ::stat info {};
    if (::lstat(path.c_str(), &info) == 0) return true;
    // What cannot be there, and what nobody may see; anything else leaves it open.
    for (const int absent : {ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, EACCES}) {
      if (errno == absent) return false;
    }
    fail(errno, "look at", path);
  }

  FileStat stat(const std::string& path) override {
    struct ::stat info {};
    if (::stat(path.c_str(), &info) != 0) fail(errno, "look at", path);
    return {static_cast<std::uint64_t>(info.st_size), S_ISDIR(info.st_mode)};
  }

  std::vector<std::string> list(const std::string& folder) override {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(folder.c_str()), ::closedir);
    if (!stream) fail(errno, "list", folder);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream.get());
      if (entry == nullptr) {
        if (errno != 0) fail(errno, "list", folder);
        break;
      }
      std::string name = static_cast<const char*>(entry->d_name);
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  void make_folder(const std::string& path) override {
    if (::mkdir(path.c_str(), 0755) != 0) fail(errno, "make the folder", path);
  }

  void make_link(const std::string& target, const std::string& path) override {
    if (::symlink(target.c_str(), path.c_str()) != 0) fail(errno, "make the link", path);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(errno, "move into place", to);
  }

  bool exchange(const std::string& one, const std::string& other) override {
#ifdef RENAME_EXCHANGE
    if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0) {
      return true;
    }
    for (const int unable : {EINVAL, ENOSYS, EOPNOTSUPP}) {
      if (errno == unable) return false;
    }
    fail(errno, "exchange what is new with", other);
#else
    static_cast<void>(one);
    static_cast<void>(other);
    return false;
#endif
  }

  void remove_all(const std::string& path) override {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) fail(code.value(), "remove", path);
  }

  void sync_folder(const std::string& path) override {
    const Descriptor descriptor(open_retrying(path.c_str(), O_RDONLY | O_DIRECTORY));
    if (descriptor.get() < 0) fail(errno, "open", path);
    while (::fsync(descriptor.get()) != 0) {
      // Some file systems know no flush of folders; their renames are as safe as they get.
      if (errno == EINVAL || errno == ENOTSUP) return;
      if (errno != EINTR) fail(errno, "flush", path);
    }
  }

  std::string canonical(const std::string& path) override {
    std::error_code code;
    // Absolute first: a relative path would be resolved only as far as its first folder exists.
    std::string result =
        std::filesystem::weakly_canonical(std::filesystem::absolute(path), code).string();
    if (code) result = std::filesystem::path(path).lexically_normal().string();
    while (result.size() > 1 && result.ends_with('/')) result.pop_back();
    return result;
  }

  void require_writable(const std::string& folder) override {
    if (::access(folder.c_str(), W_OK | X_OK) != 0) fail(errno, "write to", folder);
  }

  std::uint64_t free_space(const std::string& folder) override {
    struct ::statvfs info {};
    if (::statvfs(folder.c_str(), &info) != 0) fail(errno, "look at", folder);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  }

  std::unique_ptr<FileLock> lock(const std::string& path) override {
    for (;;) {
      Descriptor descriptor(open_retrying(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW, 0644));
      if (descriptor.get() < 0) fail(errno, "lock", path);
      if (try_flock(descriptor.get(), path) == LockAnswer::Held) return nullptr;
      // The holder before us may have removed the file between our open and our lock; a lock on a
      // file that nobody can find any more keeps nobody out.
      struct ::stat held {};
      struct ::stat found {};
      if (::fstat(descriptor.get(), &held) != 0) fail(errno, "look at", path);
      if (::stat(path.c_str(), &found) == 0 && held.st_dev == found.st_dev &&
          held.st_ino == found.st_ino) {
        return std::make_unique<RealFileLock>(descriptor.release());
      }
    }
  }
};

}  // namespace

std::unique_ptr<FileLock> Disk::lock(const std::string& /*path*/) {
  return std::make_unique<FileLock>();
}

ResumableDisk* resumable(Disk& disk) { return dynamic_cast<ResumableDisk*>(&disk); }
LinkingDisk* linking(Disk& disk) { return dynamic_cast<LinkingDisk*>(&disk); }

Disk& real_disk() {
  static RealDisk disk;
  return disk;
}

std::string read_text(Disk& disk, const std::string& path, std::uint64_t limit) {
  const auto file = disk.open(path);
  if (file->size() > limit) {
    throw Error(
        ErrorCode::Corrupt,
        fmt::format("`{}` has {} bytes; at most {} are expected", path, file->size(), limit),
        FilePlace{path});
  }
  std::string text(file->size(), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void write_text(Disk& disk, const std::string& path, const std::string& content) {
  const auto file = disk.create(path, content.size());
  file->append(std::as_bytes(std::span(content)));
  file->finish();
}

std::string join_path(const std::string& folder, const std::string& name) {
  if (folder.empty()) return name;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

std::string parent_path(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return path.empty() ? "." : "/";
  const std::size_t slash = path.find_last_of('/', last);
  if (slash == std::string::npos) return ".";
  const std::size_t end = path.find_last_not_of('/', slash);
  return end == std::string::npos ? "/" : path.substr(0, end + 1);
}

std::string base_name(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return {};
  const std::size_t slash = path.find_last_of('/', last);
  return path.substr(slash == std::string::npos ? 0 : slash + 1,
                     last - (slash == std::string::npos ? std::size_t{0} : slash + 1) + 1);
}

}  // namespace thorns
