//! Certificates, keys and tokens: read from files, and again while the process runs, since they expire.
//!
//! What is wrong with a file is said once, and until it is right the last good content stays in use.

pub mod pem;

use std::fmt::{self, Debug};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A bundle of all certificate authorities of the web takes a quarter.
const LONGEST_FILE: u64 = 1 << 20;

/// What is wrong with a file; the content is never told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    key: &'static str,
    path: Option<PathBuf>,
    rule: String,
}

impl FileError {
    /// The file of the configuration key `key` breaks `rule`.
    pub fn new(key: &'static str, rule: impl Into<String>) -> Self {
        Self { key, path: None, rule: rule.into() }
    }

    /// The same with the path of the file, which is one of `files`.
    fn among(self, files: &[Named]) -> Self {
        let file = files.iter().find(|file| file.key == self.key);
        Self { path: file.map(|file| file.path.clone()), ..self }
    }
}

/// `KEY: PATH: rule`
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.rule)
    }
}

/// A file that a configuration key names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The dotted key.
    pub key: &'static str,
    /// Its value.
    pub path: PathBuf,
}

/// Something that files hold and that can change.
pub trait Reload: Debug + Send + Sync {
    /// Looks at the files; whether what they hold has changed.
    ///
    /// # Errors
    /// What is wrong with them. The last good content stays in use.
    fn reload(&self) -> Result<bool, FileError>;
}

/// The `T` that a few files hold.
pub struct Reloaded<T> {
    files: Vec<Named>,
    make: Make<T>,
    /// Held for a look at it, or for a glance at the files; whoever uses a `T` has a handle of its own.
    content: Mutex<Content<T>>,
}

/// Makes a `T` of the files' bytes, in the order of the files.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync>;

struct Content<T> {
    bytes: Vec<Vec<u8>>,
    made: Arc<T>,
}

impl<T> Reloaded<T> {
    /// Reads `files` for the first time and makes a `T` of what they hold.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        files: Vec<Named>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let bytes = read_all(&files).map_err(|error| error.among(&files))?;
        let made = Arc::new(make(&bytes).map_err(|error| error.among(&files))?);
        Ok(Self { files, make: Box::new(make), content: Mutex::new(Content { bytes, made }) })
    }

    /// What the files held when they were last right.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.content.lock().unwrap_or_else(PoisonError::into_inner).made)
    }
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn reload(&self) -> Result<bool, FileError> {
        let bytes = read_all(&self.files).map_err(|error| error.among(&self.files))?;
        if self.content.lock().unwrap_or_else(PoisonError::into_inner).bytes == bytes {
            return Ok(false);
        }
        let made = Arc::new((self.make)(&bytes).map_err(|error| error.among(&self.files))?);
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Content { bytes, made };
        Ok(true)
    }
}

impl<T> Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read_all(files: &[Named]) -> Result<Vec<Vec<u8>>, FileError> {
    files
        .iter()
        .map(|Named { key, path }| {
            let bytes =
                read(path).map_err(|error| FileError::new(key, format!("cannot be read: {error}")))?;
            let is_too_long = bytes.len() as u64 > LONGEST_FILE;
            if is_too_long { Err(FileError::new(key, "must be a file of at most 1 MiB")) } else { Ok(bytes) }
        })
        .collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &[Vec<u8>]) -> Result<usize, FileError> {
        let length = bytes.iter().map(Vec::len).sum();
        if length > 0 { Ok(length) } else { Err(FileError::new("a.file", "must not be empty")) }
    }

    #[test]
    fn files_are_read_again_and_what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let named = || vec![Named { key: "a.file", path: path.clone() }];
        let absent = Reloaded::new(named(), length).expect_err("absent").to_string();
        let told = |rule: &str| format!("a.file: {}: {rule}", path.display());
        assert!(absent.starts_with(&told("cannot be read: No such file")), "{absent}");
        fs::write(&path, "").expect("writes");
        let empty = Reloaded::new(named(), length).expect_err("empty").to_string();
        assert_eq!(empty, told("must not be empty"));

        fs::write(&path, "four").expect("writes");
        let reloaded = Reloaded::new(named(), length).expect("right");
        assert_eq!((*reloaded.current(), reloaded.reload()), (4, Ok(false)));
        fs::write(&path, "seven77").expect("writes");
        let before = reloaded.current();
        assert_eq!((reloaded.reload(), *reloaded.current(), *before), (Ok(true), 7, 4));

        fs::write(&path, "").expect("writes");
        let wrong = || reloaded.reload().expect_err("it is wrong").to_string();
        assert_eq!(wrong(), told("must not be empty"));
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).expect("writes");
        assert_eq!(wrong(), told("must be a file of at most 1 MiB"));
        fs::remove_file(&path).expect("removes");
        assert!(reloaded.reload().is_err());
        fs::create_dir(&path).expect("creates");
        assert_eq!(wrong(), told("cannot be read: not a regular file"));
        assert_eq!(*reloaded.current(), 7);
    }

    #[test]
    fn a_link_that_is_swapped_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        for (name, content) in [("old", "four"), ("new", "seven77")] {
            fs::create_dir(place(name)).expect("creates");
            fs::write(place(name).join("file"), content).expect("writes");
        }
        // As secrets are mounted into pods: the file is a link into a directory that is a link.
        std::os::unix::fs::symlink("old", place("data")).expect("links");
        let file = Named { key: "a.file", path: place("data").join("file") };
        let reloaded = Reloaded::new(vec![file], length).expect("right");
        std::os::unix::fs::symlink("new", place("data_next")).expect("links");
        fs::rename(place("data_next"), place("data")).expect("renames");
        assert_eq!((reloaded.reload(), *reloaded.current()), (Ok(true), 7));
    }

    #[test]
    fn the_content_is_not_in_debug_output() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "hunter2").expect("writes");
        let make = |bytes: &[Vec<u8>]| Ok(bytes.concat());
        let reloaded = Reloaded::new(vec![Named { key: "a.file", path }], make).expect("right");
        let debug = format!("{reloaded:?}");
        assert!(!debug.contains("hunter2") && !debug.contains("104"), "{debug}");
    }
}
